"""What a command prints to go on with works."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.workplace import Workplace
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.cli import main
from wand.cli.parts.next_steps import next_steps
from wand.evaluation.quality import Take, won_back
from wand.moved import MOVED_MODULES, say_where
from wand.training.module import WandModule


class Silent(EncodecLM):
    """A model without a codec, as after `data.codec: null`."""

    def own_codec(self) -> None:  # type: ignore[override]
        return None


def printed(folder: Path, module: WandModule) -> list[list[str]]:
    """The commands, in words."""
    return [shlex.split(line) for line in next_steps(folder, module).splitlines() if line.startswith("  ")]


def test_the_commands_of_a_run_work(run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = WandModule(EncodecLM(pretrained=str(run.pretrained)), window=8)
    commands = printed(Path("runs/quickstart"), module)
    assert [command[1] for command in commands] == ["--logdir", "synthesize", "synthesize", "test", "export"]
    for command in commands[1:3]:
        command[-1] = str(tmp_path / "out.wav")
        assert main([*command[1:], "--max_seconds=0.2"]) == 0


def test_a_run_without_codec_or_teacher_gets_no_command_that_speaks(tmp_path: Path) -> None:
    shape = EncodecLMArchitecture(hidden_size=32, num_layers=1, num_heads=2, num_key_value_heads=1)
    silent = WandModule(Silent(architecture=shape), window=8, teacher=None)
    assert [command[1] for command in printed(tmp_path, silent)] == ["test", "export"]
    assert "no codec (data.codec)" in next_steps(tmp_path, silent)
    alone = WandModule(EncodecLM(architecture=shape), window=None, teacher=None)
    assert [command[1] for command in printed(tmp_path, alone)] == ["synthesize", "test"]
    assert "YOUR_VOICE.wav" in next_steps(tmp_path, alone), "no sample was written"


def test_paths_are_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my runs" / "it's one; really"
    (folder / "samples").mkdir(parents=True)
    (folder / "samples" / "0-reference.wav").touch()
    (folder / "events.out.tfevents.1").touch()
    shape = EncodecLMArchitecture(hidden_size=32, num_layers=1, num_heads=2, num_key_value_heads=1)
    board, speak, test, export = printed(folder, WandModule(EncodecLM(architecture=shape), window=8, teacher=None))
    run = "my runs/it's one; really"
    assert board == ["tensorboard", "--logdir", "my runs"]
    assert speak[speak.index("--ckpt_path") + 1] == test[test.index("--ckpt_path") + 1] == run
    assert speak[speak.index("--reference") + 1] == f"{run}/samples/0-reference.wav"
    assert export[export.index("--out") + 1] == f"{run}/export"


def test_prepare_takes_the_config_of_a_run(run: Workplace) -> None:
    assert main(["prepare", "--config", "runs/quickstart/config.yaml"]) == 0


def test_moved_modules_are_named() -> None:
    for old, new in MOVED_MODULES.items():
        message = say_where(f"x cannot be imported (No module named '{old}')")
        assert message == f"x cannot be imported (No module named '{old}'; it is now {new}: change the import)"
        assert say_where(message) == message
    assert say_where("No module named 'numpy'") == "No module named 'numpy'"


def test_an_adapter_of_an_older_version_is_told_where_its_import_is_now(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("old_adapter.py").write_text("from wand.backbone import Backbone\n")
    monkeypatch.syspath_prepend(str(workplace.folder))
    assert main(["fit", "--config", "quickstart", "--model.backbone=old_adapter.Mine"]) == 2
    assert "it is now wand.model.backbone: change the import" in capsys.readouterr().err


def take(name: str, wrong: int) -> Take:
    return Take(name, "a", 0, "", "", "stop token", 1.0, 1.0, wrong, 100, 0, 20)


def test_a_share_of_almost_nothing_is_not_given() -> None:
    names = [f"s{i}" for i in range(40)]
    teacher = [take(name, 5) for name in names]
    almost = [take(name, 5 + (i % 2) * 2 - (i % 2 == 0) * 2 + (i == 0)) for i, name in enumerate(names)]
    lost = [take(name, 25) for name in names]
    student = [take(name, 10) for name in names]
    assert won_back(teacher, almost, student) is None
    found = won_back(teacher, lost, student)
    assert found is not None
    assert found[0] == pytest.approx(0.75)
