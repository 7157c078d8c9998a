"""A study: its systems speak its sentences, group by group, and every take becomes a row on the disk.

Groups are a function of the sentences alone, and a system speaks a group as a whole. So a row depends neither on the
shard that makes it nor on interruptions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from wand.attention import AttentionWindow
from wand.codecs import Codec
from wand.console.interrupt import Interrupted
from wand.console.progress import Progress, progress
from wand.decoding.requests import Generation
from wand.decoding.stopping import StopReason
from wand.evaluation.metric import SpokenSentence, TestMetric, measure_all
from wand.evaluation.quality import Take
from wand.evaluation.study.rows import ROWS, Errors, Key, StudyRow, append_rows, drop_broken_line, read_rows, write_rows
from wand.evaluation.study.sentences import Sentence, Sentences
from wand.evaluation.study.systems import Speaker, Speakers
from wand.evaluation.study.words import WordReader
from wand.evaluation.systems import RECORDED
from wand.evaluation.takes import hear_takes, speak_examples, spread
from wand.files.audio import write_audio
from wand.files.names import file_name
from wand.files.turns import Task
from wand.recognition import Recogniser
from wand.speech.speaking import sounds_of

# Number of sentences that are spoken at once.
GROUP = 32


@dataclass(frozen=True, eq=False)
class Study:
    """Systems that speak sentences with several seeds.

    Args:
        folder: Folder of the study.
        speakers: The systems, and their codec.
        sentences: The sentences.
        seeds: Seeds; every system speaks every sentence once with each.
        recognisers: What transcribes each take.
        metrics: What is measured in each take. They see the transcript of the first recogniser.
        sounds: Number of sentences whose takes with the first seed are kept as sound files.
        max_seconds: Longest speech of a sentence without a recording, in seconds.
        recordings: Whether the recordings are a system, too. Metrics compare with them in any case.
        group: Number of sentences that are spoken at once.
    """

    folder: Path
    speakers: Speakers
    sentences: Sentences
    seeds: Sequence[int]
    recognisers: Sequence[Recogniser]
    metrics: Sequence[TestMetric]
    sounds: int = 10
    max_seconds: float = 30.0
    recordings: bool = True
    group: int = GROUP

    @cached_property
    def groups(self) -> list[list[int]]:
        """The places of the sentences of each group. Those of a group have similar lengths; the longest come first."""
        order = sorted(range(len(self.sentences.ids)), key=lambda place: -self.sentences.sizes[place])
        return [order[i : i + self.group] for i in range(0, len(order), self.group)]

    @cached_property
    def kept(self) -> frozenset[str]:
        """Ids of the sentences whose sounds are kept."""
        return frozenset(spread(self.sentences.ids, self.sounds))

    @cached_property
    def recorded(self) -> list[bool]:
        """Whether each sentence has a row of the system `recorded`."""
        return [self.recordings and one for one in self.sentences.recorded]

    @cached_property
    def reader(self) -> WordReader | None:
        """What finds the words of the takes; None if no metric needs them, or no system can."""
        return WordReader.of(self.speakers) if any(metric.needs_words for metric in self.metrics) else None

    def keys(self, group: Sequence[int]) -> dict[tuple[str, int], list[Key]]:
        """What a group consists of: the keys of its rows, by system and seed."""
        ids = [self.sentences.ids[place] for place in group]
        takes: dict[tuple[str, int], list[Key]] = {}
        if recorded := [Key(self.sentences.ids[place], RECORDED, 0) for place in group if self.recorded[place]]:
            takes[RECORDED, 0] = recorded
        for speaker in self.speakers.systems:
            for seed in self.seeds:
                takes[speaker.system.name, seed] = [Key(name, speaker.system.name, seed) for name in ids]
        return takes

    def all_keys(self, groups: Sequence[Sequence[int]]) -> list[Key]:
        """The keys of all rows of some groups."""
        return [key for group in groups for keys in self.keys(group).values() for key in keys]

    def finished(self) -> dict[Key, StudyRow]:
        """The rows that all shards have written so far."""
        wanted = {*self.all_keys(self.groups)}
        rows = (row for file in sorted(self.folder.glob("rows-*-of-*.jsonl")) for row in read_rows(file))
        return {row.key: row for row in rows if row.key in wanted}

    def missing(self, rows: dict[Key, StudyRow]) -> int:
        """Number of rows that are not written yet."""
        return len({*self.all_keys(self.groups)} - rows.keys())

    @torch.inference_mode()
    def run(self, task: Task) -> None:
        """Make the rows of a shard that are missing.

        Raises:
            Interrupted: If a signal came. What was finished is on the disk.
            ValueError: If another process makes this shard.
        """
        file = self.folder / f"rows-{task.number}-of-{task.count}.jsonl"
        with _alone(file):
            drop_broken_line(file)
            done = {*self.finished()}
            own = task.own(self.groups)
            keys = self.all_keys(own)
            with progress("speaking", len(keys), "takes") as shown, self._reporting(keys):
                shown.update(len(done.intersection(keys)))
                for group in own:
                    for rows in self._make(group, done, shown):
                        append_rows(file, rows)

    def write(self, rows: dict[Key, StudyRow]) -> None:
        """Write all rows into one file."""
        write_rows(self.folder / ROWS, rows.values())

    def _make(self, group: Sequence[int], done: set[Key], shown: Progress) -> Iterator[list[StudyRow]]:
        """The missing rows of a group, those of one system and seed at a time."""
        todo = {take: keys for take, keys in self.keys(group).items() if not done.issuperset(keys)}
        if not todo:
            return
        sentences = [self.sentences.read(place) for place in group]
        recorded = self._recorded(sentences)
        by_name = {speaker.system.name: speaker for speaker in self.speakers.systems}
        for (name, seed), keys in todo.items():
            known = done.intersection(keys)
            before = shown.done - len(known)
            if name == RECORDED:
                chosen = [one for one in sentences if one.example.codes.shape[1]]
                spoken = [_recording(one) for one in chosen]
                sounds = [recorded[one.example.id] for one in chosen]
            else:
                chosen = sentences
                spoken, sounds = self._speak(by_name[name], seed, chosen, shown, before)
            rows = self._rows(name, seed, chosen, spoken, sounds, recorded)
            yield [row for row in rows if row.key not in known]
            shown.update(before + len(keys), name)

    def _speak(
        self, speaker: Speaker, seed: int, sentences: Sequence[Sentence], shown: Progress, before: int
    ) -> tuple[list[Generation], list[Tensor]]:
        examples = [one.example for one in sentences]
        spoken = speak_examples(
            speaker.decoder,
            self.codec,
            examples,
            seed=seed,
            rows=self.group,
            max_seconds=self.max_seconds,
            on_done=lambda count: shown.update(max(shown.done, before + count), speaker.system.name),
        )
        said, codes = [one.conditioning for one in examples], [one.codes for one in spoken]
        voices = [one.voice for one in sentences]
        return spoken, sounds_of(speaker.model, self.codec, speaker.window, said, codes, voices)

    def _recorded(self, sentences: Sequence[Sentence]) -> dict[str, Tensor]:
        """The recordings after a round trip through the codec, by the sentence's id; empty where there is none."""
        examples = [one.example for one in sentences]
        said, codes = [one.conditioning for one in examples], [one.codes for one in examples]
        voices = [one.voice for one in sentences]
        sounds = sounds_of(self.speakers.first, self.codec, AttentionWindow(), said, codes, voices)
        return {example.id: sound for example, sound in zip(examples, sounds, strict=True)}

    def _rows(
        self,
        name: str,
        seed: int,
        sentences: Sequence[Sentence],
        spoken: Sequence[Generation],
        sounds: Sequence[Tensor],
        recorded: dict[str, Tensor],
    ) -> list[StudyRow]:
        examples, rate = [one.example for one in sentences], self.codec.sample_rate
        frame_rate = self.speakers.first.frame_rate
        heard = {
            ear.name: hear_takes(ear, examples, spoken, sounds, rate, frame_rate, seed) for ear in self.recognisers
        }
        takes = next(iter(heard.values()))
        measured = []
        for one, take, own, sound in zip(sentences, takes, spoken, sounds, strict=True):
            words = () if self.reader is None else self.reader(one, own.codes)
            known = (recorded[take.id], rate, one.reference, words)
            measured.append(SpokenSentence(one.example, take, own.codes, sound, *known))
        return [
            self._row(name, {ear: own[i] for ear, own in heard.items()}, values, sounds[i])
            for i, values in enumerate(measure_all(self.metrics, measured))
        ]

    def _row(self, system: str, heard: dict[str, Take], values: dict[str, float | None], sound: Tensor) -> StudyRow:
        take = next(iter(heard.values()))
        return StudyRow(
            id=take.id,
            system=system,
            seed=take.seed,
            speaker=take.speaker,
            text=take.text,
            heard={name: own.heard for name, own in heard.items()},
            ended=take.ended,
            seconds=take.seconds,
            recorded_seconds=None if math.isnan(take.recorded_seconds) else take.recorded_seconds,
            errors={
                name: Errors(own.wrong_letters, own.letters, own.wrong_words, own.words) for name, own in heard.items()
            },
            metrics=values,
            sound=self._keep(Key(take.id, system, take.seed), sound),
        )

    def _keep(self, key: Key, sound: Tensor) -> str | None:
        """Write the sound of a take, if it is kept; its name in the folder."""
        first = 0 if key.system == RECORDED else self.seeds[0]
        if key.id not in self.kept or key.seed != first or not len(sound):
            return None
        name = f"sounds/{file_name(key.id)}-{file_name(key.system)}-{key.seed}.flac"
        write_audio(self.folder / name, sound, self.codec.sample_rate)
        return name

    @property
    def codec(self) -> Codec:
        """The codec of all systems."""
        return self.speakers.codec

    @contextmanager
    def _reporting(self, keys: Sequence[Key]) -> Iterator[None]:
        try:
            yield
        except Interrupted as stopped:
            kept = len(self.finished().keys() & {*keys})
            stopped.report = f"{kept} of {len(keys)} takes are kept in {self.folder}; the same command goes on"
            raise


def _recording(sentence: Sentence) -> Generation:
    codes = sentence.example.codes
    return Generation(codes, codes.new_zeros(0, len(codes)), StopReason.STOP_TOKEN)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    try:
        held = FileLock(file.with_name(f".{file.stem}.lock")).acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"another process makes {file}: wait for it, or end it") from error
    with held:
        yield
