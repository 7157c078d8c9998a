"""The parts of the memory of a training step, in bytes; see `wand.training.memory`.

B rows, S columns, T speech columns, K codebooks, V rows of the speech vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from wand.distillation.chunked import chunk_rows
from wand.model.backbone import Backbone


@dataclass(frozen=True)
class Step:
    """What decides on the memory of a step besides the model.

    Args:
        rows: B.
        columns: S = P + T.
        labels: T + 1.
        mixed: Whether layers compute in bfloat16 under autocast.
        teacher: The teacher: ``own`` with weights of its own, ``shared`` with those of the student, or None.
        checkpointing: Whether layers store only their inputs.
        device: Type of the device.
        buckets: Whether the gradients are copied into buckets (DDP).
        shards: Number of processes over which FSDP2 shards the parameters; None without it.
    """

    rows: int
    columns: int
    labels: int
    mixed: bool
    teacher: str | None = "own"
    checkpointing: bool = False
    device: str = "cpu"
    buckets: bool = False
    shards: int | None = None


def size(tensors: Iterable[torch.Tensor], ranks: int = 1) -> int:
    """Bytes of tensors on each of some ranks, which share the first dimension."""
    # A scalar has one row.
    return sum(ceil(prod(t.shape[:1]) / ranks) * prod(t.shape[1:]) * t.itemsize for t in tensors)


def outside(backbone: Backbone) -> list[nn.Parameter]:
    """The parameters that belong to no decoder layer: embeddings, final norm, head."""
    inside = {id(parameter) for unit in backbone.sharded_units() for parameter in unit.parameters()}
    return [parameter for parameter in backbone.parameters() if id(parameter) not in inside]


def largest_table(backbone: Backbone) -> int:
    """Bytes of the largest trained parameter of `outside`: the embeddings, or a head of their size."""
    return max((size([parameter]) for parameter in outside(backbone) if parameter.requires_grad), default=0)


def projection_bytes(backbone: Backbone) -> int:
    """Bytes of the bfloat16 copies that autocast makes of the projections."""
    layers = (module for module in backbone.decoder.modules() if isinstance(module, nn.Linear | Conv1D))
    return sum(2 * parameter.numel() for layer in layers for parameter in layer.parameters(recurse=False))


def update_bytes(trained: list[nn.Parameter], step: Step) -> int:
    """Bytes that AdamW computes in its update: of all matrices at once on a GPU, else of one parameter."""
    if step.device == "cuda" and step.shards is None:
        return size(parameter for parameter in trained if parameter.ndim > 1)
    return 2 * max((size([parameter], step.shards or 1) for parameter in trained), default=0)


@dataclass(frozen=True)
class Whole:
    """What is whole under FSDP2, in bytes; see `Backbone.parallelize`. Without it, only `trained` is not empty.

    Args:
        trained: The trained parameters outside of units.
        unit: The parameters of the largest unit, in the dtype in which they are gathered.
        differentiated: The gradients of this unit as they are computed.
        reduced: The gradients of this unit as they are reduced.
        outside: The parameters outside of units, of the student and of its teacher.
        teachers: Those of the teacher alone, which stay whole.
    """

    trained: list[nn.Parameter]
    unit: int = 0
    differentiated: int = 0
    reduced: int = 0
    outside: int = 0
    teachers: int = 0

    @classmethod
    def of(cls, backbone: Backbone, step: Step) -> Whole:
        """Count them."""
        others = outside(backbone)
        trained = [parameter for parameter in others if parameter.requires_grad]
        if step.shards is None:
            return cls(trained)
        unit = max((list(unit.parameters()) for unit in backbone.sharded_units()), key=size)
        reduced = size(parameter for parameter in unit if parameter.requires_grad)
        share = 2 if step.mixed else 1  # gathered and differentiated in half the bytes
        teachers = size(others) if step.teacher == "own" else 0
        return cls(trained, size(unit) // share, reduced // share, reduced, size(others) + teachers, teachers)


@dataclass(frozen=True)
class LayerBytes:
    """Bytes of a decoder layer per column: norms as in Llama, rotated queries and keys, a gated feed-forward layer.

    Other layers differ by up to a fifth.

    Args:
        input: Its input.
        kept: What autograd keeps of it.
        forward: What exists besides the kept tensors while it runs.
        backward: What exists besides the kept tensors while it runs backwards.
    """

    input: int
    kept: int
    forward: int
    backward: int

    @classmethod
    def of(cls, decoder: PreTrainedModel, step: Step) -> LayerBytes:
        """Count the tensors that a layer of a decoder computes."""
        config = decoder.config
        width, heads = config.hidden_size, config.num_attention_heads
        pairs = getattr(config, "num_key_value_heads", None) or heads
        head = getattr(config, "head_dim", None) or width // heads
        inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width
        stored = decoder.dtype.itemsize
        computed = 2 if step.mixed else stored
        named = decoder.named_modules()
        adapters = [module for name, module in named if ".lora_A." in name and isinstance(module, nn.Linear)]
        ranks = sum(adapter.out_features for adapter in adapters)
        # The norm computes in float32. It keeps its input, and for the gradient of its weight the normalised input.
        norm = 4 * width + (0 if adapters else stored * width)
        # Its output is the input of the projections. Autocast makes a copy for each: query, key, value, gate and up.
        inputs = 5 * 2 * width if step.mixed else 2 * stored * width
        attention = computed * 2 * (heads + pairs) * head + 4 * heads  # query, key, value, output; sums of the softmax
        feed_forward = computed * 4 * inner  # gate, its activation, up, their product
        # Beside a projection, adapters compute their own output, scale it and add it. Under autocast they begin with a
        # float32 copy of the input.
        wide = 4 * inner if adapters and step.mixed else 0
        forward = computed * 2 * inner + wide if adapters else 0
        if step.checkpointing:
            forward += computed * (3 * inner + width) + 2 * stored * width
        return cls(
            input=stored * width,
            kept=2 * norm + inputs + attention + feed_forward + computed * ranks // config.num_hidden_layers,
            forward=forward,
            backward=computed * 2 * inner + wide + 2 * stored * width,
        )


@dataclass(frozen=True)
class LossBytes:
    """Bytes of the fused losses (`wand.distillation.chunked`).

    Args:
        cached: The rows of a table that are the teacher's head, kept from step to step; see `Backbone.speech_head`.
        teacher: The hidden states of the teacher.
        all: Everything else at the peak of the loss, with these hidden states.
        gradient: The gradient of the head, or of the table to which its rows belong.
    """

    cached: int
    teacher: int
    all: int
    gradient: int

    @classmethod
    def of(cls, backbone: Backbone, step: Step) -> LossBytes:
        """Count the tensors that the loss computes."""
        width, stored = backbone.decoder.config.hidden_size, backbone.dtype.itemsize
        half = step.mixed or stored == 2
        head = backbone.speech_head().weights
        own = {id(parameter) for parameter in backbone.parameters()}
        is_own = all(id(weight) in own or id(weight._base) in own for weight in head)  # or a view of a parameter
        trained = any(weight.requires_grad for weight in head)
        models = 1 if step.teacher is None else 2
        logits = backbone.num_codebooks * backbone.speech_vocab_size
        columns, rows = step.rows * step.columns, step.rows * step.labels
        chunk = min(rows, chunk_rows(logits, step.device))
        teacher = stored * width * columns if step.teacher else 0
        # The final norm, the flattened hidden states of both models, and the gradient of the student's.
        hidden = columns * width * (4 + (stored if trained else 0) + stored) + teacher
        hidden += rows * width * (stored + 4 + (0 if step.teacher is None else 2 if half else 4))
        # Rows of a larger table are copied, those of a teacher that is not sharded once. Autocast makes a copy of each
        # head. The gradient is a sum over chunks.
        table = 0 if is_own else stored * width * logits
        cached = table if step.shards is None and (step.teacher or not trained) else 0
        copied = table * models if step.shards else table if trained else 0
        heads = copied + width * logits * (2 * models if step.mixed else 0) + (4 * width * logits if trained else 0)
        chunks = chunk_bytes(logits, width, rows, chunk, step, half, trained)
        gradient = 0 if not trained else size(head) if is_own else largest_table(backbone)
        return cls(cached, teacher, hidden + heads + chunks, gradient)


def chunk_bytes(logits: int, width: int, rows: int, chunk: int, step: Step, half: bool, trained: bool) -> int:
    """Bytes of a chunk of the losses.

    Args:
        logits: K * V, the number of logits per row.
        width: D.
        rows: Number of rows with labels.
        chunk: Rows of a chunk.
        step: Tells whether there is a teacher and autocast.
        half: Whether logits are computed in bfloat16. What follows is float32.
        trained: Whether the head is trained.
    """
    computed, models = 2 if half else 4, 1 if step.teacher is None else 2
    scores = 4 * 3  # logarithms, probabilities, gradient
    if step.teacher:
        # The same of the teacher, the mixture, a difference and its product with the probabilities, for which autocast
        # makes copies.
        scores = 4 * 7 + (3 * 2 if step.mixed else 4)
    scores += computed * (models + (rows > chunk))  # logits, and the gradient of the chunk before
    if not half:
        return scores * chunk * logits
    # The product that is added to the gradient of the head, while the logits and their gradients exist.
    product = 2 * width * logits if trained else 0
    return max(scores * chunk * logits, (models + 1) * 2 * chunk * logits + product)
