"""The systems that a test compares: weights and the window under which they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Literal

from wand.attention import AttentionWindow, Windows
from wand.model.backbone import Backbone

# Recordings that were encoded and decoded, beside the systems that speak.
RECORDED: Final = "recorded"

Weights = Callable[[], AbstractContextManager[Backbone]]
"""Gives the model of a system inside a ``with`` block, because a teacher may be the student without its adapters."""


@dataclass(frozen=True, slots=True)
class ComparedSystem:
    """One system of a test, and one row of its table.

    Args:
        name: ``teacher``, ``untrained``, ``untrained-16`` ..., ``student`` or ``student-full``.
        weights: Whether the system has the teacher's or the student's weights.
        window: The hard window under which the weights run.
    """

    name: str
    weights: Literal["teacher", "student"]
    window: Windows

    @property
    def kind(self) -> str:
        """The name without the size of the window."""
        return "untrained" if self.name.startswith("untrained-") else self.name

    @property
    def meaning(self) -> str:
        """The system in words."""
        if self.name == "teacher":
            return "the original model, full attention"
        if self.name == "student-full":
            return "the student with full attention: it was not trained for this, and it saves nothing"
        return "adapted to the window" if self.weights == "student" else "the original weights under a window"


def compared_systems(
    window: Windows, with_teacher: bool, other_windows: Sequence[int] = (), student_full: bool = False
) -> tuple[ComparedSystem, ...]:
    """The teacher, its weights under windows without training, and the student.

    Args:
        window: The student's window.
        with_teacher: Whether there is a teacher.
        other_windows: Further window sizes for the untrained weights.
        student_full: Whether the student is also run without its window.
    """
    systems = []
    if with_teacher:
        systems.append(ComparedSystem("teacher", "teacher", AttentionWindow()))
        if not window.is_full:
            systems.append(ComparedSystem("untrained", "teacher", window))
        others = sorted({size for size in other_windows if size != window.plain})
        systems += [ComparedSystem(f"untrained-{size}", "teacher", AttentionWindow(size)) for size in others]
    systems.append(ComparedSystem("student", "student", window))
    if student_full and not window.is_full:
        systems.append(ComparedSystem("student-full", "student", AttentionWindow()))
    return tuple(systems)
