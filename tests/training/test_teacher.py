"""The teacher is frozen and stays in eval mode, whatever it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from tests.conftest import TINY
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.training.module import WandModule
from wand.training.teacher import COPY, build_teacher


def save_run(backbone: EncodecLM, folder: Path, window: int | None = None) -> Path:
    """A checkpoint of a run whose student is `backbone`."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    trainer.strategy.connect(WandModule(backbone, window=window, teacher=None))
    path = folder / "run" / "checkpoints" / "last.ckpt"
    trainer.save_checkpoint(path)
    return path


def test_a_copy_is_frozen_in_eval_mode_and_teaches_the_same(tiny_lm, random_batch):
    tiny_lm.train()
    teacher = build_teacher(COPY, tiny_lm).train()
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.modules())
    assert tiny_lm.training
    assert all(parameter.requires_grad for parameter in tiny_lm.parameters())
    batch = random_batch(tiny_lm)
    output = teacher.head_input(batch).logits()
    assert not output.requires_grad
    assert torch.equal(output, tiny_lm.eval()(batch, AttentionWindow()))


def test_a_copy_does_not_follow_the_student(tiny_lm, random_batch):
    teacher = build_teacher(COPY, tiny_lm)
    batch = random_batch(tiny_lm)
    before = teacher.head_input(batch).logits()
    optimizer = torch.optim.SGD(tiny_lm.parameters(), lr=0.1)
    tiny_lm(batch, AttentionWindow(4)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(tiny_lm(batch, AttentionWindow()), before)
    assert torch.equal(teacher.head_input(batch).logits(), before)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    shared = {p.data_ptr() for p in tiny_lm.parameters()} & {p.data_ptr() for p in teacher.parameters()}
    assert not shared


@pytest.mark.filterwarnings("ignore")
def test_another_run_can_teach(tiny_lm, random_batch, tmp_path):
    larger = EncodecLM(architecture=EncodecLMArchitecture(**{**vars(TINY), "num_layers": 3}))
    file = save_run(larger, tmp_path)
    batch = random_batch(tiny_lm)
    expected = larger.eval()(batch, AttentionWindow())
    for path in (file, tmp_path / "run"):
        teacher = build_teacher(str(path), tiny_lm)
        assert not teacher.training
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        assert torch.equal(teacher.head_input(batch).logits(), expected)


@pytest.mark.filterwarnings("ignore")
def test_a_run_with_a_window_cannot_teach(tiny_lm, tmp_path):
    file = save_run(tiny_lm, tmp_path, window=8)
    with pytest.raises(ValueError, match=r"model.window 8.*model.window is null"):
        build_teacher(str(file), tiny_lm)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", [{"codebook_size": 20}, {"num_codebooks": 2}, {"frame_rate": 25.0}], ids=str)
def test_a_run_that_speaks_other_codes_cannot_teach(tiny_lm, tmp_path, change):
    other = EncodecLM(architecture=EncodecLMArchitecture(**{**vars(TINY), **change}))
    file = save_run(other, tmp_path)
    with pytest.raises(ValueError, match="the student"):
        build_teacher(str(file), tiny_lm)


def test_a_teacher_that_is_not_there_is_refused(tiny_lm, tmp_path):
    with pytest.raises(ValueError, match="no checkpoint at"):
        build_teacher(str(tmp_path / "nothing"), tiny_lm)
