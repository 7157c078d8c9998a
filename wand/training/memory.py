"""The memory of a training step, computed from shapes before the first step runs."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PretrainedConfig

from wand.distillation.chunked import chunk_rows
from wand.model.backbone import Backbone

# Number of tensors with the size of a chunk's logits that exist at once: 2 logits, 2 logarithms, 2 probabilities, the
# mixture, 2 intermediate results of the sum, and the gradients of this chunk and the previous one.
CHUNK_TENSORS = 11


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step on one device.

    Args:
        weights: The student's float32 weights and adapters (LoRA), and their bfloat16 copies under mixed precision.
        gradients: Gradients of the trained parameters.
        optimiser: The two moments of AdamW.
        teacher: The teacher's weights and their copies.
        activations: What the layers store for the backward pass.
        losses: The logits of both models for one chunk, the tensors computed from them, and the gradients of the head
            and its input.
        gathered: Under FSDP2, the whole parameters of two units (one runs, one is fetched), the gradients of one, and
            the parameters and gradients that belong to no unit.
    """

    weights: int
    gradients: int
    optimiser: int
    teacher: int
    activations: int
    losses: int
    gathered: int = 0

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(vars(self).values())

    def __str__(self) -> str:
        parts = ", ".join(
            f"{name} {size / 2**30:.2f}" for name, size in vars(self).items() if size or name != "gathered"
        )
        return f"about {self.total / 2**30:.2f} GiB: {parts}"


def step_memory(
    backbone: Backbone,
    rows: int,
    columns: int,
    labels: int,
    *,
    mixed: bool,
    with_teacher: bool = True,
    checkpointing: bool = False,
    device: str = "cpu",
    shards: int | None = None,
) -> StepMemory:
    """Estimate the memory of a training step. The real value may differ by a fifth.

    Args:
        backbone: The student. Only its shapes are used, so it may be on the meta device.
        rows: B.
        columns: P + T.
        labels: T + 1.
        mixed: Whether layers compute in bfloat16.
        with_teacher: Whether there is a teacher with its own weights.
        checkpointing: Whether layers store only their inputs.
        device: Type of the device.
        shards: Number of processes over which FSDP2 shards the parameters; None without it.
    """
    count = sum(parameter.numel() for parameter in backbone.parameters())
    trained = sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)
    copies = 2 if mixed and shards is None else 0
    layer = layer_bytes(backbone.decoder.config, mixed)
    config = backbone.decoder.config
    kept = layer * config.num_hidden_layers
    if checkpointing:
        kept = 4 * config.hidden_size * config.num_hidden_layers + layer
    ranks = shards or 1
    return StepMemory(
        weights=(4 + copies) * count // ranks,
        gradients=4 * trained // ranks,
        optimiser=8 * trained // ranks,
        teacher=(4 + copies) * count // ranks if with_teacher else 0,
        activations=kept * rows * columns,
        losses=loss_bytes(
            backbone.num_codebooks * backbone.speech_vocab_size,
            config.hidden_size,
            rows * labels,
            mixed,
            device,
            trained=any(weight.requires_grad for weight in backbone.speech_head().weights),
        ),
        gathered=0 if shards is None else gathered_bytes(backbone, mixed, with_teacher),
    )


def gathered_bytes(backbone: Backbone, mixed: bool, with_teacher: bool) -> int:
    """Bytes of whole parameters and gradients that exist at once under FSDP2 (`Backbone.parallelize`).

    Args:
        backbone: The student.
        mixed: Whether units are gathered in bfloat16. Their gradients are reduced in float32.
        with_teacher: Whether there is a teacher with its own weights.
    """
    units = [sum(parameter.numel() for parameter in unit.parameters()) for unit in backbone.sharded_units()]
    rest = sum(parameter.numel() for parameter in backbone.parameters()) - sum(units)
    return (3 * (2 if mixed else 4) + 4) * max(units, default=0) + (12 if with_teacher else 8) * rest


def loss_bytes(logits: int, width: int, rows: int, mixed: bool, device: str, trained: bool = True) -> int:
    """Peak memory of the fused losses (`wand.distillation.chunked`), in bytes.

    Args:
        logits: K * V, the number of logits per row.
        width: D.
        rows: Number of rows with labels.
        mixed: Whether the heads are multiplied in bfloat16.
        device: Type of the device.
        trained: Whether the head is trained.
    """
    chunk = min(rows, chunk_rows(logits, device))
    gradients = 4 * width * (rows + logits if trained else rows)
    heads = 4 * width * logits if mixed else 0  # both of them in bfloat16
    # The backward pass makes a second, scaled copy of the gradients.
    return gradients + max(heads + 4 * CHUNK_TENSORS * chunk * logits, gradients)


def layer_bytes(config: PretrainedConfig, mixed: bool) -> int:
    """About how many bytes a decoder layer stores per column: norms and residuals in float32, the rest as computed."""
    width = config.hidden_size
    heads = config.num_attention_heads
    pairs = getattr(config, "num_key_value_heads", None) or heads
    head = getattr(config, "head_dim", None) or width // heads
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width
    computed = 6 * width + 4 * inner + (heads + 2 * pairs) * head
    return 5 * 4 * width + (2 if mixed else 4) * computed
