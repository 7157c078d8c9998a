"""Opening a codec or a recogniser draws no random numbers: a run may open them at any step, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from wand.assets import asset_folder
from wand.codecs import encodec
from wand.recognition.embedded import load_network


@pytest.mark.parametrize(
    "open_it",
    [
        pytest.param(lambda: encodec._open.__wrapped__(str(asset_folder("codec"))), id="codec"),
        pytest.param(lambda: load_network.__wrapped__(asset_folder("recogniser")), id="recogniser"),
    ],
)
def test_opening_draws_nothing(open_it: Callable[[], object]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    open_it()
    assert torch.equal(torch.rand(3), expected)
