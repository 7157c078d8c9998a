"""Lists of recordings as people and programs write them: read as they mean them, or refused with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wand.data.sources.corpora import FileCorpus, LibriTTS, LJSpeech
from wand.data.sources.manifest import ManifestCorpus
from wand.data.sources.source import Utterance
from wand.data.sources.teacher_samples import TeacherSamples
from wand.files.audio import write_audio

BOM = "\ufeff"


def said(corpus: FileCorpus) -> dict[str, tuple[str, str]]:
    """Text and speaker of every utterance."""
    return {name: (one.utterance.text, one.utterance.speaker) for name, one in corpus.recordings.items()}


def lj(folder: Path, content: str | bytes, columns: tuple[str, ...] | None = None) -> LJSpeech:
    (folder / "metadata.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return LJSpeech(str(folder), columns=columns)


# -- LJSpeech ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a|Dr. B|Doctor B\nb|Two.|Two.\n", ["Doctor B", "Two."]),
        ("a|one\nb|two", ["one", "two"]),
        ("a|Dr. B|\nb|two|  \n", ["Dr. B", "two"]),
        ("a|one\nb|Number two.|Number two.\nc|three\n", ["one", "Number two.", "three"]),
        ("a|one|one\nb|2|two\nc|three|three\nd|four\n", ["one", "two", "three", "four"]),
        (f"{BOM}a|one\r\n\r\nb|two\r\n  \r\n", ["one", "two"]),
        ("a|one\rb|two\r", ["one", "two"]),
        ("a.wav|one\nwavs/b.WAV|two\n", ["one", "two"]),
        ('a|He said "no|He said "no\nb|"two"\n', ['He said "no', '"two"']),
        ("a|one\u2028two\x0cthree\x85four\nb|five", ["one\u2028two\x0cthree\x85four", "five"]),
        (" a | one \nb\t|\ttwo", ["one", "two"]),
        ("a|1|one\nb|1|won\nc|2|two\n", ["one", "won", "two"]),  # numbers, not speakers
        ("a|one|so it is.\nb|one|so it is.\n", ["so it is.", "so it is."]),
        ("a|raw|so it is.\nb|raw|why not.\n", ["so it is.", "why not."]),  # one speaker at most
        ("a|raw1|text 1\nb|raw2|text 2\n", ["text 1", "text 2"]),
        ("a|1999|nineteen\nb|$5|dollars\n", ["nineteen", "dollars"]),
        ("a|yes|yes\nb|yes|yes!\nc|yes|yes?\n", ["yes", "yes!", "yes?"]),
        ("a|\nb|two", ["", "two"]),  # left out when it is prepared
    ],
)
def test_a_table_is_read_as_it_is_meant(tmp_path: Path, content: str, expected: list[str]) -> None:
    corpus = lj(tmp_path, content)
    assert [text for text, _ in said(corpus).values()] == expected
    assert {speaker for _, speaker in said(corpus).values()} == {"lj"}
    assert [*said(corpus)] == ["a", "b", "c", "d"][: len(expected)]
    assert [one.path for one in corpus.recordings.values()] == [tmp_path / f"wavs/{name}.wav" for name in said(corpus)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a|one\nb", r"line 2 has 1 columns, not 3 \(id\|text\|normalized\)"),
        ("a|one | two|one | two\nb|x|x", "line 1 has 5 columns"),
        ("a|one\nb|two | three\nc|four", "line 2 has 3 columns, unlike most lines"),
        ("a|one\n\nb|the cat|the dog\nc|four", "line 3 has 3 columns, unlike most lines"),
        ("a|one\n|two", "line 2 has no id"),
        ("a|one\n.wav|two", "line 2 has no id"),
        ("a|one\nb|two\na.wav|three", r"line 3: another utterance already has the id 'a' \(.*line 1\)"),
        ("a|ann|so it is.\nb|ann|why not.\nc|bob|hello.\nd|bob|good morning.", r"'ann' looks like .* \[id, speaker, t"),
        ("a|so it is.|ann\nb|why not.|ann\nc|hello.|bob\nd|good day.|bob", r"'ann' looks like .* \[id, text, speaker"),
        ("a|so it is.|p225\nb|why not.|p226", r"line 1: 'p225' looks like the name of a speaker"),
        ("a|19|so it is.\nb|19|why not.\nc|26|hello.\nd|26|good day.", r"'19' looks like"),
        ("a|one\nb|\xfc".encode("latin-1"), r"metadata\.csv, line 2 is not UTF-8"),
        ("\n\n", "holds no utterance"),
        ("", "holds no utterance"),
    ],
)
def test_a_line_of_a_table_that_cannot_be_meant_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        said(lj(tmp_path, content))


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (("id", "speaker", "text"), "a|ann|so it is."),
        (("id", "text", "speaker"), "a|so it is.|ann"),
        (("speaker", "id", "text", "normalized"), "ann|a|So it is!|so it is."),
        (("id", "normalized", "speaker"), "a|so it is.|ann"),
    ],
)
def test_columns_can_be_named(tmp_path: Path, columns: tuple[str, ...], line: str) -> None:
    assert said(lj(tmp_path, line, columns)) == {"a": ("so it is.", "ann")}
    with pytest.raises(ValueError, match=rf"line 1 has {len(columns) + 1} columns, not {len(columns)}"):
        said(lj(tmp_path, line + "|x", columns))


def test_columns_with_wrong_names_are_refused(tmp_path: Path) -> None:
    for columns in (("id",), ("id", "text", "text"), ("id", "words"), ("text", "speaker")):
        with pytest.raises(ValueError, match=r"columns .* of data\.source: give id"):
            said(lj(tmp_path, "a|b", columns))
    with pytest.raises(ValueError, match="line 1 has no speaker"):
        said(lj(tmp_path, "a|so it is.|", ("id", "text", "speaker")))


WORDS = st.text(st.characters(exclude_characters="|\n\r\ufeff", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS, min_size=1, max_size=6), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", BOM]))
def test_texts_come_back_from_tables_and_manifests(tmp_path: Path, texts: list[str], end: str, mark: str) -> None:
    expected = [text.strip() for text in texts]
    table = [f"u{i}|{text}" for i, text in enumerate(texts)]
    assert [text for text, _ in said(lj(tmp_path, mark + end.join(table))).values()] == expected
    lines = [json.dumps({"text": text, "audio": "a.wav"}, ensure_ascii=False) for text in texts]
    (tmp_path / "x.jsonl").write_bytes((mark + end.join(lines)).encode())
    assert [text for text, _ in said(ManifestCorpus(str(tmp_path / "x.jsonl"))).values()] == texts


# -- LibriTTS ----------------------------------------------------------------------------------------------------


def test_libritts_reads_marked_texts_and_names_with_dots(tmp_path: Path) -> None:
    folder = tmp_path / "train-clean-100" / "19" / "198"
    for name in ("19_a", "19.b.c", "19_none", "19_latin"):
        write_audio(folder / f"{name}.wav", torch.zeros(240), 24_000)
    (folder / "19_a.normalized.txt").write_text(f"{BOM}One.\r\n")
    (folder / "19.b.c.normalized.txt").write_text("Two.")
    (folder / "19_latin.normalized.txt").write_bytes(b"\xfc")
    corpus = LibriTTS(str(tmp_path))
    assert said(corpus) == {
        "train-clean-100/19.b.c": ("Two.", "19"),
        "train-clean-100/19_a": ("One.", "19"),
        "train-clean-100/19_latin": ("", "19"),
        "train-clean-100/19_none": ("", "19"),
    }
    for name, why in (("latin", r"19_latin\.normalized\.txt, line 1 is not UTF-8"), ("none", "No such file")):
        with pytest.raises(ValueError, match=why):
            corpus.audio(Utterance(f"train-clean-100/19_{name}", "", "19"))
    before = corpus.fingerprint
    (folder / "19_none.normalized.txt").write_text("Three.")
    assert LibriTTS(str(tmp_path)).fingerprint != before


# -- manifests ---------------------------------------------------------------------------------------------------


def manifest(folder: Path, *lines: Any) -> ManifestCorpus:
    path = folder / "x.jsonl"
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines), encoding="utf-8")
    return ManifestCorpus(str(path), 0.0, 0.0)


SOUND = {"text": "a", "audio": "a.wav"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({**SOUND, "speaker": None}, {"line-1": ("a", "unknown")}),
        (
            {**SOUND, "split": None, "reference": None, "codes": None, "global_codes": None},
            {"line-1": ("a", "unknown")},
        ),
        ({**SOUND, "id": None}, {"line-1": ("a", "unknown")}),
        ({"text": "a", "audio": None, "codes": [1, 2]}, {"line-1": ("a", "unknown")}),
        ({**SOUND, "id": 7, "speaker": 19, "reference": 7}, {"7": ("a", "19")}),
        ({**SOUND, "id": "7", "reference": 7}, {"7": ("a", "unknown")}),
        (f"{BOM}{json.dumps(SOUND)}\r", {"line-1": ("a", "unknown")}),
        ('  {"text" : "a\\u2028b" , "audio":"a.wav"}  ', {"line-1": ("a\u2028b", "unknown")}),
        ('{"text": "a\u2028b\u2029c\x85d", "audio": "a.wav"}', {"line-1": ("a\u2028b\u2029c\x85d", "unknown")}),
        ('{"text": "\\ud83d\\ude00", "audio": "a.wav"}', {"line-1": ("\U0001f600", "unknown")}),
    ],
)
def test_a_manifest_is_read_as_it_is_meant(tmp_path: Path, line: Any, expected: dict[str, tuple[str, str]]) -> None:
    corpus = manifest(tmp_path, line)
    assert said(corpus) == expected
    assert {one.split for one in corpus.recordings.values()} == {"train"}
    assert len(corpus.utterances("train")) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({**SOUND, "text": 5}, "has no text: it must be a string, not 5"),
        ({**SOUND, "text": None}, "has no text"),
        ({**SOUND, "audio": 5}, "audio must be the path of a file, not 5"),
        ({**SOUND, "audio": ["a.wav"]}, "audio must be the path"),
        ({**SOUND, "audio": ""}, "audio must be the path of a file, not ''"),
        ({**SOUND, "audio": "a\0.wav"}, "audio must be the path"),
        ({**SOUND, "audio": True}, "audio must be the path"),
        ({"text": "a", "audio": None}, "has neither audio nor codes; its keys are text"),
        ({"text": "a", "audio_filepath": "a.wav"}, "its keys are text, audio_filepath"),
        ({**SOUND, "id": True}, "id must be a name in quotes, not True"),
        ({**SOUND, "speaker": {"name": "ann"}}, "speaker must be a name in quotes, not an object"),
        ({**SOUND, "speaker": ["x" * 99]}, r"speaker must be .*xxx\.\.\.$"),
        ('{"text": "a", "audio": "a.wav", "speaker": NaN}', "speaker must be a name in quotes, not nan"),
        ('{"text": "a", "audio": "a.wav", "id": 1e999}', "id must be a name in quotes, not inf"),
        ({**SOUND, "split": "dev"}, "split 'dev' is not one of train"),
        ({**SOUND, "split": ["train"]}, r"split \['train'\] is not one of"),
        ({**SOUND, "split": ""}, "split '' is not one of"),
        ('{"text": "a", "text": "b", "audio": "a.wav"}', "has the key 'text' twice"),
        ('{"text": "a", "audio": "a.wav",}', "is not valid JSON"),
        ("[" + json.dumps(SOUND) + "]", "is not a JSON object: write one object per line"),
        ("[", "is not valid JSON .* write one object per line"),
        ("7", "is not a JSON object"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"text": "a", "audio": "a.wav", "id": ' + "1" * 5000 + "}", "is not valid JSON"),
        ('{"text": "\\ud83d", "audio": "a.wav"}', r"text has half of a character \(\\ud83d\)"),
        ('{"text": "a", "audio": "a.wav", "id": "\\udc00"}', "id has half of a character"),
    ],
)
def test_a_line_of_a_manifest_that_cannot_be_meant_is_named(tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"x\.jsonl, line 2:? .*{message}"):
        said(manifest(tmp_path, SOUND, line))


def test_keys_that_are_not_used_are_named_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    more = {"duration": 3.2, "condition": {"a": [1], "b": None}, "mels": "x.npy"}
    lines = [SOUND, *({**SOUND, **more, "speaker": "ann"} for _ in range(5))]
    corpus = manifest(tmp_path, *lines)
    assert [speaker for _, speaker in said(corpus).values()] == ["unknown"] + ["ann"] * 5
    assert said(corpus)
    assert corpus.fingerprint == manifest(tmp_path, SOUND, *[{**SOUND, "speaker": "ann"}] * 5).fingerprint
    told = [str(one.message) for one in recwarn if "does not use" in str(one.message)]
    assert len(told) == 1
    assert "x.jsonl: wand does not use the keys condition, duration, mels (first in line 2)" in told[0]


def test_nothing_is_warned_of_if_all_keys_are_used(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    said(manifest(tmp_path, {**SOUND, "speaker": "x", "id": "y", "split": "train", "global_codes": [1]}))
    assert [one for one in recwarn if "does not use" in str(one.message)] == []


# -- texts -------------------------------------------------------------------------------------------------------


def test_texts_for_the_teacher_end_at_newlines(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_bytes(f"{BOM}one\x0ctwo\r\n\r\nthree\u2028four\n".encode())
    source = TeacherSamples(str(tmp_path / "texts.txt"), manifest(tmp_path, SOUND))
    assert source.texts == ["one\x0ctwo", "three\u2028four"]
