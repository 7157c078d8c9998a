"""Frames of speech, cuts in pauses, and the recogniser that hears a long sound piece by piece."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.metrics.sounds import silence
from wand.demo.corpus import VOICES, EspeakCorpus
from wand.metrics.edits import edits
from wand.recognition import EmbeddedRecogniser, Piecewise
from wand.recognition.activity import FRAMES, SILENCE, active_frames, levels, speech_frames
from wand.recognition.piecewise import GROUP, cut_at_pauses
from wand.text.espeak import SAMPLE_RATE, synthesize

RATE = 16_000


def tone(seconds: float, sample_rate: int = RATE, loud: float = 0.3) -> Tensor:
    """A sine whose mean square is `loud ** 2 / 2`."""
    return loud * (2 * math.pi * 400 * torch.arange(round(seconds * sample_rate)) / sample_rate).sin()


@pytest.mark.parametrize("rate", [11_025, 16_000, 22_050, 24_000])
def test_frames_do_not_run_away_from_the_time(rate: int) -> None:
    """Frames of 220.5 samples, for longer than a minute."""
    level = levels(torch.cat([tone(69, rate), tone(1, rate, loud=0.03), silence(0.5, rate)]), rate)
    assert len(level) == 70.5 * FRAMES
    assert float((level[:6900] - 20 * math.log10(0.3) + 3.01).abs().max()) < 0.2
    assert float((level[6900:7000] - 20 * math.log10(0.03) + 3.01).abs().max()) < 0.2
    assert (level[7000:] == SILENCE).all()


def test_speech_is_what_is_not_much_quieter_than_the_loud_frames() -> None:
    level = torch.tensor([-20.0] * 50 + [-50] * 10 + [-58] * 10 + [-20] * 50 + [-90] * 30 + [-20] * 10)
    speech = speech_frames(level)
    assert speech.tolist() == [True] * 60 + [False] * 10 + [True] * 50 + [False] * 30 + [True] * 10
    assert active_frames(level).tolist() == [True] * 120 + [False] * 30 + [True] * 10


def test_silence_at_the_ends_is_never_bridged() -> None:
    level = torch.tensor([-90.0] * 5 + [-20] * 20 + [-90] * 5)
    assert active_frames(level).tolist() == speech_frames(level).tolist()
    for nothing in (torch.zeros(0), torch.full((9,), SILENCE)):
        assert not active_frames(nothing).any()
        assert len(active_frames(nothing)) == len(nothing)


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000])
@pytest.mark.parametrize("seconds", [0.0, 1.0, 25.0, 25.004, 61.7])
def test_pieces_are_the_whole_sound_and_short_enough(rate: int, seconds: float) -> None:
    for sound in (torch.randn(round(seconds * rate)), silence(seconds, rate)):
        pieces = cut_at_pauses(sound, rate)
        assert torch.equal(torch.cat(pieces), sound)
        assert max(len(piece) for piece in pieces) <= 25 * rate
        assert len(pieces) <= 1 + seconds / 12.5
        assert len(pieces) == 1 or min(len(piece) for piece in pieces[:-1]) >= 12.5 * rate - 1
        assert pieces[0].data_ptr() == sound.data_ptr()


def test_the_longest_pause_is_cut_in_its_middle() -> None:
    sound = torch.cat([tone(13), silence(0.5), tone(2), silence(0.8), tone(3), silence(0.3), tone(10)])
    first, second = cut_at_pauses(sound, RATE)
    assert len(first) / RATE == pytest.approx(13 + 0.5 + 2 + 0.4, abs=0.02)
    assert torch.equal(torch.cat([first, second]), sound)


def test_without_a_pause_the_quietest_place_is_cut() -> None:
    sound = torch.cat([tone(15), tone(0.1, loud=0.1), tone(5), tone(0.1, loud=0.03), tone(9.8)])
    first, _ = cut_at_pauses(sound, RATE)
    assert len(first) / RATE == pytest.approx(20.15, abs=0.05)


def test_pieces_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pieces of 0\.5 s are too short"):
        cut_at_pauses(tone(1), RATE, longest=0.5)


class Clock:
    """Hears how many tenths of a second a sound lasts, and remembers how many sounds it got at once."""

    name = "clock"
    language = "de"

    def __init__(self) -> None:
        self.groups: list[int] = []

    def transcribe(self, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
        self.groups.append(len(sounds))
        return [f" {round(10 * len(sound) / sample_rate) or ''} " for sound in sounds]


def test_texts_of_pieces_are_joined_in_order_and_sounds_stay_apart() -> None:
    clock = Clock()
    ear = Piecewise(clock, longest=2)
    sounds = [torch.cat([tone(1.4), silence(0.2), tone(1)]), torch.zeros(0), tone(0.7)]
    assert (ear.name, ear.language) == ("clock", "de")
    assert ear.transcribe(sounds, RATE) == ["15 11", "", "7"]
    assert ear.transcribe([], RATE) == []
    ear.transcribe([tone(4 * GROUP, 1_000)], 1_000)
    assert max(clock.groups) == GROUP


def test_a_minute_of_speech_is_heard_to_its_end() -> None:
    speaker = VOICES[0]
    corpus = EspeakCorpus(hours=0.01, test_sentences=96).utterances("test")
    sentences = [utterance.text for utterance in corpus if utterance.speaker == speaker.name]
    sound = torch.cat([synthesize(sentence, speaker) for sentence in sentences])
    assert len(sound) > 60 * SAMPLE_RATE
    heard = edits(Piecewise(EmbeddedRecogniser()).transcribe([sound], SAMPLE_RATE)[0], sentences)
    assert sum(wrong for wrong, _ in heard.by_part()) < 0.05 * len(heard.text)
    assert heard.missing() == []
    assert heard.longest_skip().symbols <= 8
    assert heard.longest_insertion().symbols <= 8
