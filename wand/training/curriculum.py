"""The window curriculum as pure functions of the share of training done (WAND, section 2).

W falls from W_start to W on a cosine. tau rises from soft to hard by log interpolation. Nothing here keeps state: the
same step always gives the same window, so a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wand.attention.window import AttentionWindow, Windows
from wand.checks import check_number, check_whole_number

# Windows move in steps of 8 columns, so that compiled kernels see a handful of sizes.
GRANULARITY = 8


@dataclass(frozen=True)
class WindowSchedule:
    """How the training window narrows to the final window, and how its mask changes from soft to hard.

    Args:
        start: W_start, the window size at the first step, in speech columns (paper: 128).
        tau_start: tau at the first step. tau is subtracted from the logits outside the window, so a small tau lets
            gradients flow from there (the paper gives no value).
        tau_end: tau at the end of the soft phase (the paper gives no value).
        hard_from: The mask is hard, as in inference, once tau reaches this value.
        final_share: Share of the training steps, at the end, that run under the final window with a hard mask, in
            ``[0, 1)``.

    Raises:
        ValueError: If `start` or `tau_start` is not positive, tau falls, or `final_share` is outside [0, 1).
    """

    start: int = 128
    tau_start: float = 0.5
    tau_end: float = 16.0
    hard_from: float = 10.0
    final_share: float = 0.1

    def __post_init__(self) -> None:
        where = "curriculum.schedule"
        check_whole_number(f"{where}.start", self.start, least=1, hint="it is the first window, in columns")
        check_number(f"{where}.tau_start", self.tau_start, "(0, inf)", "tau is interpolated on a log scale")
        check_number(f"{where}.tau_end", self.tau_end, "(0, inf]", "tau is interpolated on a log scale")
        check_number(f"{where}.hard_from", self.hard_from, "[-inf, inf]", "it is a value of tau")
        check_number(f"{where}.final_share", self.final_share, "[0, 1)", "it is a share of the training steps")
        if self.tau_start > self.tau_end:
            raise ValueError(
                f"curriculum.schedule.tau_start {self.tau_start} exceeds tau_end {self.tau_end}: the mask goes from "
                f"soft (small tau) to hard; swap them"
            )

    def check(self, windows: Windows) -> None:
        """Check that this schedule can narrow to the final window.

        Raises:
            ValueError: If the final window is larger than the first.
        """
        if windows.largest is not None and self.start < windows.largest:
            raise ValueError(
                f"curriculum.schedule.start {self.start} is smaller than the final window {windows.largest}: "
                f"the window can only narrow, so give start >= {windows.largest}"
            )

    def at(self, step: int, total_steps: int, windows: Windows) -> Windows:
        """The windows at a training step. Each layer narrows to its own final window.

        Args:
            step: Optimiser steps done.
            total_steps: Optimiser steps of the whole training.
            windows: The final windows; full attention stays full throughout.
        """
        if windows.is_full:
            return windows
        progress = schedule_progress(step, total_steps, self.final_share)
        if progress >= 1:
            return windows
        tau = tau_at(progress, self.tau_start, self.tau_end)
        softness = None if tau >= self.hard_from else tau

        def narrow(window: AttentionWindow) -> AttentionWindow:
            assert window.size is not None
            return AttentionWindow(size_at(progress, self.start, window.size), softness)

        return windows.map(narrow)


def schedule_progress(step: int, total_steps: int, final_share: float) -> float:
    """Progress of the narrowing, from 0 to 1; it is 1 during the last `final_share` of the steps."""
    narrowing = max(1, math.floor(total_steps * (1 - final_share)))
    return min(1.0, max(0.0, step / narrowing))


def size_at(progress: float, start: int, end: int) -> int:
    """W(t) on the cosine from `start` to `end`, rounded to end + a multiple of 8."""
    cosine = end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))
    return min(start, max(end, end + GRANULARITY * round((cosine - end) / GRANULARITY)))


def tau_at(progress: float, start: float, end: float) -> float:
    """tau(t), interpolated between `start` and `end` on a log scale."""
    return start * (end / start) ** progress
