"""Speaking from a run, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.runs.test_export import save_run
from tests.workplace import Workplace
from wand.backbones.encodec_lm import EncodecLM
from wand.cli import main

REFERENCE = "runs/quickstart/samples/0-reference.wav"


def speak(*arguments: str) -> int:
    return main(["synthesize", "--ckpt_path", "runs/quickstart", "--max_seconds", "0.5", *arguments])


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="student"),
        pytest.param(["--system", "teacher"], id="teacher"),
        pytest.param(["--system", "teacher", "--window", "8"], id="teacher-with-window"),
        pytest.param(["--window", "full"], id="student-without-window"),
        pytest.param(["--temperature", "0"], id="greedy"),
    ],
)
def test_speaks(run: Workplace, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.wav"
    assert speak("every word.", "--reference", REFERENCE, "--out", str(out), *options) == 0
    assert 0 < soundfile.info(out).duration <= 0.5
    captured = capsys.readouterr()
    assert "length bound" in captured.out or "stop token" in captured.out
    assert ("not with full attention" in captured.err) == (options == ["--window", "full"])


def test_texts_of_a_file_and_the_same_seed_speak_the_same(run: Workplace, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("one text.\n\nanother one.\n")
    for name in ("a", "b"):
        options = ("--file", str(texts), "--reference", REFERENCE, "--out", str(tmp_path / f"{name}.wav"))
        assert speak(*options) == 0
    assert (tmp_path / "a-002.wav").read_bytes() == (tmp_path / "b-002.wav").read_bytes()
    assert not (tmp_path / "a-003.wav").exists()


def test_a_file_of_texts_ends_lines_at_newlines_only(run: Workplace, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_bytes("\ufeffone\x0ctext.\r\n\r\nanother\x0bone.\n".encode())
    assert speak("--file", str(texts), "--reference", REFERENCE, "--out", str(tmp_path / "x.wav")) == 0
    assert sorted(path.name for path in tmp_path.glob("*.wav")) == ["x-001.wav", "x-002.wav"]


@pytest.mark.parametrize("channels", [1, 2], ids=["mono", "stereo"])
def test_references_of_other_formats_are_taken(run: Workplace, tmp_path: Path, channels: int) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (16_000, channels))
    soundfile.write(tmp_path / "voice.wav", sound, 8000)
    assert speak("yes.", "--reference", str(tmp_path / "voice.wav"), "--out", str(tmp_path / "out.wav")) == 0


def write_bad_reference(kind: str, path: Path) -> None:
    if kind == "silent":
        soundfile.write(path, np.zeros(16_000), 16_000)
    elif kind == "empty":
        soundfile.write(path, np.zeros(0), 16_000)
    elif kind == "short":
        soundfile.write(path, np.full(800, 0.1), 16_000)
    elif kind == "not audio":
        path.write_text("not a sound")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no sound file"),
        ("silent", "silent"),
        ("empty", "empty"),
        ("short", "at least 0.5 s"),
        ("not audio", "not a sound file"),
    ],
)
def test_bad_references_get_one_line(
    run: Workplace, tmp_path: Path, kind: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.wav"
    write_bad_reference(kind, path)
    assert speak("yes.", "--reference", str(path), "--out", str(tmp_path / "out.wav")) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param([""], "the text is empty", id="empty-text"),
        pytest.param([], "nothing to speak", id="no-text"),
        pytest.param(["das müßte 42 gehen"], "'4'", id="unknown-characters"),
        pytest.param(["yes.", "--window", "0"], "window 0", id="window-zero"),
        pytest.param(["yes.", "--window", "-3"], "window -3", id="window-negative"),
        pytest.param(["yes.", "--window", "wide"], "'wide'", id="window-word"),
        pytest.param(["yes.", "--temperature", "-1"], "temperature -1", id="temperature"),
        pytest.param(["yes.", "--file", "none.txt"], "none.txt", id="no-file"),
    ],
)
def test_bad_texts_and_settings_get_one_line(
    run: Workplace, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert speak(*arguments, "--reference", REFERENCE, "--out", str(tmp_path / "out.wav")) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error


def test_no_checkpoint_is_said(run: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synthesize", "yes.", "--ckpt_path", "runs/none", "--reference", REFERENCE]) == 2
    assert "no checkpoint at runs/none" in capsys.readouterr().err


def test_a_text_longer_than_those_of_the_training_is_split(
    run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model of the run is random, so that no alignment heads are known."""
    long = "every word is heard, and another one is heard as well. " * 12
    out = tmp_path / "out.wav"
    assert speak(long, "--reference", REFERENCE, "--out", str(out)) == 0
    assert "are split: this model cannot speak passages, because its alignment heads are not" in capsys.readouterr().err
    assert soundfile.info(out).duration > 2.0
    assert speak(long, "--reference", REFERENCE, "--out", str(out), "--long_text", "whole") == 0
    assert capsys.readouterr().err.count("split") == 0
    assert soundfile.info(out).duration <= 0.5


def test_a_book_is_spoken_as_one_text(run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = tmp_path / "book.txt"
    book.write_text("Chapter one\n\nevery word\nis heard.\n\n" * 10)
    out = tmp_path / "book.wav"
    assert speak("--book", str(book), "--reference", REFERENCE, "--out", str(out)) == 0
    assert f"{out}: {soundfile.info(out).duration:.2f} seconds, ended by" in capsys.readouterr().out
    assert speak("--book", str(tmp_path / "none.txt"), "--reference", REFERENCE) == 2
    assert "none.txt does not exist" in capsys.readouterr().err
    assert speak("yes.", "--book", str(book), "--reference", REFERENCE) == 2
    assert "--book is spoken alone" in capsys.readouterr().err


def test_a_book_that_cannot_be_read_to_its_end_keeps_its_sound(
    run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = EncodecLM("embedded")
    voice.load_pretrained()
    saved = save_run(voice, tmp_path / "run", window=32)
    (saved / "alignment.json").write_text('{"alignment_heads": [[4, 0]]}')
    book, out = tmp_path / "book.txt", tmp_path / "out.wav"
    book.write_text("every word is heard, and so it is.\n\n" * 5 + "a \u4e2d b")
    options = ["--ckpt_path", str(saved), "--book", str(book), "--reference", REFERENCE, "--out", str(out)]
    assert main(["synthesize", *options]) == 2
    error = capsys.readouterr().err
    assert soundfile.info(out).duration > 1
    assert f"wand: the first {soundfile.info(out).duration:.1f} seconds are in {out}" in error
    assert "request 0 'passage' cannot be spoken" in error
    book.write_text("a \u4e2d b")
    before = out.read_bytes()
    assert main(["synthesize", *options]) == 2
    assert out.read_bytes() == before


def test_the_times_of_words_are_written(run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voice = EncodecLM("embedded")
    voice.load_pretrained()
    saved = save_run(voice, tmp_path / "run", window=32)
    book, out = tmp_path / "book.txt", tmp_path / "out.wav"
    book.write_text("every word is heard.")
    words = ["--words", str(tmp_path / "words.json"), "--out", str(out), "--reference", REFERENCE]

    def speak_and_read(*arguments: str) -> str:
        assert main(["synthesize", "--ckpt_path", str(saved), *words, *arguments]) == 0
        return (tmp_path / "words.json").read_text()

    (saved / "alignment.json").write_text('{"alignment_heads": []}')
    assert main(["synthesize", "yes.", "--ckpt_path", str(saved), *words]) == 2
    assert "cannot speak them, because its alignment heads are not known" in capsys.readouterr().err
    (saved / "alignment.json").write_text('{"alignment_heads": [[4, 0]]}')
    alone = speak_and_read("every word is heard.")
    (tmp_path / "words.json").unlink()
    assert speak_and_read("--book", str(book)) == alone
    spoken = json.loads(alone)["words"]
    assert [word["text"] for word in spoken] == ["every", "word", "is", "heard."]
    assert speak("yes.", *words, "--split") == 2
    assert "leave out --long_text split" in capsys.readouterr().err
    assert speak("yes.", "--words", "words.txt", "--reference", REFERENCE) == 2
    assert "words.txt: the times of words are written as .json, .srt, .vtt" in capsys.readouterr().err
