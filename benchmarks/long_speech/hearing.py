"""Turns speeches into sound, measures the sound, and lets ears hear it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.long_speech.record import PASSAGE, Key, Record
from benchmarks.long_speech.texts import LongText
from wand.codecs import Codec
from wand.files.audio import write_audio
from wand.metrics.prosody import by_part, prosody, rate_drift, thirds
from wand.metrics.seams import seams
from wand.recognition import Recogniser
from wand.speech.speaking import PAUSE_SECONDS, decode

# Seconds of voice on both sides of a seam that are compared. Whole sentences hardly differ: a voice that begins each of
# them anew jumps from the low end of a sentence to the high beginning of the next.
BESIDE_SEAM = 0.5


def joined(parts: Sequence[Tensor], sample_rate: int) -> tuple[Tensor, list[float]]:
    """Join the sounds of sentences with pauses, as `wand.speech.speaking` does. Returns also when each begins."""
    pause = round(PAUSE_SECONDS * sample_rate)
    sounds = [*(functional.pad(part, (0, pause)) for part in parts[:-1]), parts[-1]]
    begins = accumulate((len(sound) / sample_rate for sound in sounds[:-1]), initial=0.0)
    return torch.cat(sounds), list(begins)


def hear(
    record: Record,
    key: Key,
    text: LongText,
    codec: Codec,
    ears: Sequence[Recogniser],
    sounds: Path | None,
) -> None:
    """Measure the sound of a speech, and transcribe it, where that was not done before.

    Args:
        record: The speeches.
        key: The speech.
        text: Its text.
        codec: Decodes it.
        ears: The recognisers.
        sounds: Folder for a sound file; None writes none.
    """
    facts = record.facts(key)
    missing = [ear for ear in ears if ear.name not in facts.heard]
    if facts.sound and not missing and sounds is None:
        return
    rate = codec.sample_rate
    sound, begins = joined([decode(codec, codes, text.reference) for codes in record.codes(key)], rate)
    if sounds is not None:
        write_audio(sounds / f"{key}.flac".replace("/", "-"), sound, rate)
    if not facts.sound:
        facts.sound = measured(sound, rate, facts.sentences, facts.begins() if key.system == PASSAGE else begins)
        record.write_facts(key, facts)
    for ear in missing:
        facts.heard[ear.name] = ear.transcribe([sound], rate)[0]
        record.write_facts(key, facts)


def measured(sound: Tensor, sample_rate: int, sentences: Sequence[str], begins: Sequence[float]) -> dict[str, Any]:
    """What is measured in a sound.

    Args:
        sound: Audio ``[N]``.
        sample_rate: Its sample rate, in Hz.
        sentences: The sentences of its text.
        begins: When they begin, in seconds; only those that were reached.
    """
    frames = prosody(sound, sample_rate)
    parts, steps = by_part(frames, thirds(frames.seconds)), seams(frames, begins[1:], BESIDE_SEAM)
    return {
        "seconds": len(sound) / sample_rate,
        "active": float(parts.active.sum()),
        "begins": list(begins),
        "pitch_drift": parts.pitch_drift,
        "level_drift": parts.level_drift,
        "rate_drift": rate_drift(frames, sentences, begins),
        "seam_pitch": steps.pitch.tolist(),
        "seam_level": steps.level.tolist(),
        "seam_pause": steps.pause.tolist(),
        "sentence_pitch": seams(frames, begins[1:]).pitch.tolist(),
    }
