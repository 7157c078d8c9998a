"""The help of the training commands: short, in order, and complete on request."""

from __future__ import annotations

import re

import pytest

from wand.cli import main
from wand.cli.parts.help import title

COMMANDS = ("fit", "validate", "test", "prepare")
OWN = ["Run", "Checkpoint", "Model", "Data", "Window curriculum", "Spoken validation sentences", "Test table"]
LIGHTNING = ["Trainer (Lightning)", "Best checkpoint (Lightning)", "Last checkpoint (Lightning)"]


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def shown(command: str, flag: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main([command, flag])
    assert stop.value.code == 0
    return capsys.readouterr().out


def sections(text: str) -> list[str]:
    return re.findall(r"^(\S.*):$", text, re.MULTILINE)


def options(text: str) -> dict[str, str]:
    """The text of every option, without what is put together from its type and default."""
    entries = re.split(r"^  (?=-)", text, flags=re.MULTILINE)[1:]
    made = {}
    for entry in entries:
        names, _, words = re.sub(r"\n\n.*", "", entry, flags=re.DOTALL).replace("\n", "  ", 1).partition("  ")
        made[names] = re.sub(r"\((required|type: .*|default: .*)\)$", "", " ".join(words.split())).strip()
    return made


@pytest.mark.parametrize("command", COMMANDS)
def test_wands_own_settings_fit_on_a_few_pages(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(command, "--help", capsys)
    # Classes of other tests that this process has imported are listed, too.
    assert re.sub(r"known subclasses:[^)]*", "", text).count("\n") <= 210
    assert text.startswith(f"usage: wand {command} [--config NAME] [options]\n")
    assert "--model.window" in text
    assert "--help_all" in text
    assert not re.search(r"--(trainer|checkpoint|last_checkpoint)\b", text)


@pytest.mark.parametrize("command", COMMANDS)
def test_sections_come_in_order(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    expected = [name for name in OWN if (name, command) != ("Checkpoint", "prepare")]
    short = sections(shown(command, "--help", capsys))
    assert [name for name in short if name in OWN] == expected
    assert not set(short) & set(LIGHTNING)
    full = sections(shown(command, "--help_all", capsys))
    assert full[: len(short)] == short
    assert [name for name in full if name in LIGHTNING] == LIGHTNING


@pytest.mark.parametrize("command", COMMANDS)
def test_everything_is_shown_on_request(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    short, full = (options(shown(command, flag, capsys)) for flag in ("--help", "--help_all"))
    assert short.items() <= full.items()
    added = "\n".join(set(full) - set(short))
    for name in ("--trainer.max_steps", "--checkpoint.monitor", "--last_checkpoint.every_n_train_steps", "--model "):
        assert name in added
    assert "--weights_only" not in "".join(full)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = options(shown(command, "--help", capsys))
    assert len(found) > 40
    for names, words in found.items():
        assert len(words.split()) > 2, names


def test_new_sections_have_titles() -> None:
    assert title("table") == "Test table"
    assert title("model.loss") == "Model: loss"
    assert title("new_section.below_it") == "New section: below it"
