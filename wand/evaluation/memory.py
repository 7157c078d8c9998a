"""What a training step keeps in memory, counted from shapes before the first one runs."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PretrainedConfig

from wand.backbone import Backbone

# A step keeps of every label's row of logits: the student's, the teacher's, and what the losses save of both.
COPIES_OF_LOGITS = 5


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step on one device.

    Args:
        weights: The student's masters, and their copies in bfloat16 under mixed precision.
        gradients: Of what is trained.
        optimiser: The two moments of AdamW.
        teacher: Its weights, and their copies.
        activations: What the layers keep for the way back.
        logits: Of student and teacher, and what the losses keep.
    """

    weights: int
    gradients: int
    optimiser: int
    teacher: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(vars(self).values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in vars(self).items())
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
) -> StepMemory:
    """Count the memory of a step in which a teacher looks on; a fifth more or less is normal.

    Args:
        backbone: The student; on the meta device its shapes are enough.
        rows: B.
        columns: P + T.
        labels: T + 1.
        mixed: Whether layers compute in bfloat16.
        with_teacher: Whether there is a teacher.
        checkpointing: Whether layers keep their inputs only.
    """
    count = sum(parameter.numel() for parameter in backbone.parameters())
    trained = sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)
    copies = 2 if mixed else 0
    layer = layer_bytes(backbone.decoder.config, mixed)
    config = backbone.decoder.config
    kept = layer * config.num_hidden_layers
    if checkpointing:
        kept = 4 * config.hidden_size * config.num_hidden_layers + layer
    logits = 4 * backbone.num_codebooks * backbone.speech_vocab_size * COPIES_OF_LOGITS
    return StepMemory(
        weights=(4 + copies) * count,
        gradients=4 * trained,
        optimiser=8 * trained,
        teacher=(4 + copies) * count if with_teacher else 0,
        activations=kept * rows * columns,
        logits=logits * rows * labels,
    )


def layer_bytes(config: PretrainedConfig, mixed: bool) -> int:
    """About what a decoder layer keeps of one column: norms and residuals in float32, the rest as it computes."""
    width = config.hidden_size
    heads = config.num_attention_heads
    pairs = getattr(config, "num_key_value_heads", None) or heads
    head = getattr(config, "head_dim", None) or width // heads
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width
    computed = 6 * width + 4 * inner + (heads + 2 * pairs) * head
    return 5 * 4 * width + (2 if mixed else 4) * computed
