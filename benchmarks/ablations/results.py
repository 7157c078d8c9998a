"""What was measured of each run, as a line of one file. Whoever has the file need not repeat its runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from wand.evaluation.study.rows import StudyRow
from wand.files.typed import reading
from wand.files.writing import write_text


@dataclass(frozen=True, slots=True)
class Heard:
    """What a recogniser heard of one system, by sentence: N sentences in the order of their ids, over all takes.

    A take has at most as many errors as its text has letters and words: a recogniser that repeats itself would
    otherwise decide the figures with a single sentence.

    Args:
        letters: Letters of the text, ``[N]``.
        wrong_letters: Errors among them, ``[N]``.
        words: Words of the text, ``[N]``; 0 in languages without blanks between words.
        wrong_words: Errors among them, ``[N]``.
    """

    letters: list[int]
    wrong_letters: list[int]
    words: list[int]
    wrong_words: list[int]

    @classmethod
    def of(cls, rows: Iterable[StudyRow], recogniser: str) -> Self:
        """The errors in the rows of one system."""
        sums: dict[str, list[int]] = {}
        for row in rows:
            own = row.errors[recogniser]
            before = sums.get(row.id, [0] * 4)
            wrong = (min(own.wrong_letters, own.letters), min(own.wrong_words, own.words))
            counts = (own.letters, wrong[0], own.words, wrong[1])
            sums[row.id] = [a + b for a, b in zip(before, counts, strict=True)]
        letters, wrong_letters, words, wrong_words = map(list, zip(*(sums[name] for name in sorted(sums)), strict=True))
        return cls(letters, wrong_letters, words, wrong_words)

    @property
    def cer(self) -> float:
        """Character error rate over all letters."""
        return sum(self.wrong_letters) / sum(self.letters)

    @property
    def wer(self) -> float | None:
        """Word error rate over all words; None without words."""
        return sum(self.wrong_words) / sum(self.words) if sum(self.words) else None


@dataclass(frozen=True, slots=True)
class SystemFigures:
    """The figures of one system.

    Args:
        window: Its window: columns, or columns by layer; None for full attention.
        agreement: Share of the labels of the recorded test sentences for which it agrees with the teacher.
        kl: KL divergence from the teacher on the recorded test sentences, in nats per label.
        kv_bytes: Bytes of one row's cache after `RunFigures.seconds` of speech.
        heard: The errors, by the name of the recogniser.
    """

    window: int | list[int] | None
    agreement: float
    kl: float
    kv_bytes: int
    heard: dict[str, Heard]

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild the figures from plain values."""
        return cls(**{**plain, "heard": {name: Heard(**own) for name, own in plain["heard"].items()}})


@dataclass(frozen=True, slots=True)
class Coverage:
    """What ``wand analyze`` has found.

    Args:
        covered: Windows in columns, and the share of the attention that each covers.
        recommended: The window that it recommends; None if it recommends none.
    """

    covered: list[tuple[int, float]]
    recommended: int | None


class Key(NamedTuple):
    """What names the figures of a run. A run that is heard in another way has other figures.

    Args:
        run: Name of the run's folder.
        recognisers: The recognisers as they were asked for, sorted.
        takes: Takes of every sentence.
    """

    run: str
    recognisers: tuple[str, ...]
    takes: int

    @classmethod
    def of(cls, run: str, recognisers: Iterable[str], takes: int) -> Self:
        """The key, whatever the order of the recognisers."""
        return cls(run, tuple(sorted(recognisers)), takes)


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The figures of one run.

    Args:
        run: Name of the run's folder, which has a digest of all that determines the weights.
        recognisers: The recognisers as they were asked for, and their names.
        takes: Takes of every sentence.
        seconds: Seconds of speech for which the bytes of the cache are given.
        date: Day of the measurement.
        machine: Processor and versions.
        systems: The figures of ``student``, and of ``teacher`` and ``untrained`` where they were measured.
        recorded: What the recognisers heard of the recordings; None if they were not measured.
        coverage: The attention that windows cover; None if it was not measured.
    """

    run: str
    recognisers: dict[str, str]
    takes: int
    seconds: float
    date: str
    machine: str
    systems: dict[str, SystemFigures]
    recorded: dict[str, Heard] | None = None
    coverage: Coverage | None = None

    @property
    def key(self) -> Key:
        """What names the figures: the run, and how it was heard."""
        return Key.of(self.run, self.recognisers, self.takes)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild the figures from the values of their line."""
        systems = {name: SystemFigures.from_plain(own) for name, own in plain["systems"].items()}
        recorded, coverage = plain["recorded"], plain["coverage"]
        made = {
            "systems": systems,
            "recorded": recorded and {name: Heard(**own) for name, own in recorded.items()},
            "coverage": coverage and Coverage([tuple(pair) for pair in coverage["covered"]], coverage["recommended"]),
        }
        return cls(**{**plain, **made})


def read_results(file: Path) -> dict[Key, RunFigures]:
    """The figures in a file; nothing if there is no file.

    Raises:
        ValueError: If a line has no such figures; the message gives file and line.
    """
    if not file.is_file():
        return {}
    found = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        with reading(f"{file}, line {number}"):
            figures = RunFigures.from_plain(json.loads(line))
            found[figures.key] = figures
    return found


def write_results(file: Path, results: Mapping[Key, RunFigures]) -> None:
    """Write all figures, sorted by the name of the run."""
    lines = (json.dumps(asdict(results[key]), separators=(",", ":"), ensure_ascii=False) for key in sorted(results))
    write_text(file, "".join(f"{line}\n" for line in lines))
