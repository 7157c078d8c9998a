"""The numbers of charts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wand.report.charts import BOTTOM, FEW, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Bar, BarChart, Curve, LineChart, ticks
from wand.report.curves import POINTS, thinned

NUMBERS = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(NUMBERS, NUMBERS)
def test_ticks_enclose_the_values_at_equal_distances(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if 0 < high - low < 1e-6 * max(abs(low), abs(high)):
        return
    marks = ticks(low, high)
    slack = 1e-6 * (marks[-1] - marks[0])
    assert marks[0] <= low + slack
    assert marks[-1] >= high - slack
    steps = [after - before for before, after in pairwise(marks)]
    assert 1 <= len(steps) <= 6
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3)


def test_ticks_are_round() -> None:
    assert ticks(0, 99) == [0, 25, 50, 75, 100]
    assert ticks(0.061, 0.093) == [0.06, 0.07, 0.08, 0.09, 0.1]
    assert ticks(3, 3) == [0, 1, 2, 3]
    assert ticks(0, 0) == [0, 0.25, 0.5, 0.75, 1]


def test_bars_are_shares_of_the_longest_one_or_of_its_interval() -> None:
    bars = [Bar("a", "teacher", 5, "5"), Bar("b", "student", 2, "2 [1, 10]", (1, 10))]
    chart = BarChart("title", [("", bars)], "file")
    assert [chart.place(value) for value in (0, 1, 5, 10)] == [0, 10, 50, 100]
    assert BarChart("title", [("", [Bar("a", "teacher", 0, "0")])], "file").place(0) == 0


def test_lines_stay_inside_the_frame() -> None:
    chart = LineChart("title", [Curve("a", [(0, 1.0), (10, 3.0)]), Curve("b", [(5, 2.0)])], "file")
    assert (chart.x(0), chart.x(10)) == (LEFT, WIDTH - RIGHT)
    assert (chart.y(1), chart.y(3)) == (HEIGHT - BOTTOM, TOP)
    assert chart.path(chart.curves[1]) == f"{(LEFT + WIDTH - RIGHT) / 2},{(TOP + HEIGHT - BOTTOM) / 2}"
    assert chart.words == "title. a: 1 at step 0, 3 at step 10; b: 2 at step 5."
    only = LineChart("title", [Curve("a", [(0, 0.0)])], "file")
    assert only.path(only.curves[0]) == f"{LEFT:.1f},{HEIGHT - BOTTOM:.1f}"


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    points = [(step, float(step)) for step in range(10 * POINTS + 3)]
    kept = thinned(points)
    assert len(kept) <= POINTS + 1
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert thinned(points[:1]) == points[:1]
    assert list(thinned(points[:POINTS])) == points[:POINTS]
    chart = LineChart("title", [Curve("a", points[:FEW]), Curve("b", points[: FEW + 1])], "file")
    assert [len(chart.dots(curve)) for curve in chart.curves] == [FEW, 0]
