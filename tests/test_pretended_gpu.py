"""What wand does on a GPU, on a pretended one: see `tests.pretended_gpu`, and tests/cuda for a real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from tests.training.accumulated import module_of, utterances
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.benchmark.paths import MeasuredSystem, make_cache, open_steps
from wand.decoding import decoder
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate_all, stream
from wand.decoding.graph import capture
from wand.decoding.requests import Request
from wand.decoding.stopping import StopRules
from wand.distillation.losses import skew_kl
from wand.kv_cache.prefixes import PrefixMemory
from wand.lean import body
from wand.model.batch import ConditionedBatch
from wand.model.sampling import RepetitionAware, Sampling
from wand.training.curriculum import WindowSchedule
from wand.training.module import WandModule
from wand.training.skipping import gradients_and_losses_finite

RULES = StopRules(max_columns=10, loop_columns=6)
ALL_RULES = Sampling(top_k=9, top_p=0.9, repetition_penalty=1.3, repetition=RepetitionAware())


@pytest.fixture(autouse=True)
def _lean_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (decoder, body):  # which knows no other parameters than torch's own
        monkeypatch.setattr(module, "reason_against_lean", lambda body: None)


def test_tensors_of_two_devices_are_refused(gpu: torch.device) -> None:
    there, here = torch.ones(3, device=gpu), torch.ones(3)
    assert there.is_cuda
    for mix in (lambda: there + here, lambda: here.mul_(there), lambda: there[:1].copy_(here[:1]) + here):
        with pytest.raises(RuntimeError, match="same device"):
            mix()
    assert (there + torch.tensor(1.0)).tolist() == [2, 2, 2]
    assert here.to(gpu).cpu().tolist() == [1, 1, 1]


def test_a_graph_replays_its_operations_and_not_its_code(gpu: torch.device) -> None:
    state, added = torch.zeros(2, device=gpu), 1.0

    def first() -> None:
        state.add_(torch.full((2,), added, device=gpu))

    replays = capture(first, lambda: None, lambda: [state])
    assert state.tolist() == [0, 0], "a capture computes nothing"
    added = 5.0
    for _ in range(3):
        replays[0]()
    assert state.tolist() == [3, 3]


@pytest.mark.parametrize("wait", ["item", "from the host", "by a mask"])
def test_a_graph_cannot_wait_for_the_host(gpu: torch.device, wait: str) -> None:
    state = torch.zeros(2, device=gpu)
    waits: dict[str, Callable[[], Any]] = {
        "item": lambda: state.sum().item(),
        "from the host": lambda: state.copy_(torch.ones(2)),
        "by a mask": lambda: state[state > 0],
    }
    with pytest.raises(RuntimeError, match="waits for the host"):
        capture(waits[wait], lambda: None, lambda: [state])


def spoken(lm: EncodecLM, batch: ConditionedBatch, window: AttentionWindow, sampling: Sampling | None) -> list[Tensor]:
    """The codes of three requests in two rows, and of a stream."""
    rows = len(batch)
    given = [{name: part[row, -int(n) :] for name, part in batch.conditioning.items()} for row, n in lengths(batch)]
    requests = [Request(given[i % rows], seed=i) for i in range(3)]
    chosen = Decoder(lm, window, memory=PrefixMemory())
    made = [one.codes for one in generate_all(chosen, requests, rules=RULES, rows=2, sampling=sampling)]
    parts = [part.codes for part in stream(chosen, Request(given[0], parts=(2, 3)), rules=RULES, sampling=sampling)]
    return [*made, torch.cat(parts, dim=1)]


def lengths(batch: ConditionedBatch) -> list[tuple[int, int]]:
    return list(enumerate(batch.prefix_lengths.tolist()))


@pytest.mark.parametrize(
    ("window", "sampling"),
    [(AttentionWindow(6), None), (AttentionWindow(6), ALL_RULES), (AttentionWindow(), ALL_RULES)],
    ids=["window", "window, all rules", "full"],
)
def test_speech_is_that_of_a_cpu(
    tiny_lm: EncodecLM,
    random_batch: Callable[..., ConditionedBatch],
    gpu: torch.device,
    window: AttentionWindow,
    sampling: Sampling | None,
) -> None:
    batch = random_batch(tiny_lm, frames=None)
    expected = spoken(tiny_lm, batch, window, sampling)
    for own, other in zip(spoken(tiny_lm.to(gpu), batch, window, sampling), expected, strict=True):
        assert torch.equal(own, other)


def test_a_divergence_is_in_float32_under_autocast(gpu: torch.device) -> None:
    student, teacher = torch.randn(2, 9, 40), torch.randn(2, 9, 40)
    expected = skew_kl(student, teacher)
    with torch.autocast("cuda", torch.bfloat16):
        own = skew_kl(student.to(gpu), teacher.to(gpu))
    torch.testing.assert_close(own.cpu(), expected, rtol=1e-6, atol=1e-7)


def step(module: WandModule, batch: ConditionedBatch, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What a training step and a validation step log; gradients of 1 take the place of a backward pass."""
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.__setitem__(name, float(value)))
    monkeypatch.setattr(module, "log_dict", lambda values, **_: [module.log(n, v) for n, v in values.items()])
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    module.window = WindowSchedule(start=16).at(1, 10, module.final_window)
    for number in range(2):
        module.on_train_batch_start(batch, number)
        logged["returned"] = float(module.training_step(batch, number).detach())
    accumulation = module._accumulation
    for parameter in module.backbone.parameters():
        parameter.grad = torch.ones_like(parameter)
    accumulation.scale_gradients(module.backbone.parameters())
    norm = torch.nn.utils.get_total_norm([p.grad for p in module.backbone.parameters() if p.grad is not None])
    logged["norm"] = float(norm)
    assert module._agree(gradients_and_losses_finite(norm, accumulation.parts))
    with torch.no_grad():
        module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    return logged


@pytest.mark.filterwarnings("ignore")
def test_the_steps_of_training_are_those_of_a_cpu(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of()
    batch = utterances(module.backbone, range(4))  # type: ignore[arg-type]
    expected = step(module, batch, monkeypatch)
    again = module_of().to(gpu)
    assert step(again, batch.to(gpu), monkeypatch) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("window", [AttentionWindow(6), AttentionWindow()], ids=lambda window: str(window.size))
def test_a_measured_step_runs(tiny_lm: EncodecLM, gpu: torch.device, window: AttentionWindow) -> None:
    backbone, system = tiny_lm.to(gpu), MeasuredSystem(window, "lean")
    with torch.inference_mode():
        draw, feed = open_steps(system, backbone).begin(make_cache(system, backbone, 5, 9, rows=2), 5, 2)
        for half in (draw, feed, draw, feed):
            half()
