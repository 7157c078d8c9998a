"""`wand prepare`, and what its ``--check`` says of damage."""

from __future__ import annotations

import pytest

from tests.workplace import DATA, Workplace
from wand.cli import main


def test_damage_is_found_by_a_check_and_mended_by_a_preparation(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAND_CACHE", str(workplace.folder / "own"))
    command = ["prepare", "--config", "quickstart", *workplace.fit]
    assert main([*command, "--check"]) == 2
    assert "no finished preparation of train" in capsys.readouterr().err
    assert main(command) == 0
    assert main([*command, "--check"]) == 0
    (shard,) = workplace.folder.glob("own/*/train-00000.safetensors")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    capsys.readouterr()
    assert main([*command, "--check"]) == 2
    printed = capsys.readouterr()
    assert f"shard {shard} is damaged" in printed.out
    assert printed.err.splitlines()[-1].startswith("wand: error: 1 of 3 shards")
    assert shard.read_bytes() != whole
    shard.unlink()
    assert main(command) == 0
    assert shard.read_bytes() == whole


def test_two_tasks_prepare_what_one_command_does(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def files(folder: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in workplace.folder.glob(f"{folder}/*/*") if path.is_file()}

    command = ["prepare", "--config", "quickstart", *workplace.fit, f"{DATA}.hours=0.004"]
    assert main([*command, "--data.cache_dir=one"]) == 0
    capsys.readouterr()
    assert main([*command, "--data.cache_dir=two", "--shard", "2/2"]) == 0
    said = capsys.readouterr().out
    assert "2 of 3 shards in " in said
    assert said.endswith("the first is train-00000.safetensors: the same command with --shard 1/2 makes it\n")
    assert main([*command, "--data.cache_dir=two", "--shard", "1/2"]) == 0
    assert "ready in two/" in capsys.readouterr().out
    assert len(files("one")) == 5
    assert files("one") == files("two")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "3/2"], "--shard 3/2: the tasks are 1/2 to 2/2"),
        (["--shard", "two"], "--shard two: write the task and the number of tasks, such as 2/8"),
        (["--shard", "1/2", "--check"], "--check reads the whole corpus: leave out --shard"),
    ],
)
def test_tasks_that_cannot_be_meant(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["prepare", "--config", "quickstart", *workplace.fit, *options]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"wand: error: {message}"
