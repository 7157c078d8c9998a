"""The adapter of ``docs/write-a-backbone.md``, as an installed package with an entry point."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "write-a-backbone.md"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files."""
    folder = tmp_path_factory.mktemp("parrot")
    for name, text in re.findall(r'```\w+ title="([\w.]+)"\n(.*?)```', PAGE.read_text(), re.DOTALL):
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment in which the package is installed, apart from ours."""
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(package)], check=True)
    root = str(PAGE.parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), root]), "OMP_NUM_THREADS": "1"}


def test_the_adapter_is_as_short_as_promised(package: Path) -> None:
    assert len((package / "wand_parrot.py").read_text().splitlines()) < 150


def test_it_is_found_by_name(package: Path, installed: dict[str, str]) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "wand.cli", "backbones"], env=installed, check=True, capture_output=True, text=True
    )
    assert re.search(r"^Parrot +wand_parrot$", listed.stdout, re.MULTILINE)


def test_it_passes_the_conformance_suite(package: Path, installed: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_parrot.py"]
    result = subprocess.run(command, cwd=package, env=installed, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 15  # type: ignore[index]


def test_a_config_names_it(package: Path, installed: dict[str, str]) -> None:
    """As far as the parser: the model is built from its weights."""
    make = "from pathlib import Path; from wand_parrot import Parrot; Parrot().save_pretrained(Path('weights'))"
    subprocess.run([sys.executable, "-c", make], cwd=package, env=installed, check=True)
    command = [sys.executable, "-m", "wand.cli", "fit", "--config", "parrot.yaml", "--print_config"]
    data = ["--data.source", "wand.demo.corpus.EspeakCorpus"]
    shown = subprocess.run([*command, *data], cwd=package, env=installed, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "wand_parrot.Parrot" in shown.stdout
