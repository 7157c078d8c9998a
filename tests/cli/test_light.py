"""What the command does before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wand.cli import main
from wand.version import __version__

HEAVY = ("torch", "lightning", "transformers", "jsonargparse", "numpy")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--help"], __version__), (["--version"], __version__), ([], __version__), (["backbones"], "EncodecLM")],
)
def test_answers_without_importing_anything_heavy(arguments: list[str], words: str) -> None:
    program = (
        f"import sys; from wand.cli import main; status = main({arguments!r}); "
        f"sys.exit(status or any(m in sys.modules for m in {HEAVY!r}))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert words in answer.stdout


def test_importing_wand_is_light() -> None:
    program = f"import sys, wand; sys.exit(any(m in sys.modules for m in {HEAVY!r}))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fitt"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'fitt'" in error
    assert "synthesize" in error


def test_backbones_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones"]) == 0
    assert "EncodecLM" in capsys.readouterr().out


def test_warns_of_the_other_wand(capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch) -> None:
    metadata = tmp_path / "Wand-0.6.13.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: Wand\nVersion: 0.6.13\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["backbones"]) == 0
    error = capsys.readouterr().err
    assert "ImageMagick" in error
    assert error.count("\n") == 1
