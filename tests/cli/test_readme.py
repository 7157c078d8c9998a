"""Every command and snippet of the README runs (but the two `make` ones, which run the rest)."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.workplace import Workplace
from wand.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def wand_commands() -> list[list[str]]:
    return [command[1:] for command in commands() if command[0] == "wand"]


def test_readme_names_only_known_programs() -> None:
    assert {command[0] for command in commands()} == {"make", "wand", "tensorboard"}


@pytest.mark.parametrize("command", wand_commands(), ids=" ".join)
def test_command(run: Workplace, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if command[0] in ("fit", "validate", "test"):
        quiet = "--trainer.enable_progress_bar=false"
        if "last" in command:
            # The newest run is complete: resuming it has nothing left to do.
            assert main([*command, *run.fit]) == 0
        else:
            monkeypatch.chdir(run.folder if command[0] != "fit" else tmp_path)
            assert main([*command, *(run.fit if command[0] == "fit" else [quiet])]) == 0
    else:
        Path("texts.txt").write_text("one.\ntwo.\n")
        assert main([*command, "--max_seconds", "0.5"]) == 0


@pytest.mark.parametrize("snippet", blocks("python"))
def test_snippet(run: Workplace, snippet: str) -> None:
    names: dict[str, object] = {}
    exec(snippet, names)
    assert names["window"] == names["AttentionWindow"](8)  # type: ignore[operator]
