"""The teacher: the full-attention model that the windowed student imitates.

Every kind of teacher runs in eval mode. Its weights are never trained, and checkpoints do not contain it.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from wand.attention import AttentionWindow
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch
from wand.model.heads import HeadInput
from wand.runs.checkpoints import load_backbone_and_settings

COPY = "copy"
SELF = "self"


class Teacher(ABC):
    """The model that a student imitates.

    Attributes:
        shares_weights: Whether the teacher uses the weights of the student. They then take no extra memory and act as
            the teacher only inside `weights`.
    """

    shares_weights = True

    @abstractmethod
    def weights(self, gathered: bool = False) -> AbstractContextManager[Backbone]:
        """Give the teacher's model, which may be run inside the ``with`` block.

        Without a teacher this is the student.

        Args:
            gathered: Whether the model must have all its parameters on this rank; see `Backbone.gathered`.
        """

    def head_input(self, batch: ConditionedBatch) -> HeadInput | None:
        """The teacher's prediction under full attention, without gradients. None without a teacher."""
        with torch.no_grad(), self.weights() as backbone:
            return backbone.head_input(batch, AttentionWindow())

    def parallelize(self, mesh: DeviceMesh, dtype: torch.dtype | None = None) -> None:
        """Shard the teacher's own weights, if it has any; see `Backbone.parallelize`."""
        return


class NoTeacher(Teacher):
    """No teacher: the student learns only from the recorded speech.

    Args:
        student: The model that is trained.
    """

    def __init__(self, student: Backbone) -> None:
        self.student = student

    def weights(self, gathered: bool = False) -> AbstractContextManager[Backbone]:
        """The student."""
        return weights_of(self.student, gathered)

    def head_input(self, batch: ConditionedBatch) -> HeadInput | None:
        """None."""
        return None


class FrozenTeacher(nn.Module, Teacher):
    """A separate, frozen model.

    Args:
        backbone: The model. It is frozen in place.
    """

    shares_weights = False

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.register_state_dict_post_hook(_keep_nothing)
        self.train()

    def weights(self, gathered: bool = False) -> AbstractContextManager[Backbone]:
        """The model."""
        return weights_of(self.backbone, gathered)

    def parallelize(self, mesh: DeviceMesh, dtype: torch.dtype | None = None) -> None:
        """Shard the model."""
        self.backbone.parallelize(mesh, dtype)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)


def _keep_nothing(module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any]) -> None:
    """State-dict hook that keeps a module out of checkpoints."""
    for key in [key for key in state if key.startswith(prefix)]:
        del state[key]


class SelfTeacher(Teacher):
    """The student itself with its adapters (such as LoRA) switched off.

    Args:
        student: A model in which only the adapters are trained.

    Raises:
        ValueError: If the student has no adapters, because the teacher would then change with every step.
    """

    def __init__(self, student: Backbone) -> None:
        self.student = student
        with student.without_adapters():
            return

    @contextmanager
    def weights(self, gathered: bool = False) -> Iterator[Backbone]:
        """The student in eval mode, without its adapters."""
        with weights_of(self.student, gathered) as student:
            modes = {module: module.training for module in student.modules()}
            student.eval()
            try:
                with student.without_adapters():
                    yield student
            finally:
                for module, mode in modes.items():
                    module.training = mode


def weights_of(backbone: Backbone, gathered: bool) -> AbstractContextManager[Backbone]:
    """Give a model as it is, or with all its parameters on this rank; see `Backbone.gathered`."""
    return backbone.gathered() if gathered else nullcontext(backbone)


def build_teacher(teacher: str | None, student: Backbone) -> Teacher:
    """Build the teacher of a student that still has its original weights.

    Args:
        teacher: ``copy`` for a frozen copy of the student as it is now, ``self`` for the student without its adapters,
            a run folder or checkpoint file of wand whose student becomes the teacher (it must have full attention, the
            same codec and the same vocabulary), or None.
        student: The model to be adapted.

    Raises:
        ValueError: If the checkpoint has a window or other codes than the student, or if `teacher` is ``self`` and the
            student has no adapters.
    """
    if teacher is None:
        return NoTeacher(student)
    if teacher == SELF:
        return SelfTeacher(student)
    return FrozenTeacher(copy.deepcopy(student) if teacher == COPY else _from_checkpoint(teacher, student))


def _from_checkpoint(path: str, student: Backbone) -> Backbone:
    made, settings = load_backbone_and_settings(path)
    if settings.window is not None:
        raise ValueError(
            f"model.teacher {path} is a run with model.window {settings.window}, but a teacher has full attention, "
            f"which this run has not learned: give a run whose model.window is null, or copy"
        )
    own, other = _speech(student), _speech(made)
    if own != other:
        raise ValueError(
            f"model.teacher {path} does not fit the student: its (codebooks, vocabulary, frames/s, conditioning) are "
            f"{other}, those of the student are {own}"
        )
    return made


def _speech(backbone: Backbone) -> tuple[object, ...]:
    conditioner = backbone.conditioner.fingerprint
    return backbone.num_codebooks, backbone.speech_vocab_size, backbone.frame_rate, conditioner
