"""The report of all lengths, as Markdown and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.long_speech.figures import (
    DIFFERENCE,
    RATIO,
    Estimate,
    Figures,
    Grid,
    Mistakes,
    computing,
    error_figures,
    mistakes,
    reached_end,
    sound_figures,
)
from benchmarks.long_speech.record import SYSTEMS
from benchmarks.long_speech.texts import LongText
from wand.console.tables import markdown
from wand.recognition import Recogniser

NOTES = """\
passage: the whole text in one continuous decode; splitting: its sentences spoken one by one and joined with pauses of
0.2 s. Brackets: 95 % interval from resampled voices and seeds; differences and ratios are paired; below: the one-sided
95 % bound of a difference.

CER: wrong letters in the transcript, aligned with the whole text, as a share of those in the text; thirds: CER of each
third of the text; growth: CER of the last third minus that of the first, in points; missing: sentences of which less
than half was heard; skip, insertion: letters of the longest stretch of text that was not heard, and of speech that is
not in the text.

ended: speeches that reached the end of their text; faults: skips, loops and stops that were not repaired; seam, pause:
medians of the steps in pitch and level where a sentence begins, between half a second of voice on both sides, and of
the pauses there; sentence: median step in pitch between whole sentences; drift: the last third of the sound against the
first (rate: of the sentences), medians with their signs; size: median of the sizes of the drifts in pitch; duration:
seconds spoken over those of the synthesiser of the voice, which reads the same text at once; letters/s: letters and
digits per second of active speech; computing: CPU seconds per second of speech, without the codec; moves: share of it
that exchanges text windows.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Length:
    """Everything that is known about one length.

    Args:
        seconds: The length.
        texts: The texts, one for each voice.
        spoken: The speeches.
        sound: Figures of their sound.
        mistakes: The mistakes that each ear has heard, of each system, ``[V][S]``.
        errors: Figures of the errors that each ear has heard.
    """

    seconds: float
    texts: Sequence[LongText]
    spoken: Grid
    sound: Figures
    mistakes: dict[str, dict[str, list[list[Mistakes]]]]
    errors: dict[str, Figures]

    @classmethod
    def of(cls, seconds: float, texts: Sequence[LongText], spoken: Grid, ears: Sequence[Recogniser]) -> Length:
        """From the speeches, which all ears have heard."""
        heard = {
            ear.name: {
                system: [[mistakes(one, one.heard[ear.name], ear.language) for one in own] for own in grid]
                for system, grid in spoken.items()
            }
            for ear in ears
        }
        sound = sound_figures(spoken, [text.joint for text in texts])
        return cls(seconds, texts, spoken, sound, heard, {name: error_figures(own) for name, own in heard.items()})

    def to_json(self) -> dict[str, Any]:
        """All figures, and those of every speech."""
        texts = [
            {"voice": text.voice, "sentences": len(text.sentences), "summed": text.summed, "joint": text.joint}
            for text in self.texts
        ]
        speeches = [
            {
                "voice": text.voice,
                "seed": seed,
                "system": system,
                "reached_end": reached_end(facts),
                "faults": facts.faults,
                "computing": facts.computing,
                "moving": facts.moving,
                **facts.sound,
                "heard": {name: asdict(own[system][i][seed]) for name, own in self.mistakes.items()},
            }
            for system, grid in self.spoken.items()
            for i, text in enumerate(self.texts)
            for seed, facts in enumerate(grid[i])
        ]
        cost = {
            system: dict(zip(("seconds", "moves"), computing(grid), strict=True))
            for system, grid in self.spoken.items()
        }
        figures = {
            "computing": cost,
            "errors": {ear: _plain(own) for ear, own in self.errors.items()},
            "sound": _plain(self.sound),
        }
        made: dict[str, Any] = without_nan({"texts": texts, **figures, "speeches": speeches})
        return made


def _plain(figures: Figures) -> dict[str, Any]:
    return {system: {name: asdict(one) for name, one in own.items()} for system, own in figures.items()}


def without_nan(value: Any) -> Any:
    """The same plain values, with None for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {name: without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_markdown(lengths: Sequence[Length]) -> str:
    """A table for each ear, one of the sound, and what the columns mean."""
    titles = ["s", "system", "CER % [95 %]", "thirds", "growth [95 %]", "missing", "skip", "insertion"]
    parts = []
    for ear in lengths[0].errors:
        lines = [line for length in lengths for line in _error_lines(length, ear)]
        parts.append(f"Heard by {ear}:\n\n{markdown(titles, lines)}")
    lines = [line for length in lengths for line in _sound_lines(length)]
    parts += [markdown(_SOUND_TITLES, lines), NOTES]
    return "\n\n".join(parts)


def _error_lines(length: Length, ear: str) -> list[list[str]]:
    figures, lines = length.errors[ear], []
    for system in SYSTEMS:
        own, found = figures[system], [one for grid in length.mistakes[ear][system] for one in grid]
        sentences = sum(len(facts.sentences) for grid in length.spoken[system] for facts in grid)
        lines.append(
            [
                f"{length.seconds:g}",
                system,
                _percent(own["cer"]),
                " ".join(f"{100 * own[third].value:.1f}" for third in ("first", "middle", "last")),
                _percent(own["growth"]),
                f"{sum(len(one.missing) for one in found)} of {sentences}",
                f"{max(one.skip[0] for one in found)}",
                f"{max(one.insertion[0] for one in found)}",
            ]
        )
    cer, growth = figures[DIFFERENCE]["cer"], figures[DIFFERENCE]["growth"]
    return [*lines, [f"{length.seconds:g}", DIFFERENCE, _below(cer), "-", _below(growth), "-", "-", "-"]]


_SOUND_TITLES = [
    "s",
    "system",
    "ended",
    "faults",
    "seam semitones",
    "seam dB",
    "pause s",
    "sentence semitones",
    "drift semitones",
    "size",
    "drift dB",
    "drift of rate %",
    "duration",
    "letters/s",
    "computing",
    "moves %",
]


def _sound_lines(length: Length) -> list[list[str]]:
    lines = []
    for system in (*SYSTEMS, RATIO):
        own = length.sound[system]
        ended, faults, drifts, cost = "-", "-", ["-"] * 4, ["-"] * 2
        if system != RATIO:
            speeches = [facts for grid in length.spoken[system] for facts in grid]
            ended = f"{sum(map(reached_end, speeches))} of {len(speeches)}"
            faults = f"{sum(len(facts.faults) for facts in speeches)}"
            drifts = [_number(own[name]) for name in ("pitch_drift", "pitch_drift_size", "level_drift")]
            drifts.append(_percent(own["rate_drift"]))
            seconds, moves = computing(length.spoken[system])
            cost = [f"{seconds:.2f}", f"{100 * moves:.1f}"]
        seams = [_number(own[name]) for name in ("seam_pitch", "seam_level", "seam_pause", "sentence_pitch")]
        rates = [_number(own["duration"], 3), _number(own["letters_per_second"])]
        lines.append([f"{length.seconds:g}", system, ended, faults, *seams, *drifts, *rates, *cost])
    return lines


def _percent(figure: Estimate) -> str:
    return f"{100 * figure.value:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def _below(figure: Estimate) -> str:
    return f"{100 * figure.value:+.2f}, below {100 * figure.upper:+.2f}"


def _number(figure: Estimate, places: int = 2) -> str:
    return f"{figure.value:.{places}f} [{figure.low:.{places}f}, {figure.high:.{places}f}]"
