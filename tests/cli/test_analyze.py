"""`wand analyze` on a run and on a pretrained model: its files, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cli.test_align import config_of
from tests.workplace import SHAPE, Workplace
from wand.attention import resolve_windows
from wand.cli import main
from wand.demo.coded import CodedCorpus
from wand.kv_cache.sizes import kv_bytes
from wand.runs.checkpoints import load_original


def test_the_original_model_of_a_run(run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = tmp_path / "run"
    shutil.copytree("runs/quickstart", copied)
    config = (copied / "config.yaml").read_text()
    long = config.replace(str(run.speech), str(CodedCorpus().folder))  # sentences that no window covers as a whole
    assert long != config
    (copied / "config.yaml").write_text(long)
    arguments = ["analyze", "--ckpt_path", str(copied), "--sentences", "2", "--coverage", "0.6", "--device", "cpu"]
    assert main(arguments) == 0
    folder = copied / "analysis"
    report = json.loads((folder / "coverage.json").read_text())
    assert (report["sentences"], report["seed"], report["split"]) == (2, 0, "validation")
    assert len(report["heads"]) == 4
    windows = report["windows"]
    assert [line["window"] for line in windows] == [8, 16, 32, 64, 128, 256]
    for line in windows:
        assert line["text"] + line["reference"] == pytest.approx(line["prefix"])
        own = [head["covered"][str(line["window"])] for head in report["heads"]]
        assert line["covered"] == pytest.approx(sum(own) / len(own))
        assert line["covered"] == pytest.approx(line["prefix"] + line["inside_of_generated"] * line["generated"])
    enough = [line["window"] for line in windows if line["covered"] >= 0.6]
    assert report["recommended_window"] == enough[0]
    chosen = report["choices"]
    assert chosen["by_layer"]["kv_bytes"] <= chosen["uniform"]["kv_bytes"]
    assert chosen["fewest"]["covered"] >= 0.6
    config = load_original(copied).decoder.config
    kept = [report["prefix_columns"] + size for size in chosen["by_layer"]["windows"]]
    assert chosen["by_layer"]["kv_bytes"] == kv_bytes(config, kept)
    for name, file in (("by_layer", "windows"), ("fewest", "windows-fewest")):
        found = resolve_windows(str(folder / f"{file}.yaml"), 2)
        assert [found.of(layer).size for layer in range(2)] == chosen[name]["windows"]
    assert (folder / "coverage.png").stat().st_size > 1000
    assert "| 256 |" in (folder / "coverage.md").read_text()
    board = EventAccumulator(str(folder)).Reload()
    assert {event.step for event in board.Scalars("coverage/mean")} == {8, 16, 32, 64, 128, 256}
    assert "coverage/heads" in board.Tags()["images"]
    assert f"Recommended window: {enough[0]}" in " ".join(capsys.readouterr().out.split())

    # The same seed says the same; nothing is recommended that covers too little, and no older windows stay.
    assert main([*arguments, "--coverage", "1"]) == 0
    again = json.loads((folder / "coverage.json").read_text())
    assert (again["heads"], again["recommended_window"]) == (report["heads"], None)
    assert sorted(path.name for path in folder.glob("windows*")) == []
    assert "none is recommended" in capsys.readouterr().out


def test_a_pretrained_model(workplace: Workplace, tmp_path: Path) -> None:
    config = config_of(tmp_path, pretrained=str(workplace.pretrained))
    assert main(["analyze", "--config", config, "--sentences", "1", "--split", "test"]) == 0
    assert Path("runs/analysis-EncodecLM/coverage.json").is_file()


def test_a_checkpoint_in_no_run_folder(run: Workplace, tmp_path: Path) -> None:
    lonely, out = tmp_path / "lonely.ckpt", tmp_path / "results"
    shutil.copy("runs/quickstart/checkpoints/best.ckpt", lonely)
    data = ["--config", "runs/quickstart/config.yaml", "--sentences", "1"]
    assert main(["analyze", "--ckpt_path", str(lonely), *data, "--out", str(out)]) == 0
    assert (out / "coverage.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lonely.ckpt", "results"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no model: give --ckpt_path RUN, or --config NAME"),
        (["--ckpt_path", "runs/none"], "no checkpoint at runs/none"),
        (["--ckpt_path", "of-a-student"], "of-a-student is the export of a student"),
        (["--ckpt_path", "runs/quickstart", "--coverage", "1.1"], "--coverage 1.1"),
        (["--ckpt_path", "runs/quickstart", "--sentences", "0"], "--sentences 0"),
        (["--ckpt_path", "runs/quickstart", "--split", "train"], "invalid choice: 'train'"),
        (["--ckpt_path", "lonely.ckpt"], "lonely.ckpt is in no run folder: give --out"),
        (["--config", "nothing.yaml"], "the config nothing.yaml names no pretrained weights"),
    ],
)
def test_what_cannot_be_measured_gets_one_line(
    run: Workplace, tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("nothing.yaml").write_text(Path(config_of(tmp_path, architecture=SHAPE)).read_text())
    shutil.copy("runs/quickstart/checkpoints/best.ckpt", "lonely.ckpt")
    Path("of-a-student").mkdir(exist_ok=True)  # other files of tests have an `exported` in this folder
    (Path("of-a-student") / "wand.json").write_text("{}")
    assert main(["analyze", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error
