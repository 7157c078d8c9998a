"""The check of one utterance between its source and its shard. Pure functions; `wand.files.sound` checks the sound.

A check refuses only what cannot be right. Whatever it refuses is left out and reported, and the rest is prepared.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from wand.data.sources.source import SpeechCodes, SpeechSource, TimedSource, Utterance
from wand.files.audio import MISSING_SECONDS, MISSING_SHARE, resample
from wand.files.sound import Unusable, check_audible
from wand.model.backbone import Backbone
from wand.model.codes import allowed_codes, check_codes, check_whole_numbers

# Fastest speech, in letters per second: 290 words per minute, for a whole utterance. Readers reach 18; half of a
# recording with its whole text has 24 to 36. An ideograph, a kana or a hangul is a syllable; at most 12 are spoken.
LETTERS_PER_SECOND, SYLLABLES_PER_SECOND = 22.0, 12.0
# A short utterance may be faster by this time, in seconds, because its edges are cut closely.
GRACE = 0.25
# Slowest speech: each letter or digit may take SLOWEST seconds (a digit may be several words), after PAUSES seconds.
SLOWEST, PAUSES = 1.0, 8.0
# Marks of events and emphasis, such as [laughter] or <strong>, are not spoken.
_TAGS = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")


@dataclass(frozen=True, eq=False)
class SpeechLimits:
    """What the speech of a model must satisfy. It is small, so that it can be sent to other processes.

    Args:
        frame_rate: Frames of codes per second.
        max_seconds: Longest recording to use.
        allowed: Bool ``[rows, V]``: the codes that may be spoken in each row of codes.
        prompts: Whether the utterances only give voices: they may have any duration.
    """

    frame_rate: float
    max_seconds: float
    allowed: Tensor
    prompts: bool = False

    @classmethod
    def of(cls, backbone: Backbone, max_seconds: float, prompts: bool = False) -> Self:
        """The limits of a model."""
        return cls(backbone.frame_rate, max_seconds, allowed_codes(backbone), prompts)


def check_text(text: str) -> None:
    """Refuse a text without words.

    Raises:
        Unusable: If it has no letter and no digit.
    """
    if not any(unicodedata.category(character)[0] in "LN" for character in text):
        raise Unusable("no words", f"its text {text!r} has no word" if text.strip() else "its text is empty")


def check_rate(text: str, seconds: float) -> None:
    """Refuse speech that is too short or too long for its text: a part of one of them is missing.

    Args:
        text: The words that are said.
        seconds: Duration of the speech, without silence around it.

    Raises:
        Unusable: If it is refused.
    """
    spoken = [c for c in _TAGS.sub(" ", text) if unicodedata.category(c)[0] in "LN"]
    letters = [c for c in spoken if unicodedata.category(c)[0] == "L"]
    syllables = sum(unicodedata.east_asian_width(c) in "WF" for c in letters)
    shortest = (len(letters) - syllables) / LETTERS_PER_SECOND + syllables / SYLLABLES_PER_SECOND - GRACE
    longest = PAUSES + SLOWEST * len(spoken)
    if seconds < shortest:
        raise Unusable(
            "too short for its text",
            f"{seconds:.2f} s of speech are too short for its text of {len(letters)} letters: a part may be missing",
        )
    if seconds > longest:
        raise Unusable(
            "too long for its text",
            f"{seconds:.1f} s of speech are too long for its text of {len(spoken)} letters and digits: a part of the "
            f"text may be missing",
        )


def check_speech(own: SpeechCodes, allowed: Tensor) -> SpeechCodes:
    """Refuse codes that are not those of a model; see `wand.model.codes.check_codes`.

    Raises:
        Unusable: If they are refused.
    """
    voice = own.global_codes
    if voice is not None:
        check_whole_numbers(voice, "its global codes")
        if voice.ndim != 1 or len(voice) == 0:
            raise Unusable("shape of codes", f"its global codes have the shape {list(voice.shape)}: give [count]")
        voice = voice.long()
    return replace(own, codes=check_codes(own.codes, allowed), global_codes=voice)


def read_sound(source: SpeechSource, utterance: Utterance, sample_rate: int, max_seconds: float = math.inf) -> Tensor:
    """The checked sound of an utterance, float32 ``[N]``.

    The length that the source claims is checked before the sound is read.

    Args:
        source: The corpus.
        utterance: One of its utterances.
        sample_rate: Sample rate of the result, in Hz.
        max_seconds: Longest sound to read.

    Raises:
        ValueError: If it cannot be read or used.
    """
    claimed = source.seconds(utterance) if isinstance(source, TimedSource) else None
    if claimed is not None:
        if not claimed > 0:  # nan too
            raise Unusable("empty", f"its duration is {claimed:g} s")
        if claimed > max_seconds:
            raise Unusable("too long", f"it lasts {claimed:.1f} s, more than data.max_seconds {max_seconds:g}")
    audio = source.audio(utterance)
    if audio.ndim != 1:
        raise Unusable("shape of sound", f"its sound has the shape {list(audio.shape)}: give one channel, [samples]")
    check_audible(audio, source.sample_rate, "its sound")
    read = len(audio) / source.sample_rate
    if claimed is not None and claimed - read > max(MISSING_SECONDS, MISSING_SHARE * claimed):
        raise Unusable("cut off", f"its sound was cut off: it should last {claimed:.2f} s, but lasts {read:.2f} s")
    return resample(audio, source.sample_rate, sample_rate)
