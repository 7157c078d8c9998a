"""The teacher: a frozen full-attention model that the windowed student imitates.

It is always in eval mode, gets no gradient and is in no checkpoint.
"""

from __future__ import annotations

import copy

from wand.backbone import Backbone
from wand.checkpoints import load_backbone_and_settings

COPY = "copy"


def build_teacher(teacher: str, student: Backbone) -> Backbone:
    """The teacher of a student that holds its original weights.

    Args:
        teacher: ``copy`` for a frozen copy of the student as it is now, else a run folder or checkpoint file of wand
            whose student is to teach (made with the same codec and vocabulary).
        student: The model to be adapted.

    Raises:
        ValueError: If the checkpoint speaks other codes than the student.
    """
    made = copy.deepcopy(student) if teacher == COPY else _from_checkpoint(teacher, student)
    return made.eval().requires_grad_(False)


def _from_checkpoint(path: str, student: Backbone) -> Backbone:
    made, _ = load_backbone_and_settings(path)
    own, other = _speech(student), _speech(made)
    if own != other:
        raise ValueError(
            f"teacher {path} speaks (codebooks, vocabulary, frames/s, conditioning) {other}, the student {own}"
        )
    return made


def _speech(backbone: Backbone) -> tuple[object, ...]:
    conditioner = backbone.conditioner.fingerprint
    return backbone.num_codebooks, backbone.speech_vocab_size, backbone.frame_rate, conditioner
