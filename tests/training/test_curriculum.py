"""The window over the steps of a training."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wand.attention import AttentionWindow, LayerWindows
from wand.training.curriculum import WindowSchedule

totals = st.integers(2, 400)
windows = st.integers(1, 128)


def course(schedule: WindowSchedule, total: int, window: int | None) -> list[AttentionWindow]:
    return [schedule.at(step, total, AttentionWindow(window)) for step in range(total)]


@given(totals, windows)
def test_sizes_fall_from_start_to_end_in_eights(total, window):
    sizes = [w.size for w in course(WindowSchedule(), total, window)]
    assert 124 <= sizes[0] <= 128
    assert sizes[-1] == window
    assert sizes == sorted(sizes, reverse=True)
    assert all(window <= size <= 128 for size in sizes)
    assert all(size == 128 or (size - window) % 8 == 0 for size in sizes)


@given(totals, windows)
def test_sizes_follow_the_cosine(total, window):
    schedule = WindowSchedule(final_share=0)
    for step, at in enumerate(course(schedule, total, window)):
        cosine = window + (128 - window) * (1 + math.cos(math.pi * step / total)) / 2
        assert abs(at.size - cosine) <= 4 + 1e-9


@given(totals, windows, st.sampled_from([0.1, 0.25, 0.5]))
def test_the_last_share_of_the_steps_is_the_final_hard_window(total, window, share):
    last = math.floor(total * share)
    for at in course(WindowSchedule(final_share=share), total, window)[total - last :]:
        assert at == AttentionWindow(window)


@given(st.integers(20, 400), windows)
def test_tau_rises_on_a_log_scale_and_then_the_mask_is_hard(total, window):
    narrowing = math.floor(total * 0.9)
    for step, at in enumerate(course(WindowSchedule(), total, window)):
        tau = math.exp(math.log(0.5) + min(1, step / narrowing) * (math.log(16) - math.log(0.5)))
        if tau >= 10 + 1e-9:
            assert at.tau is None
        elif tau < 10 - 1e-9:
            assert at.tau == pytest.approx(tau)


def test_endpoints():
    schedule = WindowSchedule(start=64, tau_start=0.25, tau_end=8.0, hard_from=99.0, final_share=0.1)
    assert schedule.at(0, 100, AttentionWindow(16)) == AttentionWindow(64, 0.25)
    assert schedule.at(90, 100, AttentionWindow(16)) == AttentionWindow(16)
    assert schedule.at(99, 100, AttentionWindow(16)) == AttentionWindow(16)
    assert schedule.at(10_000, 100, AttentionWindow(16)) == AttentionWindow(16)


def test_full_attention_has_no_curriculum():
    assert set(course(WindowSchedule(), 50, None)) == {AttentionWindow()}


def test_a_start_equal_to_the_end_stays():
    assert {w.size for w in course(WindowSchedule(start=20), 50, 20)} == {20}


@given(st.integers(0, 300), totals, windows)
def test_the_same_step_is_always_the_same_window(step, total, window):
    schedule = WindowSchedule()
    schedule.at(0, 7, AttentionWindow(3))
    final = AttentionWindow(window)
    assert schedule.at(step, total, final) == WindowSchedule().at(step, total, final)


@given(st.integers(0, 300), totals, st.lists(windows, min_size=2, max_size=4))
def test_each_layer_narrows_to_its_own_window(step, total, sizes):
    final = LayerWindows(tuple(AttentionWindow(size) for size in sizes))
    now = WindowSchedule().at(step, total, final)
    for layer, size in enumerate(sizes):
        assert now.of(layer) == WindowSchedule().at(step, total, AttentionWindow(size))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": 0}, "start 0"),
        ({"tau_start": 0.0}, "tau_start"),
        ({"tau_start": 16.0, "tau_end": 0.5}, "swap"),
        ({"final_share": 1.0}, "final_share"),
        ({"final_share": -0.1}, "final_share"),
    ],
    ids=lambda value: str(value),
)
def test_schedules_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        WindowSchedule(**settings)


def test_a_window_beyond_the_start_is_refused():
    schedule = WindowSchedule(start=32)
    schedule.check(AttentionWindow(32))
    schedule.check(AttentionWindow())
    with pytest.raises(ValueError, match="33"):
        schedule.check(AttentionWindow(33))
