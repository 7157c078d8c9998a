"""Charts as numbers that the page draws: horizontal bars in HTML, lines in SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Size of a line chart and its margins for labels, in the units of its viewBox.
WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 34
# A curve with few points shows each of them.
FEW = 30


@dataclass(frozen=True)
class Bar:
    """One bar.

    Args:
        name: What it stands for.
        kind: Chooses its colour: the kind of a system.
        value: Its length, in the unit of the chart.
        text: The value in words, with its interval.
        interval: Lower and upper bound; None if there are none.
    """

    name: str
    kind: str
    value: float
    text: str
    interval: tuple[float, float] | None = None

    @property
    def end(self) -> float:
        """The right end of the bar or of its interval."""
        return self.value if self.interval is None else max(self.value, self.interval[1])


@dataclass(frozen=True)
class BarChart:
    """Groups of bars on one scale that starts at zero.

    Args:
        title: What is shown, with its unit.
        groups: Name and bars of every group. The name may be empty.
        source: The file that holds the numbers.
    """

    title: str
    groups: Sequence[tuple[str, Sequence[Bar]]]
    source: str

    def place(self, value: float) -> float:
        """A value as a percentage of the width."""
        longest = max((bar.end for _, bars in self.groups for bar in bars), default=0.0)
        return round(100 * max(0.0, value) / longest, 2) if longest > 0 else 0.0


@dataclass(frozen=True)
class Curve:
    """A quantity over the steps of a training.

    Args:
        name: Name of the quantity.
        points: Steps and values, in their order.
    """

    name: str
    points: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class LineChart:
    """Curves over the steps of a training.

    Args:
        title: What is shown, with its unit.
        curves: The curves; at least one of them has a point.
        source: The files that hold the numbers.
    """

    title: str
    curves: Sequence[Curve]
    source: str

    @property
    def words(self) -> str:
        """The chart in words."""
        parts = []
        for curve in self.curves:
            (first, begin), (last, end) = curve.points[0], curve.points[-1]
            said = f"{begin:.4g} at step {first}"
            parts.append(f"{curve.name}: {said}" + (f", {end:.4g} at step {last}" if last != first else ""))
        return f"{self.title}. {'; '.join(parts)}."

    @property
    def last(self) -> int:
        """The last step, where the horizontal axis ends."""
        return max(1, *(step for curve in self.curves for step, _ in curve.points))

    @property
    def steps(self) -> list[float]:
        """Ticks of the horizontal axis."""
        return [step for step in ticks(0, self.last) if step <= self.last]

    @property
    def values(self) -> list[float]:
        """Ticks of the vertical axis."""
        values = [value for curve in self.curves for _, value in curve.points]
        return ticks(min(values), max(values))

    def x(self, step: float) -> float:
        """Horizontal place of a step."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / self.last, 1)

    def y(self, value: float) -> float:
        """Vertical place of a value."""
        low, *_, high = self.values
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    def path(self, curve: Curve) -> str:
        """The points of a curve, as SVG has them."""
        return " ".join(f"{self.x(step)},{self.y(value)}" for step, value in curve.points)

    def dots(self, curve: Curve) -> Sequence[tuple[int, float]]:
        """The points that are shown one by one."""
        return curve.points if len(curve.points) <= FEW else ()


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers whose first and last enclose `low` and `high`."""
    if low == high:
        low, high = (0.0, 1.0) if low == 0 else sorted((0.0, low))
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]
