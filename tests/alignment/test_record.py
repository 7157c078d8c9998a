"""Alignment heads come with released weights, stay in checkpoints and exports, and are replaced by a record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import wand
from tests.runs.test_export import save_run
from tests.workplace import SHAPE
from wand.alignment.record import RECORD, write_record
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.model.adapters import build_backbone
from wand.model.alignment import AlignmentHead
from wand.runs.checkpoints import load_backbone_and_settings
from wand.runs.export import export
from wand.training.module import WandModule


@pytest.fixture
def released(tmp_path: Path) -> EncodecLM:
    """A model whose weights name a head."""
    folder = tmp_path / "released"
    EncodecLM(architecture=EncodecLMArchitecture(**SHAPE)).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["alignment_heads"] == []
    (folder / "config.json").write_text(json.dumps({**config, "alignment_heads": [[1, 0]]}))
    made = EncodecLM(str(folder))
    made.load_pretrained()
    return made


def record(folder: Path, *heads: AlignmentHead) -> None:
    noted = EncodecLM(architecture=EncodecLMArchitecture(**SHAPE))
    noted.alignment_heads = heads
    write_record(folder, noted, {"threshold": 0.5})


def test_the_embedded_voice_names_a_head() -> None:
    assert EncodecLM("embedded").alignment_heads == ((4, 0),)


def test_heads_of_released_weights_stay_in_checkpoints_and_exports(released: EncodecLM, tmp_path: Path) -> None:
    run = save_run(released, tmp_path / "run")
    assert load_backbone_and_settings(run)[0].alignment_heads == ((1, 0),)
    assert export(run, tmp_path / "out").alignment_heads == ((1, 0),)
    assert wand.load(tmp_path / "out").backbone.alignment_heads == ((1, 0),)
    assert EncodecLM(str(tmp_path / "out")).alignment_heads == ((1, 0),)


def test_a_record_replaces_the_heads_and_goes_into_the_export(released: EncodecLM, tmp_path: Path) -> None:
    run = save_run(released, tmp_path / "run")
    record(run, AlignmentHead(0, 1))
    assert load_backbone_and_settings(run)[0].alignment_heads == ((0, 1),)
    assert wand.load(run / "checkpoints" / "best.ckpt").backbone.alignment_heads == ((0, 1),)
    export(run, tmp_path / "out")
    assert not (tmp_path / "out" / RECORD).exists()
    assert wand.load(tmp_path / "out").backbone.alignment_heads == ((0, 1),)
    record(tmp_path / "out")
    assert wand.load(tmp_path / "out").backbone.alignment_heads == ()


def test_older_specs_have_no_heads(released: EncodecLM) -> None:
    spec = released.spec()
    assert build_backbone(spec).alignment_heads == ((1, 0),)
    del spec["alignment_heads"]
    assert build_backbone(spec).alignment_heads == ()


def test_other_heads_do_not_make_another_model(released: EncodecLM) -> None:
    module = WandModule(released, window=8)
    stored = {"pretrained": None, "backbone": {**released.spec(), "alignment_heads": [[0, 0]]}}
    settings = {**module.settings.to_plain(), **stored}
    module.check_fit(settings, {name: tensor.shape for name, tensor in module.state_dict().items()})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"alignment_heads": [[2, 0]]}', r"alignment\.json: alignment_heads: \[2, 0\].*2 layers of 2 heads"),
        ('{"alignment_heads": [[0, -1]]}', "count both from 0"),
        ('{"alignment_heads": [[0]]}', "count both from 0"),
        ('{"alignment_heads": [0.5]}', "but must be list"),
        ("{}", "names no alignment_heads"),
        ("[", "is not JSON"),
    ],
)
def test_a_damaged_record_is_named(released: EncodecLM, tmp_path: Path, content: str, said: str) -> None:
    run = save_run(released, tmp_path / "run")
    (run / RECORD).write_text(content)
    with pytest.raises(ValueError, match=said):
        load_backbone_and_settings(run)


def test_released_weights_with_wrong_heads_are_refused(released: EncodecLM) -> None:
    assert released.pretrained is not None
    file = Path(released.pretrained) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "alignment_heads": [[7, 0]]}))
    with pytest.raises(ValueError, match="alignment_heads"):
        EncodecLM(str(file.parent))
