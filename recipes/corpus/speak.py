"""Speaks the corpus into files, which `recipes.corpus.recorded.Recorded` reads. An interrupted run goes on."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recipes.corpus.corpus import OpenCorpus, kind_of
from recipes.corpus.voices import Spoken, check_engines
from wand.console.progress import progress
from wand.data.encoding import in_processes, refused
from wand.data.example import Refusal
from wand.data.sources.source import SPLITS, Utterance
from wand.files.writing import remove_partial_files, replacing

UTTERANCES_PER_PART = 500


@dataclass(frozen=True, slots=True)
class Sound:
    """Speech as processes send it: int16 samples ``[N]``, and phones with their start times."""

    samples: np.ndarray
    phones: list[tuple[str, float]]


class Speaker:
    """Speaks an utterance. Worker processes run it.

    Args:
        speak: Speaks an utterance of the corpus.
    """

    def __init__(self, speak: Callable[[Utterance], Spoken]) -> None:
        self._speak = speak

    def __call__(self, utterance: Utterance) -> Sound | Refusal:
        """The sound of an utterance, or the reason why there is none."""
        return refused(utterance, self._sound)

    def _sound(self, utterance: Utterance) -> Sound:
        spoken = self._speak(utterance)
        samples = (spoken.audio.numpy() * 32768).round().clip(-32768, 32767).astype(np.int16)
        return Sound(samples, [(phone, round(begin, 3)) for phone, begin in spoken.phones])


def speak(corpus: OpenCorpus, folder: Path, processes: int = 1) -> None:
    """Speak a corpus into a folder. Parts that are there already are kept.

    Args:
        corpus: The corpus.
        folder: The folder.
        processes: Number of processes.
    """
    check_engines([*corpus.voices.values(), corpus.unseen_voice])
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial_files(folder)
    todo = []
    for split in reversed(SPLITS):
        utterances = corpus.utterances(split)
        for i in range(0, len(utterances), UTTERANCES_PER_PART):
            part = utterances[i : i + UTTERANCES_PER_PART]
            path = folder / f"{split}-{i // UTTERANCES_PER_PART:05d}.jsonl"
            if not _holds(path, part):
                todo.append((path, part))
    with (
        progress("speaking", sum(len(part) for _, part in todo), "utterances") as made,
        in_processes(Speaker(_Voices(corpus)), processes) as run,
    ):
        for path, part in todo:
            sounds = []
            for sound in run(part):
                sounds.append(sound)
                made.advance()
            _write(path, part, sounds)


class _Voices:
    """The voices of a corpus without its texts, which are large to send."""

    def __init__(self, corpus: OpenCorpus) -> None:
        self._voices = {**corpus.voices, corpus.unseen_voice.name: corpus.unseen_voice}

    def __call__(self, utterance: Utterance) -> Spoken:
        return self._voices[utterance.speaker].speak(utterance.text)


def _holds(path: Path, part: Sequence[Utterance]) -> bool:
    """Whether a part is there and says these utterances. Its index is written last."""
    if not path.exists():
        return False
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    said = [(line["id"], line["text"], line["speaker"]) for line in lines]
    return said == [(utterance.id, utterance.text, utterance.speaker) for utterance in part]


def _write(path: Path, part: Sequence[Utterance], sounds: Iterable[Sound | Refusal]) -> None:
    lines, samples, start = [], [], 0
    for utterance, sound in zip(part, sounds, strict=True):
        line: dict[str, Any] = {"id": utterance.id, "text": utterance.text, "speaker": utterance.speaker}
        if isinstance(sound, Refusal):
            line["refused"] = sound.detail
        else:
            line |= {"kind": kind_of(utterance), "start": start, "length": len(sound.samples)}
            line |= {"sound": hashlib.sha256(sound.samples.tobytes()).hexdigest()[:16], "phones": sound.phones}
            samples.append(sound.samples)
            start += len(sound.samples)
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    path.unlink(missing_ok=True)  # an index of other utterances does not fit the new samples
    with replacing(path.with_suffix(".npy")) as partial, partial.open("wb") as file:
        np.save(file, np.concatenate([np.zeros(0, np.int16), *samples]))
    with replacing(path) as partial:
        partial.write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the speech")
    parser.add_argument("--hours", type=float, default=10.0, help="hours of training speech")
    parser.add_argument("--sentences", type=int, default=400, help="sentences of the validation and the test split")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sentences")
    parser.add_argument("--processes", type=int, default=1, help="processes that speak; 0 speaks in this one")
    arguments = parser.parse_args()
    corpus = OpenCorpus(arguments.hours, arguments.seed, arguments.sentences, arguments.sentences)
    speak(corpus, arguments.out, arguments.processes)


if __name__ == "__main__":
    main()
