"""Lists of Seed-TTS-eval, as they are published: four fields, or five with the recording."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.workplace import SHAPE
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.evaluation.study.lists import read_list
from wand.evaluation.study.sentences import ListedSentences
from wand.files.audio import write_audio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("prompt-wavs/p1.wav", "prompt-wavs/p2.wav", "wavs/u1.wav")):
        tone = torch.arange(16_000 * (i + 1)).mul(0.05).sin() * 0.3
        write_audio(tmp_path / name, tone, 16_000)
    return tmp_path


FOUR = "u2|We asked.|prompt-wavs/p2.wav|So it is."
FIVE = "u1-u2|Said he.|prompt-wavs/p1.wav|one, two.|wavs/u1.wav"


def write(folder: Path, *lines: str, end: str = "\n") -> Path:
    file = folder / "meta.lst"
    file.write_bytes("".join(line + end for line in lines).encode())
    return file


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_have_four_or_five_fields(folder: Path, end: str) -> None:
    absolute = f"u3|Said he.|{folder}/prompt-wavs/p1.wav|three."
    first, second, third = read_list(write(folder, FIVE, "", FOUR, absolute, end=end))
    assert (first.id, first.prompt_text, first.text) == ("u1-u2", "Said he.", "one, two.")
    assert (first.prompt, first.recording) == (folder / "prompt-wavs/p1.wav", folder / "wavs/u1.wav")
    assert (second.text, second.prompt, second.recording) == ("So it is.", folder / "prompt-wavs/p2.wav", None)
    assert third.prompt == folder / "prompt-wavs/p1.wav"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([FOUR, "u1|so|prompt-wavs/p1.wav"], r"meta.lst, line 2 has 3 fields: write name\|prompt text\|"),
        ([FOUR, FIVE + "|more"], "line 2 has 6 fields"),
        ([FOUR, "", FOUR], "line 3: 'u2' is also the name of .*meta.lst, line 1"),
        (["u1||prompt-wavs/p1.wav|so"], "line 1: the prompt text is empty"),
        (["u1|so|prompt-wavs/p9.wav|so"], "line 1: no sound file at .*p9.wav"),
        ([FOUR, FIVE.replace("u1.wav", "u9.wav")], "line 2: no sound file at .*wavs/u9.wav"),
        ([FOUR.replace("So it is.", "...")], "line 1: the text has no words"),
        ([""], "meta.lst has no lines: write name"),
    ],
)
def test_a_wrong_line_is_named(folder: Path, lines: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        read_list(write(folder, *lines))
    assert "\n" not in str(error.value)


def test_sentences_are_read_with_voice_and_recording(folder: Path) -> None:
    file = write(folder, FIVE, FOUR)
    model = EncodecLM(architecture=EncodecLMArchitecture(**SHAPE))
    codec = model.load_codec()
    sentences = ListedSentences(file, read_list(file), model, codec)
    assert [*sentences.ids] == ["u1-u2", "u2"]
    assert sentences.recorded == [True, False]
    first, second = (sentences.read(place) for place in range(2))
    rate = codec.sample_rate
    assert len(first.reference) == rate
    assert len(second.reference) == 2 * rate
    assert first.example.codes.shape[1] == round(3 * codec.frame_rate)
    assert second.example.codes.shape == (len(first.example.codes), 0)
    assert first.example.speaker == "prompt-wavs/p1.wav"
    expected = model.conditioner("So it is.", second.voice)
    assert all(torch.equal(second.example.conditioning[name], value) for name, value in expected.items())

    before = sentences.made_of
    write_audio(folder / "wavs/u1.wav", torch.arange(16_000).mul(0.02).sin() * 0.3, 16_000)
    assert ListedSentences(file, read_list(file), model, codec).made_of != before


def test_a_voice_that_cannot_be_used_is_named_with_its_line(folder: Path) -> None:
    write_audio(folder / "prompt-wavs/p2.wav", torch.zeros(16_000), 16_000)
    file = write(folder, FIVE, FOUR)
    model = EncodecLM(architecture=EncodecLMArchitecture(**SHAPE))
    sentences = ListedSentences(file, read_list(file), model, model.load_codec())
    with pytest.raises(ValueError, match=r"meta.lst, line 2: .*p2.wav is silent"):
        sentences.read(1)
