"""The memory of a step as counted from shapes, beside what autograd really keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2Model, PreTrainedModel, Qwen2Config, Qwen2Model

from benchmarks.step_memory import PeakBytes
from wand.attention import AttentionContext, AttentionWindow, use_wand_attention
from wand.backbones.cosyvoice import CosyVoice2
from wand.backbones.cosyvoice.conditioner import CosyVoiceArchitecture
from wand.distillation.terms import LossTerms
from wand.model.heads import HeadInput, LinearHead
from wand.training.memory import layer_bytes, loss_bytes, step_memory

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
@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
def test_a_layer_keeps_about_what_is_counted(kind: str, mixed: bool) -> None:
    """The difference of two depths is one layer."""
    sizes = []
    for depth in (1, 2):
        config = QWEN2 if kind == "qwen2" else GPT2
        config.num_hidden_layers = depth
        sizes.append(kept_bytes(Qwen2Model(config) if kind == "qwen2" else GPT2Model(config), mixed))
    assert layer_bytes(config, mixed) == pytest.approx((sizes[1] - sizes[0]) / COLUMNS, rel=0.2)


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("rows", "vocabulary", "width"), [(2048, 2000, 64), (300, 6564, 256)])
def test_losses_hold_about_what_is_counted(rows: int, vocabulary: int, width: int, mixed: bool, trained: bool) -> None:
    def head_input() -> HeadInput:
        return HeadInput(torch.randn(1, rows, width), LinearHead(torch.randn(1, vocabulary, width)))

    student, teacher = head_input(), head_input()
    student.hidden.requires_grad_()
    for tensor in student.head.weights:
        tensor.requires_grad_(trained)
    labels = torch.randint(0, vocabulary, (1, rows, 1))
    weights = torch.ones(labels.shape)
    with PeakBytes() as bytes_of, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        student.loss(labels, weights, LossTerms(), teacher).loss.backward()
    assert loss_bytes(vocabulary, width, rows, mixed, "cpu", trained) == pytest.approx(bytes_of.peak, rel=0.2)


def test_the_step_of_a_released_model_is_counted_from_its_shapes() -> None:
    with torch.device("meta"):
        model = CosyVoice2(architecture=CosyVoiceArchitecture())
    count = sum(parameter.numel() for parameter in model.parameters())
    plain = step_memory(model, 8, 500, 300, mixed=True)
    assert plain.weights == plain.teacher == 6 * count
    assert plain.gradients + plain.optimiser == 12 * count
    lean = step_memory(model, 8, 500, 300, mixed=True, checkpointing=True)
    assert lean.activations < plain.activations / 5
    assert step_memory(model, 16, 500, 300, mixed=True).activations == 2 * plain.activations
    assert step_memory(model, 8, 500, 300, mixed=True, with_teacher=False).total == plain.total - plain.teacher
    assert step_memory(model, 16, 500, 300, mixed=True).losses < 1.2 * plain.losses, "a chunk is a chunk"
    assert str(plain).startswith(f"about {plain.total / 2**30:.2f} GiB: weights ")


def test_shards_divide_what_is_kept_between_layers() -> None:
    with torch.device("meta"):
        model = CosyVoice2(architecture=CosyVoiceArchitecture())
    whole, sharded = (step_memory(model, 8, 500, 300, mixed=False, shards=shards) for shards in (None, 8))
    for part in ("weights", "gradients", "optimiser", "teacher"):
        assert getattr(sharded, part) == getattr(whole, part) // 8
    assert sharded.activations == whole.activations
    layer = sum(parameter.numel() for parameter in model.decoder.layers[0].parameters())
    rest = sum(parameter.numel() for parameter in model.parameters()) - 24 * layer
    # Two layers, the gradient of one and what it is reduced from; outside of layers, the weights of both models too.
    assert sharded.gathered == 4 * 4 * layer + 12 * rest
    assert whole.gathered == 0
