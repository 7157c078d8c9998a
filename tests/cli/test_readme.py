"""Every command and snippet of the README runs (but the two `make` ones, which run the rest)."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.workplace import Workplace
from wand.attention import AttentionWindow
from wand.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def script(title: str) -> str:
    (found,) = re.findall(rf'```python title="{title}"\n(.*?)```', README, flags=re.DOTALL)
    return str(found)


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
        small = ["--trainer.enable_progress_bar=false", "--table.full.seeds=1", "--table.full.windows=[16]"]
        if "last" in command:
            # The newest run is complete: resuming it has nothing left to do.
            assert main([*command, *run.fit]) == 0
        else:
            monkeypatch.chdir(run.folder if command[0] != "fit" else tmp_path)
            assert main([*command, *(run.fit if command[0] == "fit" else small)]) == 0
    elif command[0] in ("align", "analyze"):
        shutil.copytree("runs/quickstart", tmp_path / "runs/quickstart")
        monkeypatch.chdir(tmp_path)
        assert main(command) == 0
    elif command[0] == "export":
        assert main(command) == 0
    elif command[0] == "benchmark":
        assert main([*command, "--seconds", "1", "--batch", "1", "--repeats", "1"]) == 0
    else:
        Path("texts.txt").write_text("one.\ntwo.\n")
        assert main([*command, "--max_seconds", "0.5"]) == 0


def test_a_student_is_exported_and_speaks(run: Workplace) -> None:
    exported, _ = blocks("python")
    if not Path("exported").exists():
        assert main(["export", "--ckpt_path", "runs/quickstart", "--out", "exported"]) == 0
    names: dict[str, Any] = {}
    exec(exported, names)
    assert names["model"].window == AttentionWindow(8)
    assert len(names["speech"].audio) > 0


def test_a_fit_in_python(workplace: Workplace) -> None:
    text = script("fit.py")
    small = {
        'pretrained="embedded"': f"pretrained={str(workplace.pretrained)!r}",
        "hours=1.6": "hours=0.02, validation_sentences=3, test_sentences=3",
        "max_epochs=1": "max_steps=2, logger=False, enable_progress_bar=False",
    }
    for shown, used in small.items():
        assert text.count(shown) == 1
        text = text.replace(shown, used)
    before = load_file(workplace.pretrained / "model.safetensors")
    names: dict[str, Any] = {}
    exec(text, names)
    assert names["trainer"].global_step == 2
    assert names["student"].window == AttentionWindow(32)
    after = names["backbone"].state_dict()
    assert any(not torch.equal(tensor.float(), after[name]) for name, tensor in before.items())
    written, rate = soundfile.read("student.wav")
    assert rate == names["codec"].sample_rate
    assert len(written) == len(names["speech"].audio) > 0


def test_a_loop_of_ones_own_trains_a_plain_model() -> None:
    _, loop = blocks("python")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=30, eos_token_id=None, **sizes))
    before = copy.deepcopy(model.state_dict())
    names: dict[str, Any] = {"model": model, "batches": [(torch.randint(0, 30, (2, 60)), 9)] * 2}
    exec(loop, names)
    assert names["spoken"].shape == (2, 9 + 50)
    assert any(not torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
