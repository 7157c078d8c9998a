"""The tables of a test, against one written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from wand.attention import AttentionWindow, LayerWindows
from wand.evaluation.quality import MetricMean, SpeechQuality
from wand.evaluation.result import MetricColumn, Row, TestResult, WonBack
from wand.evaluation.result_files import read_result, write_result
from wand.evaluation.result_table import show, to_markdown
from wand.evaluation.systems import compared_systems

METRIC = MetricColumn("mcd", "MCD", "mel-cepstral distortion in dB", 1)


def speech(cer: float, mcd: float | None) -> SpeechQuality:
    return SpeechQuality(
        sentences=3,
        takes=6,
        cer=cer,
        cer_interval=(cer - 0.01, cer + 0.02),
        wer=2 * cer,
        wer_interval=(0.0, 0.5),
        cer_unseen=None,
        cer_by_length={"< 3 s": cer},
        duration=1.034,
        early=0.0,
        missing=0.25,
        loops=0.5,
        metrics={"mcd": None if mcd is None else MetricMean(mcd, (mcd - 1, mcd + 1))},
    )


@pytest.fixture
def result() -> TestResult:
    teacher, untrained, student = compared_systems(AttentionWindow(8), True)
    sizes = {4: 2**20, 60: 2**21}
    return TestResult(
        rows=(
            Row(teacher, 2.0, 1.0, 0.0, sizes, {200: 1.5}, speech(0.1, 5.0)),
            Row(untrained, 4.0, 0.5, 0.4, sizes, {200: 1.25}, speech(0.5, None)),
            Row(student, 2.5, 0.9, 0.1, sizes, {200: 1.25}, speech(0.2, 6.04)),
        ),
        won_back={"cer": WonBack(0.75, (0.5, 0.875)), "ce": WonBack(0.75)},
        metrics=(METRIC,),
        recogniser="embedded",
    )


SPOKEN = """\
| system | W | CER % [95 %] | WER % [95 %] | CER < 3 s | duration | early % | no stop % | loops % | MCD [95 %] |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| teacher | full | 10.0 [9.0, 12.0] | 20.0 [0.0, 50.0] | 10.0 | 1.03 | 0.0 | 25.0 | 50.0 | 5.0 [4.0, 6.0] |
| untrained | 8 | 50.0 [49.0, 52.0] | 100.0 [0.0, 50.0] | 50.0 | 1.03 | 0.0 | 25.0 | 50.0 | - |
| student | 8 | 20.0 [19.0, 22.0] | 40.0 [0.0, 50.0] | 20.0 | 1.03 | 0.0 | 25.0 | 50.0 | 6.0 [5.0, 7.0] |

"""
CODES = """\
| system | W | agree % | KL | CE | MiB 4 s | MiB 60 s | ms @200 |
| --- | --- | --- | --- | --- | --- | --- | --- |
| teacher | full | 100.0 | 0.0000 | 2.0000 | 1.00 | 2.00 | 1.50 |
| untrained | 8 | 50.0 | 0.4000 | 4.0000 | 1.00 | 2.00 | 1.25 |
| student | 8 | 90.0 | 0.1000 | 2.5000 | 1.00 | 2.00 | 1.25 |

"""


def test_markdown(result: TestResult) -> None:
    text = to_markdown(result)
    assert text.startswith(SPOKEN + CODES + "teacher: the original model, full attention; untrained: ")
    assert "MCD: mel-cepstral distortion in dB" in text
    assert "\n\nHeard by embedded. 3 sentences" in text
    share = "The student won back this share of what the untrained window lost: CER 75.0 [50.0, 87.5] %, CE 75.0 %."
    assert text.endswith(f"\n{share}\n")


def test_trained_voices_are_told_apart_only_from_others(result: TestResult) -> None:
    assert "3 sentences, 6 takes" in to_markdown(result)
    rows = [replace(row, speech=row.speech and replace(row.speech, cer_unseen=0.5)) for row in result.rows]
    assert "3 sentences in trained voices, 6 takes" in to_markdown(replace(result, rows=rows))


def test_one_sentence_has_no_brackets(result: TestResult, tmp_path: Path) -> None:
    alone = replace(speech(0.1, None), cer_interval=None, wer_interval=None, metrics={"mcd": MetricMean(5.0, None)})
    made = replace(result, rows=[replace(row, speech=alone) for row in result.rows], won_back={})
    assert "| teacher | full | 10.0 | 20.0 | 10.0 | 1.03 | 0.0 | 25.0 | 50.0 | 5.0 |" in to_markdown(made)
    write_result(made, tmp_path)
    assert [row.speech for row in read_result(tmp_path).rows] == [alone] * 3


def test_without_speech_there_is_one_table(result: TestResult) -> None:
    silent = TestResult(tuple(Row(r.system, r.ce, None, None, r.kv_bytes, r.step_ms) for r in result.rows), {})
    text = to_markdown(silent)
    assert text.startswith("| system | W | agree % | KL | CE |")
    assert "| student | 8 | - | - | 2.5000 |" in text
    assert "CER" not in text
    assert "won back" not in text


def test_the_console_shows_the_same_cells(result: TestResult, capsys: pytest.CaptureFixture[str]) -> None:
    show(result)
    printed = capsys.readouterr().out
    for line in (SPOKEN + CODES).splitlines():
        if line and "---" not in line:
            words = line.replace("|", " ").split()
            assert words in [shown.split() for shown in printed.splitlines()]
    assert "MCD: mel-cepstral distortion in dB" in printed
    assert "Test split: spoken, heard by embedded" in printed


def test_files_are_read_back(result: TestResult, tmp_path: Path) -> None:
    write_result(result, tmp_path)
    assert read_result(tmp_path) == result
    assert (tmp_path / "table.md").read_text() == to_markdown(result)


def test_windows_by_layer_are_read_back(result: TestResult, tmp_path: Path) -> None:
    windows = LayerWindows((AttentionWindow(4), AttentionWindow(8)))
    rows = tuple(Row(s, 1.0, None, None, {}, {}) for s in compared_systems(windows, True))
    layered = TestResult(rows, {})
    write_result(layered, tmp_path)
    assert read_result(tmp_path) == layered
    assert "| student | [4, 8] |" in to_markdown(layered)


def test_an_older_table_is_read(result: TestResult, tmp_path: Path) -> None:
    """As they were written before metrics could be added, and before the recogniser was named."""
    write_result(result, tmp_path)
    path = tmp_path / "table.json"
    content = json.loads(path.read_text())
    del content["metrics"], content["recogniser"]
    for row in content["rows"]:
        del row["speech"]["metrics"]
    path.write_text(json.dumps(content))
    read = read_result(tmp_path)
    assert read.metrics == ()
    assert read.recogniser is None
    assert [row.speech.cer for row in read.rows] == [0.1, 0.5, 0.2]


def test_a_folder_without_a_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no table\.json in"):
        read_result(tmp_path)
