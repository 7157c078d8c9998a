"""What a test compares: weights and the window they run under."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from wand.attention import AttentionWindow, Windows
from wand.backbone import Backbone

Weights = Callable[[], AbstractContextManager[Backbone]]
"""Gives the model of a system, to be run inside a ``with`` block: a teacher may be the student without its adapters."""


@dataclass(frozen=True, slots=True)
class ComparedSystem:
    """One row of a table.

    Args:
        name: ``teacher``, ``untrained``, ``untrained-16`` ..., ``student`` or ``student-full``.
        weights: Whose weights run.
        window: The hard window they run under.
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
            return "the student without its window: a regime it was not trained for, with no saving"
        return "adapted to the window" if self.weights == "student" else "the original weights under a window"


def compared_systems(
    window: Windows, with_teacher: bool, other_windows: Sequence[int] = (), student_full: bool = False
) -> tuple[ComparedSystem, ...]:
    """Teacher, the same weights untrained under windows, student.

    Args:
        window: The student's.
        with_teacher: Whether there is a teacher.
        other_windows: Sizes at which the untrained weights are shown besides.
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
