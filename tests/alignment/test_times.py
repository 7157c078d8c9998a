"""Times of words in seconds, and files of them that other programs read."""

from __future__ import annotations

import html
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import TINY
from wand.alignment.times import (
    LINE,
    SECONDS,
    TimedWord,
    check_words_file,
    cues,
    timed_words,
    to_json,
    to_srt,
    to_vtt,
    write_words,
)
from wand.backbones.encodec_lm import EncodecLM
from wand.passages.follower import SpokenWord

TEXT = (
    "Mr. Smith's dog, which had slept all day, woke up. It was five o'clock! The man with the <old> hat & the very "
    "long coat looked at it, laughed, and then walked slowly through the whole garden without a word to anybody else."
)
TIMED = [TimedWord(word, 3590 + 0.4 * i, 3590 + 0.4 * (i + 1)) for i, word in enumerate(TEXT.split())]
TIME = r"(\d\d):(\d\d):(\d\d)[.,](\d\d\d)"


def parse(blocks: list[str], mark: str) -> list[tuple[float, float, list[str]]]:
    """Begin, end and lines of each cue."""
    found = []
    for block in blocks:
        head, *lines = block.strip().split("\n")
        times = re.fullmatch(f"{TIME} --> {TIME}", head)
        assert times is not None, head
        assert head.count(mark) == 2
        begin, end = (
            sum(int(part) * size for part, size in zip(group, (3600, 60, 1, 0.001), strict=True))
            for group in (times.groups()[:4], times.groups()[4:])
        )
        found.append((begin, end, lines))
    return found


def parse_srt(text: str) -> list[tuple[float, float, list[str]]]:
    blocks = text.strip().split("\n\n") if text else []
    numbers, rest = zip(*(block.split("\n", 1) for block in blocks), strict=True) if blocks else ((), ())
    assert [*numbers] == [str(i + 1) for i in range(len(blocks))]
    return parse([*rest], ",")


def parse_vtt(text: str) -> list[tuple[float, float, list[str]]]:
    head, *blocks = text.strip().split("\n\n")
    assert head == "WEBVTT"
    read = parse(blocks, ".")
    assert not any(
        "<" in line or ">" in line or re.search("&(?!amp;|lt;|gt;)", line) for *_, own in read for line in own
    )
    return [(begin, end, [html.unescape(line) for line in lines]) for begin, end, lines in read]


@pytest.mark.parametrize(("write", "read"), [(to_srt, parse_srt), (to_vtt, parse_vtt)])
def test_subtitles_are_read_back(write, read) -> None:
    found = read(write(TIMED))
    assert " ".join(line for *_, lines in found for line in lines) == TEXT
    assert found[0][:2] == pytest.approx((3590, 3590 + 0.4 * 10))
    assert found[0][2] == ["Mr. Smith's dog, which had slept all day,", "woke up."]
    assert found[1][2] == ["It was five o'clock!"]
    assert len(found) > 3
    for begin, end, lines in found:
        assert 0 < end - begin <= SECONDS + 1e-6
        assert 1 <= len(lines) <= 2
        assert all(len(line) <= LINE for line in lines)
    assert all(first[1] <= second[0] + 1e-6 for first, second in pairwise(found))


def test_json_is_read_back() -> None:
    read = json.loads(to_json(TIMED))
    assert [TimedWord(**word) for word in read["words"]] == [
        TimedWord(word.text, round(word.begin, 3), round(word.end, 3)) for word in TIMED
    ]


def test_no_words_are_empty_files() -> None:
    assert json.loads(to_json([])) == {"words": []}
    assert parse_srt(to_srt([])) == []
    assert parse_vtt(to_vtt([])) == []


def test_a_word_without_a_length_is_shown() -> None:
    ((begin, end, lines),) = parse_srt(to_srt([TimedWord("Yes.", 1, 1)]))
    assert begin == 1 < end
    assert lines == ["Yes."]


def test_scripts_without_blanks_are_joined() -> None:
    text = ["今", "天", "天", "气", "很", "好。", "GPT", "也", "知", "道。"]
    words = [TimedWord(word, i / 5, (i + 1) / 5) for i, word in enumerate(text)]
    assert [cue.lines for cue in cues(words)] == [("今天天气很好。",), ("GPT 也知道。",)]


@pytest.mark.parametrize("suffix", [".json", ".srt", ".VTT"])
def test_the_name_chooses_the_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"words{suffix}"
    check_words_file(path)
    write_words(path, TIMED)
    expected = {".json": to_json, ".srt": to_srt, ".VTT": to_vtt}[suffix](TIMED)
    assert path.read_text(encoding="utf-8") == expected


def test_another_name_is_refused(tmp_path: Path) -> None:
    for call in (check_words_file, lambda path: write_words(path, TIMED)):
        with pytest.raises(ValueError, match=r"words\.txt: .*\.json, \.srt, \.vtt"):
            call(tmp_path / "words.txt")
    assert not [*tmp_path.iterdir()]


def test_columns_become_seconds_of_the_sound() -> None:
    backbone = EncodecLM(architecture=TINY)  # 50 frames a second, a column each, three codebooks with a delay
    words = [SpokenWord("a", 0, 25), SpokenWord("b", 25, 40), SpokenWord("c", 40, 50)]
    assert timed_words(words, backbone) == [
        TimedWord("a", 0.0, 0.5),
        TimedWord("b", 0.5, 0.8),
        TimedWord("c", 0.8, 1.0),
    ]
    # Ten frames were cut out of the middle of b, and five at the end of c.
    cut = [*range(28, 38), *range(45, 50)]
    assert timed_words(words, backbone, cut) == [
        TimedWord("a", 0.0, 0.5),
        TimedWord("b", 0.5, 0.6),
        TimedWord("c", 0.6, 0.7),
    ]
