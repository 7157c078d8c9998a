"""Damaged, foreign and malformed checkpoints, exports and pretrained folders get one line that names the file."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import wand
from tests.cli.test_errors import refused
from tests.runs.test_trust import SYNTHESIZE
from tests.workplace import Workplace
from wand.backbones.encodec_lm import EncodecLM
from wand.runs.checkpoints import read_checkpoint
from wand.runs.export import export

OTHERS = {
    "empty": b"",
    "half-a-zip": b"PK\x03\x04 half a file",
    "text": b"hello",
    "old-pickle": b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
    "pickle-of-code": b"cos\nsystem\n(S'touch it-ran'\ntR.",
}
CONTENTS: dict[str, Any] = {
    "weights-alone": {"weight": torch.zeros(2)},
    "state-dict-alone": {"state_dict": {"weight": torch.zeros(2)}},
    "lightning": {"state_dict": {}, "hyper_parameters": {"lr": 1}, "epoch": 1, "global_step": 1, "loops": {}},
    "settings-as-list": {"state_dict": {}, "hyper_parameters": [1]},
    "backbone-as-text": {"state_dict": {}, "hyper_parameters": {"backbone": "EncodecLM"}, "global_step": 1, "wand": {}},
    "list": [1, 2],
    "number": 3,
    "tensor": torch.zeros(3),
}


@pytest.fixture
def theirs(run: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a run."""
    shutil.copytree(run.folder / "runs" / "quickstart", tmp_path / "runs" / "theirs")
    monkeypatch.chdir(tmp_path)
    return Path("runs/theirs")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of a run's last checkpoint."""
    file = folder / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, file)


@pytest.mark.parametrize("kind", [*OTHERS, *CONTENTS, "cut"])
def test_what_is_no_checkpoint_is_refused_before_any_work(
    theirs: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = theirs / "checkpoints" / "last.ckpt"
    if kind == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif kind in OTHERS:
        file.write_bytes(OTHERS[kind])
    else:
        torch.save(CONTENTS[kind], file)
    for command in (["fit"], ["validate"], ["test"], SYNTHESIZE, ["benchmark"], ["export", "--out", "out"]):
        assert "last.ckpt" in refused([*command, "--ckpt_path", str(file)], capsys)
    with pytest.raises(ValueError, match=r"last\.ckpt"):
        wand.load(file)
    assert not Path("it-ran").exists()


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no-weights": lambda c: c.pop("state_dict"),
    "no-step": lambda c: c.pop("global_step"),
    "step-as-text": lambda c: c.update(global_step="4"),
    "no-wand": lambda c: c.pop("wand"),
    "no-digest": lambda c: c["wand"].pop("pretrained_digest"),
    "no-architecture": lambda c: c["hyper_parameters"]["backbone"].pop("architecture"),
    "architecture-as-list": lambda c: c["hyper_parameters"]["backbone"].update(architecture=[1]),
    "class-as-number": lambda c: c["hyper_parameters"]["backbone"].update(class_path=3),
    "weight-as-text": lambda c: c["state_dict"].update({"backbone.head": "x"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_that_lacks_something_is_refused_before_any_work(
    theirs: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(theirs, CHANGES[change])
    for command in (["fit"], ["validate"], SYNTHESIZE):
        assert "last.ckpt" in refused([*command, "--ckpt_path", str(theirs)], capsys)


MISFITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no-tensor": lambda c: c["state_dict"].pop("backbone.head"),
    "shape": lambda c: c["state_dict"].update({"backbone.head": torch.zeros(1)}),
    "unknown-setting": lambda c: c["hyper_parameters"].update(colour="red"),
    "no-setting-group": lambda c: c["hyper_parameters"].update(loss=None),
    "setting-as-text": lambda c: c["hyper_parameters"]["loss"].update(skew="much"),
    "window": lambda c: c["hyper_parameters"].update(window="wide"),
    "nan": lambda c: c["hyper_parameters"]["loss"].update(temperature=math.nan),
    "unknown-key": lambda c: c["hyper_parameters"]["backbone"]["architecture"].update(colour="red"),
    "size": lambda c: c["hyper_parameters"]["backbone"]["architecture"].update(hidden_size="32"),
}


@pytest.mark.parametrize("change", MISFITS)
def test_a_checkpoint_that_does_not_fit_is_refused(
    theirs: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(theirs, MISFITS[change])
    assert "last.ckpt" in refused([*SYNTHESIZE, "--ckpt_path", str(theirs)], capsys)


WRONG: list[Any] = [None, "32", -1, 0, 10**12, 1.5, math.nan, True, [1], {"a": 1}]


@pytest.mark.parametrize("key", ["hidden_size", "num_layers", "codec", "frame_rate", "num_codebooks", "front_end"])
def test_malformed_shapes_are_refused(tmp_path: Path, pretrained: Path, theirs: Path, key: str) -> None:
    """In the ``config.json`` of a pretrained folder and in the ``wand.json`` of an export."""
    export(theirs, tmp_path / "out")
    shutil.copytree(pretrained, tmp_path / "pretrained")
    about, config = tmp_path / "out" / "wand.json", tmp_path / "pretrained" / "config.json"
    description, shape = json.loads(about.read_text()), json.loads(config.read_text())
    for value in WRONG:
        if value in ("32",) and key == "codec":
            continue  # the name of a codec
        if (
            key == "frame_rate"
            and isinstance(value, (int, float))
            and not isinstance(value, bool)
            and 0 < value <= 16_000
        ):
            continue  # a rate
        config.write_text(json.dumps({**shape, key: value}))
        with pytest.raises(ValueError, match=r"config\.json"):
            EncodecLM(pretrained=str(tmp_path / "pretrained"))
        spec = {**description["backbone"], "architecture": {**description["backbone"]["architecture"], key: value}}
        about.write_text(json.dumps({**description, "backbone": spec}))
        with pytest.raises(ValueError, match=r"wand\.json"):
            wand.load(tmp_path / "out")


@pytest.mark.parametrize("key", ["backbone", "window", "files", "digest"])
@pytest.mark.parametrize("value", ["x", -1, 10**12, 1.5, True, ["a", 1], {"a": 1}], ids=repr)
def test_malformed_exports_are_refused(tmp_path: Path, theirs: Path, key: str, value: Any) -> None:
    export(theirs, tmp_path / "out")
    about = tmp_path / "out" / "wand.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), key: value}))
    with pytest.raises(ValueError, match=r"wand\.json|digest has changed") as error:
        wand.load(tmp_path / "out")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{" + '"a": {' * 5000 + "}" * 5001, "[" * 100_000, '{"a": NaN}'])
def test_what_is_no_description_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "wand.json").write_text(text)
    with pytest.raises(ValueError, match=r"wand\.json"):
        wand.load(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret"])
def test_an_export_reads_no_file_outside_its_folder(tmp_path: Path, theirs: Path, name: str) -> None:
    export(theirs, tmp_path / "out")
    about = tmp_path / "out" / "wand.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "files": [name]}))
    with pytest.raises(ValueError, match="leads out of its folder"):
        wand.load(tmp_path / "out")


@pytest.mark.parametrize("place", range(8))
def test_a_flipped_bit_anywhere_in_a_checkpoint_is_found(theirs: Path, tmp_path: Path, place: int) -> None:
    content = bytearray((theirs / "checkpoints" / "last.ckpt").read_bytes())
    # Spread over the records; the directory of the zip file is at the end.
    content[(2 * place + 1) * len(content) // 17] ^= 1 << place
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.ckpt is damaged"):
        read_checkpoint(damaged)
