"""`wand align` finds the head of the embedded voice, and none in a random model; what follows for long texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

import wand
from tests.runs.test_export import save_run
from tests.workplace import SHAPE, Workplace
from wand.backbones.encodec_lm import EncodecLM
from wand.cli import main
from wand.codecs.reference import Reference
from wand.demo.coded import CodedCorpus
from wand.model.alignment import AlignmentHead

REFERENCE = "runs/quickstart/samples/0-reference.wav"
LONG = "every word is heard, and another one is heard as well. " * 12


def config_of(folder: Path, **model: str | dict[str, int]) -> str:
    """A config with a few sentences of the speech that comes with wand."""
    source = {"hours": 0.01, "validation_sentences": 4, "test_sentences": 1}
    data = {"source": {"class_path": "wand.demo.coded.CodedCorpus", "init_args": source}, "workers": 0}
    backbone = {"class_path": "EncodecLM", "init_args": model}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({"model": {"backbone": backbone, "window": 32}, "data": data}))
    return str(file)


def test_the_head_of_the_embedded_voice_is_found_and_speaks_passages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = EncodecLM("embedded")
    voice.load_pretrained()
    voice.alignment_heads = (AlignmentHead(1, 1),)
    run = save_run(voice, tmp_path / "run", window=32)
    config = config_of(tmp_path)
    assert main(["align", "--ckpt_path", str(run), "--config", config, "--sentences", "3", "--device", "cpu"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The best head passes the threshold" in said
    assert f"Written to {run / 'alignment.json'}: head (4, 0). So long texts are spoken as passages." in said
    assert "Until now, its weights or its alignment.json have named head (1, 1)." in said
    record = json.loads((run / "alignment.json").read_text())
    assert record["alignment_heads"] == [[4, 0]]
    assert record["sentences"] == 3
    ranking = json.loads((run / "align/ranking.json").read_text())
    first = ranking["heads"][0]
    assert (first["layer"], first["head"]) == (4, 0)
    assert first["score"] > ranking["threshold"] + 0.2
    passing = {(one["layer"], one["head"]) for one in ranking["heads"] if one["score"] >= ranking["threshold"]}
    assert passing == {(4, 0), (3, 0), (2, 0), (1, 0)}  # those that the training of the voice has pulled to the text
    assert len(ranking["heads"]) == voice.decoder.config.num_hidden_layers * voice.decoder.config.num_attention_heads
    assert (run / "align/ranking.md").read_text().count("\n| ") == len(ranking["heads"]) + 2

    corpus = CodedCorpus(test_sentences=1)
    reference = Reference(corpus.codes(corpus.utterances("test")[0]).codes[:, :100])
    (speech,) = wand.load(run).generate("every word is heard.", reference)
    assert [word.text for word in speech.words] == ["every", "word", "is", "heard."]  # only passages know their words


def test_no_head_of_an_untrained_model_passes(
    run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "run"
    shutil.copytree("runs/quickstart", copied)
    assert main(["align", "--ckpt_path", str(copied), "--sentences", "2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "No head passes the threshold" in said
    assert f"Written to {copied / 'alignment.json'}: an empty list. So long texts are split." in said
    assert json.loads((copied / "alignment.json").read_text())["alignment_heads"] == []
    assert len(json.loads((copied / "align/ranking.json").read_text())["heads"]) == 4
    out = ["--reference", REFERENCE, "--out", str(tmp_path / "out.wav"), "--max_seconds", "0.1"]
    assert main(["synthesize", LONG, "--ckpt_path", str(copied), *out]) == 0
    assert "are not known (`wand align --ckpt_path RUN` looks for them)" in " ".join(capsys.readouterr().err.split())


def test_an_export_needs_the_data_of_a_config(
    run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "exported"
    assert main(["export", "--ckpt_path", "runs/quickstart", "--out", str(out)]) == 0
    assert main(["align", "--ckpt_path", str(out)]) == 2
    assert f"{out} names no data: give --config" in capsys.readouterr().err
    # A threshold that every head passes that goes forward at all.
    low = ["--threshold", "1e-9", "--sentences", "1", "--out", str(tmp_path / "ranking")]
    assert main(["align", "--ckpt_path", str(out), "--config", "runs/quickstart/config.yaml", *low]) == 0
    (head,) = wand.load(out).backbone.alignment_heads
    first = json.loads((tmp_path / "ranking/ranking.json").read_text())["heads"][0]
    assert (head.layer, head.head) == (first["layer"], first["head"])


def test_a_pretrained_model_is_ranked_and_nothing_is_noted(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["align", "--config", config_of(tmp_path, pretrained=str(workplace.pretrained)), "--sentences", "1"]) == 0
    )
    assert "Nothing is noted for a pretrained model" in capsys.readouterr().out
    assert sorted(path.name for path in Path("runs").rglob("*.*")) == ["ranking.json", "ranking.md"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no model: give --ckpt_path RUN, or --config NAME"),
        (["--ckpt_path", "runs/none"], "no checkpoint at runs/none"),
        (["--ckpt_path", "runs/quickstart", "--sentences", "0"], "--sentences 0"),
        (["--ckpt_path", "runs/quickstart", "--threshold", "2"], "--threshold 2"),
        (["--ckpt_path", "runs/quickstart", "--config", "lora"], "the config lora has no section 'data'"),
        (["--ckpt_path", "lonely.ckpt"], "lonely.ckpt is in no run folder"),
        (["--config", "nothing.yaml"], "the config nothing.yaml names no pretrained weights"),
        (["--config", "wrong.yaml"], "sentences"),
    ],
)
def test_what_cannot_be_ranked_gets_one_line(
    run: Workplace, tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("nothing.yaml").write_text(Path(config_of(tmp_path, architecture=SHAPE)).read_text())
    Path("wrong.yaml").write_text("data: {sentences: 3}\nmodel: {window: 8}\n")
    if not Path("lonely.ckpt").exists():
        Path("lonely.ckpt").symlink_to("runs/quickstart/checkpoints/last.ckpt")
    assert main(["align", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error
