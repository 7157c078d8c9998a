import multiprocessing
from itertools import pairwise

import numpy as np
import pytest
import torch

from wand.demo.corpus import UNSEEN_VOICE, VOICES
from wand.metrics.pitch import median_pitch, pitch_track
from wand.text import espeak
from wand.text.espeak import SAMPLE_RATE, Voice, synthesize

TEXT = "the quiet teacher found seven old books."


def pitch(audio: torch.Tensor) -> float:
    return median_pitch(pitch_track(audio, SAMPLE_RATE))


def spectrum_of(audio: torch.Tensor) -> torch.Tensor:
    """Mean log spectrum `[bands]`."""
    magnitude = torch.stft(audio, 512, window=torch.hann_window(512), return_complex=True).abs()
    return torch.nn.functional.avg_pool1d((magnitude + 1e-2).log().mean(1)[None], 8)[0]


def test_same_arguments_same_samples_whatever_was_said_before() -> None:
    first = synthesize(TEXT, VOICES[0])
    for voice in VOICES[1:4]:
        synthesize("something else entirely, is it not?", voice)
    assert torch.equal(first, synthesize(TEXT, VOICES[0]))


def test_child_process_says_the_same() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(synthesize, (TEXT, VOICES[1]))
    assert torch.equal(there, synthesize(TEXT, VOICES[1]))


def test_audio_is_16_khz_float_of_the_native_length() -> None:
    audio = synthesize(TEXT, VOICES[0])
    samples, rate, _ = espeak._speak(TEXT, VOICES[0])
    assert audio.dtype == torch.float32
    assert audio.ndim == 1
    assert abs(len(audio) - len(samples) * SAMPLE_RATE / rate) <= 1
    assert 0.1 < float(audio.abs().max()) < 1.2


def test_every_voice_sounds_different() -> None:
    voices = (*VOICES, UNSEEN_VOICE)
    sounds = [synthesize(TEXT, voice) for voice in voices]
    pitches = np.array([pitch(sound) for sound in sounds])
    assert pitches.min() < 120
    assert pitches.max() > 180
    spectra = torch.stack([spectrum_of(sound) for sound in sounds])
    distances = (spectra[:, None] - spectra[None]).abs().mean(-1) + 10 * torch.eye(len(voices))
    assert float(distances.min()) > 0.1


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="text is empty"):
        synthesize(text, VOICES[0])


def test_unknown_voice_is_refused() -> None:
    with pytest.raises(ValueError, match="no voice 'xx-nowhere'"):
        synthesize(TEXT, Voice("nobody", "xx-nowhere"))


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "wand-tts\[demo\]"'):
        synthesize(TEXT, VOICES[0])


def test_phones_come_with_the_second_at_which_they_begin() -> None:
    phones = espeak.phone_times("a sea. a sea.", VOICES[0])
    spoken = "".join(phone for phone, _ in phones)
    assert spoken.count("s") == spoken.count("iː") == 2
    times = [begin for _, begin in phones]
    assert times == sorted(times)
    audio = synthesize("a sea. a sea.", VOICES[0])
    assert 0 <= times[0] < times[-1] < len(audio) / SAMPLE_RATE
    # An s hisses, a vowel does not: many more changes of sign.
    changes = (audio[1:] * audio[:-1] < 0).float()
    for (phone, begin), (_, end) in pairwise(phones):
        part = changes[round((begin + 0.02) * SAMPLE_RATE) : round((end - 0.02) * SAMPLE_RATE)]
        if phone == "s":
            assert part.mean() > 0.4
        elif phone.endswith("iː") and len(part):
            assert part.mean() < 0.3
