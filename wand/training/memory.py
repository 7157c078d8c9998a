"""The memory of a training step, computed from shapes before the first step runs.

A step holds most at one of a few moments: in the last layer of the forward pass, in the loss, in the backward pass of
the last or the first layer or of the embeddings, or in the update. The memory at each is a sum of named parts
(`wand.training.memory_parts`), and the largest sum is the memory of the step. `python -m benchmarks.memory --check`
compares it with the tensors that a step really holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from wand.model.backbone import Backbone
from wand.training.memory_parts import (
    LayerBytes,
    LossBytes,
    Step,
    Whole,
    largest_table,
    outside,
    projection_bytes,
    size,
    update_bytes,
)


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step on one device, at one moment.

    Args:
        moment: What the step does at this moment.
        weights: The student's weights and adapters (LoRA), and the bfloat16 copies of its projections under autocast.
        gradients: Gradients of the trained parameters. Those of the step before exist until the backward pass.
        optimiser: The two moments of AdamW, and in the update the tensors that it computes.
        teacher: The teacher's weights.
        activations: What the layers store for the backward pass, and the tensors of the layer that runs.
        losses: The hidden states of both models, their heads, the logits of one chunk and the tensors computed from
            them, and the gradients of the head and its input.
        buckets: The copy of the gradients that DDP reduces.
        gathered: Under FSDP2, what is whole: the unit that runs, the one that is fetched, the gradients that are
            reduced, and the parameters that belong to no unit.
    """

    moment: str
    weights: int
    gradients: int
    optimiser: int
    teacher: int
    activations: int = 0
    losses: int = 0
    buckets: int = 0
    gathered: int = 0

    @property
    def parts(self) -> dict[str, int]:
        """The parts by name."""
        return {name: size for name, size in vars(self).items() if name != "moment"}

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        optional = ("buckets", "gathered")
        parts = (f"{name} {size / 2**30:.2f}" for name, size in self.parts.items() if size or name not in optional)
        return f"about {self.total / 2**30:.2f} GiB in {self.moment}: {', '.join(parts)}"


def step_memory(backbone: Backbone, step: Step) -> StepMemory:
    """The memory of a training step at its largest moment. See `step_moments`."""
    return max(step_moments(backbone, step), key=lambda moment: moment.total)


def step_moments(backbone: Backbone, step: Step) -> list[StepMemory]:
    """The memory of a training step at each moment that can be its largest.

    The optimizer has taken a step before. Masks of attention are not counted: FlexAttention and the band kernel have
    none, the dense kernel has one of S * S numbers.

    Args:
        backbone: The student, not sharded. Only its shapes and dtypes are used, so it may be on the meta device.
        step: The batch and how it is trained.
    """
    parameters = list(backbone.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    ranks, columns = step.shards or 1, step.rows * step.columns
    gradients = size(trained, ranks)
    layer, loss, whole = LayerBytes.of(backbone.decoder, step), LossBytes.of(backbone, step), Whole.of(backbone, step)
    count = backbone.decoder.config.num_hidden_layers
    copies = projection_bytes(backbone) if step.mixed and step.shards is None else 0
    last = columns * (layer.input if step.checkpointing else layer.kept)
    layers = count * last
    running = columns * (layer.backward + (layer.kept if step.checkpointing else 0))

    always = StepMemory(
        moment="",
        weights=size(parameters, ranks),
        gradients=gradients,
        optimiser=2 * gradients,
        teacher=(size(parameters, ranks) if step.teacher == "own" else 0) + loss.cached,
        buckets=gradients if step.buckets else 0,
    )
    # Layers keep the copies that they use. Autocast keeps those of trained weights until the end of the forward pass.
    used = copies // count if step.checkpointing else copies
    forward = replace(always, weights=always.weights + (copies if len(trained) == len(parameters) else used))
    backward = replace(always, weights=always.weights + used)
    in_layers = gradients - size(whole.trained, ranks)
    moments = [
        replace(
            forward,
            moment="the forward pass",
            activations=layers + columns * layer.forward,
            losses=loss.teacher,
            gathered=whole.outside + 2 * whole.unit,
        ),
        replace(forward, moment="the loss", activations=layers, losses=loss.all, gathered=whole.outside),
        replace(
            backward,
            moment="the backward pass of the last layer",
            gradients=loss.gradient,
            activations=layers + running,
            gathered=whole.outside + 2 * whole.unit,
        ),
        replace(
            backward,
            moment="the backward pass of the first layer",
            gradients=loss.gradient + in_layers * (count - 1) // count,
            activations=last + running,
            gathered=whole.outside + whole.unit + whole.reduced,
        ),
        replace(
            always,
            moment="the backward pass of the embeddings",
            gradients=in_layers + size(whole.trained) + 2 * largest_table(backbone),
            gathered=whole.outside,
        ),
        replace(
            always,
            moment="the update",
            optimiser=always.optimiser + update_bytes(trained, step),
            gathered=whole.teachers,
        ),
    ]
    if step.shards is None:
        return moments
    # Until a unit is copied, the buffers in which it and the one before were gathered exist. In the backward pass, a
    # unit and its gradients exist while the next one is gathered and while its gradients are reduced.
    reduction = whole.outside + 2 * whole.unit + whole.differentiated + whole.reduced
    return [
        *moments,
        replace(
            always,
            moment="the gathering of the first layer",
            losses=loss.teacher,
            gathered=whole.outside + size(outside(backbone)) + 2 * whole.unit,
        ),
        replace(
            always,
            moment="the gathering of the last layer",
            activations=layers - last,
            losses=loss.teacher,
            gathered=whole.outside + 3 * whole.unit,
        ),
        replace(
            always,
            moment="the reduction of the last layer",
            gradients=loss.gradient + in_layers // count,
            activations=layers - last,
            gathered=reduction,
        ),
        replace(
            always,
            moment="the reduction of the second layer",
            gradients=loss.gradient + in_layers * (count - 1) // count,
            activations=last,
            gathered=reduction,
        ),
    ]
