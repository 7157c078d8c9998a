"""The adapter of ``docs/write-a-backbone.md``, as an installed package with an entry point."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import end, start
from wand.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "write-a-backbone.md"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files."""
    folder = tmp_path_factory.mktemp("parrot")
    for name, text in re.findall(r'```\w+ title="([\w.]+)"\n(.*?)```', PAGE.read_text(), re.DOTALL):
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def site(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the package is installed, apart from ours."""
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(package)], check=True)
    return target


def with_site(package: Path, site: Path, work: Callable[[], int]) -> tuple[int | None, str]:
    """Do something in a process that finds the package. Returns the exit status and the output."""
    with pytest.MonkeyPatch.context() as there:
        there.chdir(package)
        (status,) = end(start(_work, (site, work), [{}], package / "logs"))
    return status, (package / "logs" / "0.txt").read_text()


def _work(rank: int, site: Path, work: Callable[[], int]) -> int:
    sys.path.insert(0, str(site))
    return work()


def test_the_adapter_is_as_short_as_promised(package: Path) -> None:
    assert len((package / "wand_parrot.py").read_text().splitlines()) < 150


def test_it_is_found_by_name(site: Path) -> None:
    path = os.pathsep.join([str(site), str(PAGE.parents[1])])
    command = [sys.executable, "-m", "wand.cli", "backbones"]
    listed = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True)
    assert re.search(r"^Parrot +wand_parrot$", listed.stdout, re.MULTILINE)


def conformance() -> int:
    return pytest.main(["-q", "-p", "no:cacheprovider", "test_parrot.py"])


def test_it_passes_the_conformance_suite(package: Path, site: Path) -> None:
    status, said = with_site(package, site, conformance)
    assert status == 0, said
    assert int(re.search(r"(\d+) passed", said)[1]) >= 15  # type: ignore[index]


def shown_config() -> int:
    importlib.import_module("wand_parrot").Parrot().save_pretrained(Path("weights"))
    data = ["--data.source", "wand.demo.corpus.EspeakCorpus"]
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "parrot.yaml", "--print_config", *data])
    return int(stop.value.code or 0)


def test_a_config_names_it(package: Path, site: Path) -> None:
    """As far as the parser: the model is built from its weights."""
    status, said = with_site(package, site, shown_config)
    assert status == 0, said
    assert "wand_parrot.Parrot" in said
