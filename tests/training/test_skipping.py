"""A step with numbers that are not finite is skipped, named and counted; too many end the fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch.utils.data import DataLoader

from tests.training.accumulated import bad_for_u2, fit, module_of, on_two_ranks, strategy_of, utterances
from wand.distillation.terms import LossTerms
from wand.runs.settings import OptimizerSettings
from wand.training.module import WandModule
from wand.training.optimizer import make_optimizer
from wand.training.skipping import MOST_SKIPPED

BAD = LossTerms(divergence=f"{bad_for_u2.__module__}.{bad_for_u2.__name__}")


def bad_module() -> WandModule:
    return module_of(loss=BAD)


def assert_finite(module: WandModule) -> None:
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_a_skipped_step_changes_nothing_and_counts() -> None:
    module = bad_module()
    with pytest.warns(UserWarning, match=r"step 1 is skipped: the loss of utterance 'u2' is not finite"):
        record = fit([[0, 1], [2], [3]], module)
    assert module.trainer.global_step == 3
    assert [logged["train/skipped_steps"] for logged in record.logged] == [0, 1, 1]
    # The same steps in a plain loop, with the gradients that the optimizer got.
    expected = bad_module()
    optimizer, schedule = make_optimizer(expected.backbone.parameters(), expected.settings.optimizer, 3)
    for gradients in (record.gradients[0], None, record.gradients[1]):
        if gradients is not None:
            for name, parameter in expected.named_parameters():
                parameter.grad = gradients.get(name)
            optimizer.step()
        schedule.step()
    for (name, found), (_, true) in zip(module.named_parameters(), expected.named_parameters(), strict=True):
        assert torch.equal(found, true), name


def test_a_gradient_alone_is_noticed() -> None:
    """The loss is finite; the gradient of one weight is not."""
    module = module_of()
    parameter = next(iter(module.backbone.parameters()))
    parameter.register_hook(lambda gradient: gradient * float("inf") if module.global_step == 1 else gradient)
    with pytest.warns(UserWarning, match=r"step 1 is skipped: the gradient of utterances 'u1', 'u2' is not finite"):
        fit([[0], [1, 2], [3]], module)
    assert_finite(module)
    assert module.skipped_steps.total == 1


def test_the_micro_batch_is_named() -> None:
    module = bad_module()
    with pytest.warns(UserWarning, match=r"step 0 .* utterance 'u2' \(micro-batch 2 of 3\) is not finite"):
        record = fit([[0], [2], [3], [1]], module, accumulate_grad_batches=3)
    assert module.trainer.global_step == 2
    assert len(record.gradients) == 1  # that of the second step
    assert_finite(module)


def test_many_skipped_steps_in_a_row_end_the_fit() -> None:
    module = bad_module()
    with pytest.raises(ValueError, match=r"20 steps in a row .* 'u2' .*learning_rate.*precision") as error:
        fit([[0], *[[2]] * (MOST_SKIPPED + 5)], module)
    assert "\n" not in str(error.value)
    assert module.trainer.global_step == MOST_SKIPPED  # the first one was taken; the last one is not complete
    assert_finite(module)
    fit([[0], *[[2]] * (MOST_SKIPPED - 1), [3]], module)  # the next fit counts anew after its first step


@pytest.mark.parametrize("batches", [2, 1], ids=["found by the next step", "found at the end"])
def test_weights_that_a_step_destroys_end_the_fit(batches: int) -> None:
    """AdamW's epsilon is 0 in float16, so the first step gives NaN although the gradient is finite."""
    with pytest.raises(ValueError, match=r"after 1 steps the weights are not finite, first '.*precision"):
        fit([[0]] * batches, precision="16-true")


def test_a_huge_learning_rate_ends_the_fit() -> None:
    module = module_of(optimizer=OptimizerSettings(learning_rate=1e18))
    with pytest.raises(ValueError, match=r"in a row were skipped.*: lower model.optimizer.learning_rate"):
        fit([[0]] * (MOST_SKIPPED + 5), module)
    assert_finite(module)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_bfloat16_skips_and_trains(precision: str) -> None:
    module = bad_module()
    with pytest.warns(UserWarning, match="step 1 is skipped"):
        fit([[0, 1], [2], [3]], module, precision=precision)
    assert_finite(module)
    assert module.skipped_steps.total == 1


def test_the_gradient_scaler_goes_on() -> None:
    """The scaler of 16-mixed skips too, and lowers its scale until gradients fit into float16."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    module = bad_module()
    record = fit([[0, 1], [2], *[[3]] * 30], module, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert_finite(module)
    assert 2 < module.skipped_steps.total < MOST_SKIPPED
    assert module.skipped_steps.in_a_row == 0
    assert module.skipped_steps.total == 32 - len(record.gradients)
    assert scaler.get_scale() == 2.0 ** (30 - module.skipped_steps.total)


def work(rank: int, strategy: str) -> Any:
    """Rank 1 has the bad utterance in the second of three steps."""
    module = bad_module()
    record = fit([[[0], [0], [1]], [[1], [2], [3]]][rank], module, devices=2, strategy=strategy_of(strategy))
    return len(record.gradients), module.skipped_steps.total, module.trainer.global_step, record.gradients


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_all_ranks_skip_together(tmp_path: Path, strategy: str) -> None:
    (*first, left), (*second, right) = on_two_ranks(tmp_path, work, strategy)
    assert first == second == [2, 1, 3]
    for one, other in zip(left, right, strict=True):
        assert all(torch.equal(one[name], other[name]) and one[name].isfinite().all() for name in one)


def test_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    module = bad_module()
    loader = DataLoader([utterances(module.backbone, rows) for rows in ([0], [2], [3])], batch_size=None)  # type: ignore[arg-type]
    trainer = Trainer(max_epochs=1, enable_checkpointing=False, **quiet)
    with pytest.warns(UserWarning, match="is skipped"):
        trainer.fit(module, loader)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    resumed = bad_module()
    with pytest.warns(UserWarning, match="step 4 is skipped"):
        Trainer(max_epochs=2, enable_checkpointing=False, **quiet).fit(
            resumed, loader, ckpt_path=tmp_path / "run.ckpt", weights_only=True
        )
    assert resumed.skipped_steps.total == 2


def test_a_clipping_norm_of_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="gradient_clip_val nan"):
        fit([[0]], gradient_clip_val=float("nan"))
