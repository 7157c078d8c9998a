"""The measurement of the voice: its lists, its tables, and whole runs at tiny size."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from benchmarks.voice.__main__ import main
from benchmarks.voice.sentences import CLASSES, DEMO_SIZES, FOLDER, length_class, read_list
from benchmarks.voice.stages import speak
from benchmarks.voice.tables import Table, count, make_table
from tests.workplace import Workplace
from wand.demo.corpus import VOICES, EspeakCorpus, split_of

DEMO, EVERYDAY = FOLDER / "demo.txt", FOLDER / "everyday.txt"


def test_the_lists_never_change() -> None:
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (DEMO, EVERYDAY)]
    assert digests == [
        "bda6b95fa314e817f4fb3353e2b593bd258b1786a8066aa61586a3853f5e01d3",
        "1dbc3197cc0fa1ee320923659eaf7956ef979ac57ced68c1bfa5819012a4ca48",
    ]


def test_demo_sentences_are_test_sentences_of_every_length() -> None:
    texts = DEMO.read_text().splitlines()
    assert len(set(texts)) == len(texts) == sum(DEMO_SIZES) == 400
    assert {split_of(text) for text in texts} == {"test"}
    begin = 0
    for name, size in zip(CLASSES, DEMO_SIZES, strict=True):
        assert {length_class(text) for text in texts[begin : begin + size : 33]} == {name}
        begin += size


def test_voices_take_turns_also_in_a_part_of_a_list() -> None:
    for limit, chosen in ((None, 200), (50, 50)):
        lines = read_list(EVERYDAY, ["a", "b", "c", "d"], limit)
        assert len(lines) == chosen
        assert [line.voice for line in lines] == ["a", "b", "c", "d"] * (chosen // 4) + ["a", "b"] * (chosen % 4 // 2)
        texts = EVERYDAY.read_text().splitlines()
        assert [texts[line.number] for line in lines] == [line.text for line in lines]
        assert len({line.name for line in lines}) == chosen


def test_a_voice_of_the_demo_speaks_as_in_its_corpus() -> None:
    utterance = EspeakCorpus(0.01).utterances("test")[1]
    assert torch.equal(speak(utterance.text, VOICES[1].name), EspeakCorpus(0.01).audio(utterance))
    with pytest.raises(ValueError, match=r"no voice 'nobody': known are .*anna"):
        speak("yes.", "nobody")


def test_wrong_words_are_capped_at_the_words_of_the_sentence() -> None:
    counts = count(["A cat sat.", "two dogs"], ["a hat", "no no no no no no"])
    assert counts[:, :2].tolist() == [[2, 3], [2, 2]]
    assert counts[0, 2:].tolist() == [5, 9]  # "a cat sat", "a hat"
    assert counts[1, 2] > counts[1, 3]


HEARD = {
    "original": ["the cat sat down"] * 4,
    "codec": ["the cat sat"] * 4,
    "teacher": ["the cat sat", "the cat", "the cat sat", "the cat sat"],
    "untrained-8": ["the cat", "the", "", ""],
    "student": ["the cat sat", "the cat", "the cat", "the cat"],
}


def figures(table: Table) -> dict[str, dict[str, float | None]]:
    return {row.title: {k: None if v is None else v.value for k, v in row.wer.items()} for row in table.rows}


def test_differences_and_shares_are_those_of_a_calculation_by_hand() -> None:
    made = make_table("ear", ["the cat sat down"] * 4, [CLASSES[0], CLASSES[0], CLASSES[2], CLASSES[2]], HEARD)
    assert made.sentences == {"all": 4, "< 3 s": 2, "> 6 s": 2}
    found = figures(made)
    wrong = {"original": 0, "codec": 4, "teacher": 5, "untrained-8": 13, "student": 7}
    for stage, words in wrong.items():
        assert found[stage]["all"] == pytest.approx(100 * words / 16)
    assert found["codec - original"] == pytest.approx({"all": 25, "< 3 s": 25, "> 6 s": 25})
    assert found["teacher - original"] == pytest.approx({"all": 100 * 5 / 16, "< 3 s": 37.5, "> 6 s": 25})
    assert found["student - teacher"] == pytest.approx({"all": 100 * 2 / 16, "< 3 s": 0, "> 6 s": 25})
    assert found["untrained-8 - teacher"] == pytest.approx({"all": 50, "< 3 s": 25, "> 6 s": 75})
    assert found["% of untrained-8 won back"] == pytest.approx({"all": 75, "< 3 s": 100, "> 6 s": 200 / 3})
    lines = made.to_markdown().splitlines()
    assert lines[0].startswith("| heard by ear | WER % all (4) | WER % < 3 s (2) | WER % > 6 s (2) |")
    assert len(lines) == 2 + 5 + 4 + 1


def test_differences_are_paired() -> None:
    """The sentences differ much, the systems always by one word: only an interval of pairs has no width."""
    texts = ["the cat sat down"] * 8
    first = ["the cat sat down"] * 4 + ["the"] * 4
    made = make_table("ear", texts, [CLASSES[0]] * 8, {"original": first, "codec": [f"no {text}" for text in first]})
    rows = {row.title: row.wer["all"] for row in made.rows}
    assert rows["codec - original"].interval == pytest.approx((25, 25))
    low, high = rows["original"].interval
    assert high - low > 20


def test_without_a_loss_there_is_no_share() -> None:
    heard = HEARD | {"untrained-8": HEARD["teacher"]}
    made = make_table("ear", ["the cat sat down"] * 4, [CLASSES[0]] * 4, heard)
    assert figures(made)["% of untrained-8 won back"]["all"] is None
    assert "| % of untrained-8 won back | - |" in made.to_markdown()


TEXTS = ["yes.", "the moon is very cold.", "they sold the map."]
EARS = ["--recogniser", "embedded", "--recogniser", "tests.recognition.test_named.Loudness:words/loud"]


def test_a_list_goes_through_every_stage_once(run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "three.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    out = tmp_path / "out"
    options = ["--sentences", str(tmp_path / "three.txt"), "--out", str(out), "--voices", "anna", "brian"]
    main([*options, "--recogniser", "embedded"])
    first = json.loads((out / "voice.json").read_text())
    assert list(first["stages"]) == ["original", "codec"]
    before = {file: file.stat().st_mtime_ns for file in out.glob("three/*/*.flac")}
    assert len(before) == 2 * len(TEXTS)

    # The rest is added; a take that is lost is made again, and a transcript that is there stays as it is.
    lost = out / "three" / "codec" / "001-brian.flac"
    lost.unlink()
    heard = out / "three" / "original" / "heard-by-embedded.json"
    there = json.loads(heard.read_text())
    assert set(there) == {"000-anna", "001-brian", "002-anna"}
    heard.write_text(json.dumps(dict(zip(sorted(there), ["no no no", *TEXTS[1:]], strict=True))))
    main([*options, *EARS, "--run", "runs/quickstart", "--windows", "4"])
    again = {file: file.stat().st_mtime_ns for file in before}
    assert [file for file in before if again[file] != before[file]] == [lost]
    made = json.loads((out / "voice.json").read_text())
    stages = ["original", "codec", "teacher", "untrained-4", "student"]
    assert list(made["stages"]) == stages
    embedded, loud = made["three"]
    assert [embedded["ear"], loud["ear"]] == ["embedded", "loud"]
    assert [row["title"] for row in embedded["rows"]][: len(stages)] == stages
    assert embedded["rows"][0]["wer"]["all"]["value"] == pytest.approx(100 / 10)  # "no no no" for "yes", capped
    assert loud["rows"][0]["wer"]["all"]["value"] == 100
    printed = capsys.readouterr().out
    assert "| heard by embedded |" in printed
    assert (out / "voice.md").read_text().endswith(printed.rpartition("## three")[2].rstrip("\n") + "\n")
    assert (out / "three" / "spectrograms.png").is_file()

    with pytest.raises(ValueError, match="give another --out"):
        main([*options[:-1], "frank"])
