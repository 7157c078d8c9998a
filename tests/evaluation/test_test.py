"""A test of systems, without a Trainer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tests.evaluation import tiny_test
from tests.evaluation.extra_metrics import ExtraSeconds, TooFewValues
from tests.processes import end, start
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.benchmark.cost import cache_bytes
from wand.evaluation.quality import error_rate
from wand.evaluation.result import Row, TestResult
from wand.evaluation.systems import ComparedSystem
from wand.evaluation.test import ComparisonTest, Speeches, won_back_codes


def first_model(test: ComparisonTest) -> EncodecLM:
    return tiny_test.model_of(next(iter(test.systems.values())))


@pytest.fixture(scope="module")
def tested() -> tuple[ComparisonTest, TestResult, Speeches]:
    test = tiny_test.make_test()
    result, speeches = test.run(tiny_test.batches(first_model(test), list(test.examples)))
    assert speeches is not None
    return test, result, speeches


def test_every_system_is_measured_on_recorded_speech(tested) -> None:
    """Against a loop over sentences and labels."""
    test, result, _ = tested
    teacher = first_model(test)
    for row, (system, weights) in zip(result.rows, test.systems.items(), strict=True):
        assert row.system == system
        model = tiny_test.model_of(weights)
        ce, same, kl, count = 0.0, 0, 0.0, 0
        for batch in tiny_test.batches(model, list(test.examples)):
            with torch.no_grad():
                own = model(batch, system.window)[0, -batch.labels.shape[1] :].log_softmax(-1).double()
                expected = teacher(batch, AttentionWindow())[0, -batch.labels.shape[1] :].log_softmax(-1).double()
            for i, labels in enumerate(batch.labels[0].tolist()):
                for k, label in enumerate(labels):
                    if label >= 0:
                        count += 1
                        ce -= float(own[i, k, label])
                        same += int(own[i, k].argmax() == expected[i, k].argmax())
                        kl += float(functional.kl_div(own[i, k], expected[i, k], log_target=True, reduction="sum"))
        assert row.ce == pytest.approx(ce / count, rel=1e-5)
        assert row.agreement == pytest.approx(same / count)
        assert row.kl == pytest.approx(kl / count, rel=1e-4, abs=1e-6)


def test_costs_are_those_of_the_window(tested) -> None:
    test, result, _ = tested
    student = tiny_test.model_of(list(test.systems.values())[-1])
    prefix = sorted(student.conditioner.length(example.conditioning) for example in test.examples)[2]
    for row in result.rows:
        expected = {s: cache_bytes(student, prefix, s, row.system.window) for s in (4, 60)}
        assert (row.kv_bytes, row.step_ms) == (expected, {})


def test_what_is_spoken(tested) -> None:
    _, result, speeches = tested
    assert list(speeches.takes) == ["teacher", "untrained", "untrained-4", "student"]
    assert list(speeches.sounds) == ["recorded", *speeches.takes]
    assert all(len(sounds) == len(speeches.kept) == 2 for sounds in speeches.sounds.values())
    for row in result.rows:
        takes = speeches.takes[row.system.name]
        assert len(takes) == 5 * (1 if row.system.name == "untrained-4" else 2)
        assert row.speech is not None
        assert row.speech.cer == error_rate([take for take in takes if take.speaker != "iris"])
        assert row.speech.cer_unseen == error_rate([take for take in takes if take.speaker == "iris"])


def test_a_metric_hears_what_was_spoken_beside_the_recording(tested) -> None:
    _, result, speeches = tested
    for row in result.rows:
        takes = speeches.takes[row.system.name]
        for take in takes:
            assert take.metrics == {"extra_seconds": pytest.approx(take.seconds - take.recorded_seconds, abs=1e-3)}
        seen = [take.metrics["extra_seconds"] for take in takes if take.speaker != "iris"]
        mean = row.speech.metrics["extra_seconds"]
        assert mean.mean == pytest.approx(sum(seen) / len(seen))
        assert mean.interval[0] <= mean.mean <= mean.interval[1]


def test_a_result_survives_json(tested) -> None:
    _, result, _ = tested
    assert TestResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_several_processes_find_the_same(tested, tmp_path: Path) -> None:
    _, result, speeches = tested
    logs = tmp_path / "logs"
    statuses = end(start(tiny_test.run_share, (2, tmp_path), [{}, {}], logs))
    assert statuses == [0, 0], [log.read_text() for log in logs.iterdir()]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    takes = {name: [[t.id, t.seed, t.metrics] for t in own] for name, own in speeches.takes.items()}
    assert first["takes"] == takes
    shared = TestResult.from_json(first["result"])
    for own, alone in zip(shared.rows, result.rows, strict=True):
        assert own.ce == pytest.approx(alone.ce, rel=1e-6)
        assert own.agreement == pytest.approx(alone.agreement)
        assert own.kl == pytest.approx(alone.kl, rel=1e-5, abs=1e-7)
        assert own.speech == alone.speech


def test_without_a_recogniser_nothing_is_spoken() -> None:
    own = tiny_test.systems()
    lm = tiny_test.model_of(next(iter(own.values())))
    test = ComparisonTest(own, tiny_test.examples(lm), columns=(3,), seconds=(1,))
    result, speeches = test.run(tiny_test.batches(lm, list(test.examples)))
    assert speeches is None
    assert all(row.speech is None and row.step_ms[3] > 0 for row in result.rows)
    assert set(result.won_back) == {"agreement", "kl", "ce"}


def test_a_teacher_may_share_the_students_weights(tested) -> None:
    """The model of a system holds its weights inside the block alone, and blocks are not nested."""
    test, result, speeches = tested
    models = tiny_test.models()
    shared = tiny_test.models()["student"]
    inside = False

    @contextmanager
    def weights(name: str) -> Iterator[EncodecLM]:
        nonlocal inside
        assert not inside
        inside = True
        shared.load_state_dict(models[name].state_dict())
        yield shared
        inside = False

    one = tiny_test.make_test()
    one.systems = {system: partial(weights, system.weights) for system in test.systems}
    # Heads are read after the block, so that adapters never touch them.
    means = {row.system.name: {"ce": row.ce, "agreement": row.agreement, "kl": row.kl} for row in result.rows}
    again, spoken = one.complete(means)
    assert again == result
    assert spoken is not None
    assert spoken.takes == speeches.takes


def test_a_metric_with_too_few_values_is_named() -> None:
    test = tiny_test.make_test(sentences=2)
    test.metrics = [TooFewValues()]
    with pytest.raises(ValueError, match="'too_few' returned 1 values for 2 sentences"):
        test.run(tiny_test.batches(first_model(test), list(test.examples[:1])))


def test_two_metrics_of_one_name_are_refused() -> None:
    own = tiny_test.systems()
    with pytest.raises(ValueError, match="two metrics are named 'extra_seconds'"):
        ComparisonTest(own, [], metrics=[ExtraSeconds(), ExtraSeconds(2.0)])


def row(name: str, ce: float, agreement: float, kl: float) -> Row:
    return Row(ComparedSystem(name, "student", AttentionWindow()), ce, agreement, kl, {}, {})


def test_what_is_won_back_on_recorded_speech() -> None:
    rows = [row("teacher", 2.0, 1.0, 0.0), row("untrained", 4.0, 0.5, 0.4), row("student", 2.5, 0.9, 0.1)]
    shares = {name: won.share for name, won in won_back_codes(rows).items()}
    assert shares == {"agreement": pytest.approx(0.8), "kl": pytest.approx(0.75), "ce": pytest.approx(0.75)}
    assert won_back_codes(rows[1:]) == {}
    assert "ce" not in won_back_codes([rows[0], row("untrained", 2.0, 0.5, 0.4), rows[2]])


@pytest.mark.filterwarnings("ignore:.*sentences are not spoken")
def test_a_sentence_without_words_does_not_end_a_test() -> None:
    test = tiny_test.make_test()
    own = list(test.examples)
    lm = first_model(test)
    test.systems = dict(list(test.systems.items())[:1])
    test.size = replace(test.size, seeds=1)
    test.examples = [replace(example, text="?!") if example.id == "u1" else example for example in own]
    _, speeches = test.run(tiny_test.batches(lm, own))
    assert speeches is not None
    assert [take.id for take in speeches.takes["teacher"]] == ["u0", "u2", "u3", "u4"]
    test.examples = [replace(example, text="?!") for example in own]
    result, speeches = test.run(tiny_test.batches(lm, own))
    assert speeches is None
    assert result.rows[0].speech is None
