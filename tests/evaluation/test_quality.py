"""Figures of spoken sentences, against small sums made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wand.data.example import Example
from wand.decoding.requests import Generation
from wand.decoding.stopping import StopReason
from wand.evaluation.quality import MetricMean, Take, counts, judge, metric_mean, summarise, won_back

TAKE = Take("a", "anna", 0, "one two", "one two", str(StopReason.STOP_TOKEN), 2.0, 2.0, 0, 7, 0, 2)


def take(name: str = "a", **changes) -> Take:
    return replace(TAKE, id=name, **changes)


def test_a_take_is_judged_by_what_was_heard():
    example = Example("a", "Odd, cat.", "anna", {}, torch.zeros(3, 100, dtype=torch.long))
    spoken = Generation(torch.zeros(3, 120, dtype=torch.long), torch.zeros(122, 3), StopReason.STOP_TOKEN)
    made = judge(example, spoken, "od cat cot", 1, 50.0)
    assert (made.seconds, made.recorded_seconds, made.duration) == (2.4, 2.0, 1.2)
    assert (made.wrong_letters, made.letters, made.wrong_words, made.words) == (5, 7, 2, 2)
    assert not (made.early)
    assert not (made.missing)
    assert not (made.looped)


@pytest.mark.parametrize(
    ("ended", "seconds", "found"),
    [
        (StopReason.STOP_TOKEN, 1.0, "early"),
        (StopReason.STOP_TOKEN, 3.0, "missing"),
        (StopReason.LENGTH, 2.0, "missing"),
        (StopReason.SILENCE, 2.0, "missing"),
        (StopReason.LOOP, 4.0, "looped"),
        (StopReason.STOP_TOKEN, 2.0, None),
    ],
)
def test_endings(ended, seconds, found):
    made = take(ended=str(ended), seconds=seconds)
    assert [name for name in ("early", "missing", "looped") if getattr(made, name)] == [found] * (found is not None)


def test_figures_of_a_system():
    takes = [
        take("a", wrong_letters=1, wrong_words=1),
        take("a", seed=1, seconds=1.0),
        take("b", recorded_seconds=4.0, seconds=5.0, wrong_letters=2, wrong_words=1),
        take("c", recorded_seconds=9.0, seconds=9.0, ended=str(StopReason.LOOP)),
        take("d", speaker="iris", wrong_letters=7, wrong_words=2),
    ]
    quality = summarise(takes, frozenset({"iris"}))
    assert (quality.sentences, quality.takes) == (3, 4)
    assert quality.cer == pytest.approx(3 / 28)
    assert quality.wer == pytest.approx(2 / 8)
    assert quality.cer_unseen == 1.0
    assert quality.cer_by_length == {"< 3 s": 1 / 14, "3-6 s": 2 / 7, "> 6 s": 0.0}
    assert quality.duration == pytest.approx(17 / 17)
    assert (quality.early, quality.missing, quality.loops) == (0.25, 0.0, 0.25)
    assert quality.cer_interval[0] <= quality.cer <= quality.cer_interval[1]


def test_where_every_voice_is_unseen_all_count():
    quality = summarise([take("a", wrong_letters=7)], frozenset({"anna"}))
    assert (quality.cer, quality.cer_unseen) == (1.0, None)


def test_seeds_of_a_sentence_are_resampled_together():
    rows = counts([take("b", wrong_letters=3), take("a"), take("b", seed=1, wrong_letters=2)])
    assert rows.tolist() == [[0, 7, 0, 2], [5, 14, 0, 4]]


def test_won_back_is_a_share_of_what_was_lost():
    names = [f"s{i}" for i in range(20)]
    teacher = [take(name, wrong_letters=1) for name in names]
    untrained = [take(name, wrong_letters=5) for name in names]
    student = [take(name, wrong_letters=2) for name in names]
    share, (low, high) = won_back(teacher, untrained, student)
    assert share == low == high == pytest.approx(0.75)
    assert won_back(teacher, teacher, student) is None


def test_won_back_leaves_unseen_voices_out():
    kept = [[take(name, wrong_letters=count) for name in ("a", "b")] for count in (1, 5, 1)]
    with_iris = [[*part, take("z", speaker="iris", wrong_letters=i)] for i, part in enumerate(kept)]
    assert won_back(*with_iris, frozenset({"iris"}))[0] == 1.0


def test_where_every_voice_is_unseen_all_are_won_back():
    parts = [[take(name, wrong_letters=count) for name in ("a", "b")] for count in (1, 5, 2)]
    found = won_back(*parts, frozenset({"anna"}))
    assert found == won_back(*parts)
    assert found[0] == pytest.approx(0.75)


def test_one_sentence_has_no_interval():
    alone = [take("a", wrong_letters=2, metrics={"f0": 3.0}), take("a", seed=1, wrong_letters=1, metrics={"f0": 4.0})]
    quality = summarise(alone)
    assert (quality.cer, quality.cer_interval, quality.wer_interval) == (3 / 14, None, None)
    assert quality.metrics == {"f0": MetricMean(3.5, None)}
    assert won_back([take("a")], [take("a", wrong_letters=5)], [take("a")]) is None


def test_the_mean_of_a_metric_resamples_sentences():
    takes = [
        take("a", metrics={"f0": 1.0}),
        take("a", seed=1, metrics={"f0": 2.0}),
        take("b", metrics={"f0": 6.0}),
        take("c", metrics={"f0": None}),
    ]
    made = metric_mean(takes, "f0")
    assert made.mean == pytest.approx(3.0)
    # Both sentences, or one of them twice: 3, 1.5 or 6.
    assert made.interval == (pytest.approx(1.5), pytest.approx(6.0))
    assert metric_mean(takes[3:], "f0") is None
    assert summarise(takes).metrics == {"f0": made}
