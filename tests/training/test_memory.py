"""The memory of a step as counted from shapes, beside the tensors that a step really holds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2Model, PreTrainedModel, Qwen2Config, Qwen2Model

from benchmarks.held import Held, Training, batch_of, held_by_a_step
from benchmarks.memory import causal, encodec
from wand.attention import AttentionContext, AttentionWindow, use_wand_attention
from wand.backbones.cosyvoice import CosyVoice2
from wand.backbones.cosyvoice.conditioner import CosyVoiceArchitecture
from wand.lora import LoraSettings
from wand.training.memory import step_memory
from wand.training.memory_parts import LayerBytes, Step, size
from wand.training.module import WandModule
from wand.training.teacher import COPY, build_teacher

QWEN2 = Qwen2Config(
    vocab_size=8, hidden_size=224, intermediate_size=1216, num_attention_heads=14, num_key_value_heads=2
)
GPT2 = GPT2Config(
    vocab_size=8, n_embd=160, n_head=20, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0
)
COLUMNS = 256


def kept_bytes(model: PreTrainedModel, mixed: bool, checkpointing: bool = False) -> int:
    """Bytes that autograd keeps of one forward over `COLUMNS`, weights and masks not counted."""
    use_wand_attention(model.train())
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if COLUMNS in tensor.shape and tensor.shape.count(COLUMNS) == 1:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    embeds = torch.randn(1, COLUMNS, model.config.hidden_size, requires_grad=True)
    # The band kernel keeps no more, but as parts of the columns, which are not told from weights here.
    context = AttentionContext(AttentionWindow(32), 64, kernel="dense")
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=mixed),
    ):
        output = model(inputs_embeds=embeds, attention_context=context, use_cache=False)
    assert output.last_hidden_state.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize(("kind", "tolerance"), [("qwen2", 0.02), ("gpt2", 0.2)])
def test_a_layer_keeps_what_is_counted(kind: str, tolerance: float, mixed: bool) -> None:
    """The difference of two depths is one layer."""
    sizes = []
    for depth in (1, 2):
        config = QWEN2 if kind == "qwen2" else GPT2
        config.num_hidden_layers = depth
        model = Qwen2Model(config) if kind == "qwen2" else GPT2Model(config)
        sizes.append(kept_bytes(model, mixed))
    counted = LayerBytes.of(model, Step(1, COLUMNS, 1, mixed)).kept
    assert counted == pytest.approx((sizes[1] - sizes[0]) / COLUMNS, rel=tolerance)


LORA = LoraSettings()
CAUSAL = partial(causal, 256, 3, 4, 2, 1024, 3000, 1000)
CASES = {
    "float32": (partial(CAUSAL, True), Training("32-true")),
    "half": (partial(CAUSAL, False), Training("bf16-true", checkpointing=True)),
    "ddp": (partial(CAUSAL, True), Training(strategy="ddp", ranks=2)),
    "fsdp": (partial(encodec, 256, 3, 4, 2, 704), Training("32-true", strategy="fsdp", ranks=2)),
    "fsdp, checkpointing": (partial(CAUSAL, False), Training(strategy="fsdp", ranks=8, checkpointing=True)),
    "lora": (partial(encodec, 256, 3, 4, 2, 704), Training(lora=LORA)),
    "lora, checkpointing": (partial(CAUSAL, True), Training("32-true", lora=LORA, checkpointing=True)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_step_holds_what_is_counted(name: str) -> None:
    make, training = CASES[name]
    sizes = 4, 50, 250, "cuda"
    counted = step_memory(training.prepared(make), training.step(*sizes))
    assert counted.total == pytest.approx(held_by_a_step(make, training, *sizes), rel=0.05), counted


def test_fake_tensors_hold_what_those_of_a_real_fit_hold() -> None:
    make, sizes = partial(encodec, 128, 3, 4, 2, 352), (4, 40, 160)
    module = WandModule(make(), window=None)
    module.teacher = build_teacher(COPY, make())
    batches, held = [batch_of(module.backbone, *sizes)] * 2, Held()
    for tensor in (*module.parameters(), *module.buffers()):
        held.hold(tensor)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", max_steps=2, enable_model_summary=False, **quiet)  # type: ignore[arg-type]
    with held:
        trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    assert held.peak == pytest.approx(held_by_a_step(make, Training("32-true"), *sizes), rel=0.03)


def test_the_step_of_a_released_model_is_counted_from_its_shapes() -> None:
    with torch.device("meta"):
        model = CosyVoice2(architecture=CosyVoiceArchitecture())
    count = sum(parameter.numel() for parameter in model.parameters())
    step = Step(8, 500, 300, mixed=True)
    plain = step_memory(model, step)
    assert plain.moment == "the loss"
    assert 5.4 * count < plain.weights < 6 * count, "embeddings and norms have no copies in bfloat16"
    assert plain.teacher == 4 * count
    assert plain.gradients + plain.optimiser == 12 * count
    lean = step_memory(model, replace(step, checkpointing=True))
    assert lean.activations < plain.activations / 5
    assert step_memory(model, replace(step, rows=16)).activations == 2 * plain.activations
    assert step_memory(model, replace(step, buckets=True)).total == plain.total + 4 * count
    assert str(plain).startswith(f"about {plain.total / 2**30:.2f} GiB in the loss: weights ")


def test_shards_divide_what_is_kept_between_layers() -> None:
    with torch.device("meta"):
        model = CosyVoice2(architecture=CosyVoiceArchitecture())
    step = Step(8, 500, 300, mixed=False)
    whole, sharded = (step_memory(model, replace(step, shards=shards)) for shards in (None, 8))
    for part in ("weights", "gradients", "optimiser", "teacher"):
        assert getattr(sharded, part) == pytest.approx(getattr(whole, part) / 8, rel=0.001)
    assert sharded.activations == whole.activations
    assert sharded.gathered > 0 == whole.gathered


def test_a_scalar_parameter_is_counted() -> None:
    assert size([torch.zeros(()), torch.zeros(3, 2)], ranks=2) == 4 + 2 * 2 * 4
