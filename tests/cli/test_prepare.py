"""`wand prepare`, and what its ``--check`` says of damage."""

from __future__ import annotations

import pytest

from tests.workplace import Workplace
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
