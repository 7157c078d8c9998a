"""The device of the tests of this folder: the first GPU, or a CPU with ``pytest tests/cuda --device cpu``."""

from __future__ import annotations

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cuda", "cpu"), default="cuda", help="device of the tests in tests/cuda")


@pytest.fixture(scope="session", autouse=True)
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device. All tests that need a GPU are skipped without one."""
    chosen = request.config.getoption("--device", default="cuda")
    if chosen == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return torch.device(chosen, 0) if chosen == "cuda" else torch.device(chosen)
