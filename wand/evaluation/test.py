"""The test that compares several systems on prepared sentences. It needs no Trainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from wand.attention import AttentionWindow, Windows
from wand.benchmark.cost import cache_bytes, seconds_to_columns, step_milliseconds
from wand.checks import check_whole_number
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.console.progress import Progress, progress
from wand.data.example import Example
from wand.decoding.decoder import Decoder
from wand.evaluation.metric import TestMetric, check_metrics
from wand.evaluation.prediction import PredictionTest
from wand.evaluation.quality import Take, summarise, won_back
from wand.evaluation.result import MetricColumn, Row, TestResult, WonBack
from wand.evaluation.systems import RECORDED, ComparedSystem, Weights
from wand.evaluation.takes import share_of, speak_takes, speakable, spread
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch
from wand.ranks import apart, is_first
from wand.recognition import Recogniser
from wand.speech.speaking import sounds_of

Takes = Mapping[str, Sequence[Take]]
"""Takes by the system's name."""
OnPart = Callable[[TestResult, Takes], object]


@dataclass(frozen=True)
class TestSize:
    """Size of a test.

    Args:
        sentences: Number of sentences to speak, spread evenly over the split; null is all.
        seeds: Number of takes of every sentence, each with its own seed.
        windows: Further window sizes, in columns, for the untrained weights. They speak every sentence once.
        student_full: Whether the student is also tested without its window.
        sounds: Number of sentences whose audio is saved, for every system.
        pictures: Number of sentences whose spectrograms are drawn.

    Raises:
        ValueError: If a number is out of range.
    """

    __test__ = False  # tells pytest that this is not a class of tests

    sentences: int | None = None
    seeds: int = 2
    windows: tuple[int, ...] = (16, 32, 64, 128)
    student_full: bool = True
    sounds: int = 10
    pictures: int = 3

    def __post_init__(self) -> None:
        if self.sentences is not None:
            check_whole_number("table: sentences", self.sentences, least=1, hint="null is all")
        check_whole_number("table: seeds", self.seeds, least=1)
        for name in ("sounds", "pictures"):
            check_whole_number(f"table: {name}", getattr(self, name), least=0)
        for size in self.windows:
            check_whole_number("table: windows", size, least=1)


FULL = TestSize()
CLOSING = TestSize(sentences=30, seeds=1, windows=(), student_full=False, sounds=3, pictures=0)


@dataclass(frozen=True, slots=True, eq=False)
class Speeches:
    """The speech of the systems in a test.

    Args:
        takes: All takes, by the system's name.
        sounds: Audio ``[N]`` of the `kept` sentences, by the system's name; ``recorded`` has the recordings.
        kept: Sentences whose audio was kept.
        sample_rate: Sample rate of the audio, in Hz.
    """

    takes: dict[str, list[Take]]
    sounds: dict[str, list[Tensor]]
    kept: list[Example]
    sample_rate: int


class ComparisonTest:
    """Compares systems by their prediction of recorded speech, the error rate of their own speech, and their cost.

    Several processes share the batches and the sentences. Each gets the whole result.

    Args:
        systems: The systems, each with the function that gives its model (in eval mode, all on one device). If
            ``teacher``, ``untrained`` and ``student`` are all there, the result says what the student has won back.
            The first system's model decodes the recordings. The last system's model is used to measure the cost of
            every window.
        examples: The prepared sentences of the test split.
        size: Size of the test.
        codec: The codec of the models; None to speak nothing.
        recogniser: Transcribes the speech; None to speak nothing.
        metrics: Further metrics of the spoken sentences.
        voice: Gives the voice of an example, for codecs whose codes do not contain it.
        trained: Speakers of the training split. The CER of other speakers is reported separately; None reports all
            together.
        rows: Number of sentences that are spoken at once, as rows of a batch.
        seconds: Speech lengths, in seconds, for which the cache size is computed.
        columns: Speech lengths, in columns, after which a step is timed.

    Raises:
        ValueError: If two metrics have the same name.
    """

    def __init__(
        self,
        systems: Mapping[ComparedSystem, Weights],
        examples: Sequence[Example],
        size: TestSize = FULL,
        *,
        codec: Codec | None = None,
        recogniser: Recogniser | None = None,
        metrics: Sequence[TestMetric] = (),
        voice: Callable[[Example], Reference | None] | None = None,
        trained: Iterable[str] | None = None,
        rows: int = 64,
        seconds: Sequence[float] = (4, 60),
        columns: Sequence[int] = (200, 3000),
    ) -> None:
        check_metrics(metrics)
        self.systems = systems
        self.examples = examples
        self.size = size
        self.codec = codec
        self.recogniser = recogniser
        self.metrics = metrics
        self.voice = voice
        self.trained = None if trained is None else frozenset(trained)
        self.rows = rows
        self.seconds = seconds
        self.columns = columns

    @torch.inference_mode()
    def run(self, batches: Iterable[ConditionedBatch]) -> tuple[TestResult, Speeches | None]:
        """Run the whole test.

        Args:
            batches: Batches of the recorded sentences; with several processes, the batches of this one.

        Returns:
            The result, and the speech (None without a codec, a recogniser, or a sentence that can be judged).
        """
        prediction = PredictionTest(self.systems)
        with progress("labels of the test split", None, "batches", shown=is_first()) as shown:
            for batch in batches:
                prediction.update(batch.to(self._device))
                shown.advance()
        return self.complete(prediction.means())

    def complete(
        self, means: Mapping[str, Mapping[str, float]], on_part: OnPart | None = None
    ) -> tuple[TestResult, Speeches | None]:
        """Measure cost and speech, after the prediction of recorded speech has been measured.

        Args:
            means: The result of `PredictionTest.means`.
            on_part: Called before the systems speak, with the result without speech, and whenever a system has spoken,
                with the result of the systems so far, and with their takes.

        Returns:
            The same as `run`.
        """
        rows = self._measure_cost(means)
        result = TestResult(rows, won_back_codes(rows), tuple(MetricColumn.of(metric) for metric in self.metrics))
        if self.codec is None or self.recogniser is None:
            return result, None
        chosen = speakable(spread(self.examples, self.size.sentences), self.voice, self.recogniser.language)
        if not chosen:
            return result, None
        tell = (lambda takes: on_part(self._part(result, takes), takes)) if on_part else (lambda takes: None)
        tell({})
        speeches = self._speak(self.codec, self.recogniser, chosen, tell)
        return self._with_speech(result, speeches.takes), speeches

    @property
    def _device(self) -> torch.device:
        with next(iter(self.systems.values()))() as model:
            return model.device

    def _measure_cost(self, means: Mapping[str, Mapping[str, float]]) -> tuple[Row, ...]:
        with list(self.systems.values())[-1]() as model:
            return self._costs(model, means)

    def _costs(self, model: Backbone, means: Mapping[str, Mapping[str, float]]) -> tuple[Row, ...]:
        lengths = sorted(model.conditioner.length(example.conditioning) for example in self.examples)
        prefix = lengths[len(lengths) // 2]
        windows = list(dict.fromkeys(system.window for system in self.systems))
        bound = model.max_speech_tokens or math.inf
        timed = [count for count in self.columns if count < bound] if is_first() else []
        seconds = [length for length in self.seconds if seconds_to_columns(model, length) <= bound]
        times: dict[int, dict[Windows, float]] = {}
        # No process may speak while the first one times steps.
        with apart("timing steps"), progress("timing steps", len(timed), "lengths", shown=is_first()) as shown:
            for count in timed:
                times[count] = dict(zip(windows, step_milliseconds(model, prefix, count, windows), strict=True))
                shown.advance()
        return tuple(
            Row(
                system=system,
                ce=means[system.name]["ce"],
                agreement=means[system.name].get("agreement"),
                kl=means[system.name].get("kl"),
                kv_bytes={length: cache_bytes(model, prefix, length, system.window) for length in seconds},
                step_ms={count: times[count][system.window] for count in timed},
            )
            for system in self.systems
        )

    def _part(self, result: TestResult, takes: Takes) -> TestResult:
        """The result of the systems that have spoken; without speech if none has."""
        rows = tuple(row for row in result.rows if row.system.name in takes)
        return self._with_speech(replace(result, rows=rows), takes) if rows else result

    def _speak(
        self, codec: Codec, recogniser: Recogniser, chosen: Sequence[Example], tell: Callable[[Takes], object]
    ) -> Speeches:
        kept = spread(chosen, max(self.size.sounds, self.size.pictures))
        voices = [None if self.voice is None else self.voice(example) for example in kept]
        said = [example.conditioning for example in kept]
        recorded = self._recorded_sounds(codec, [*kept, *(share_of(chosen) if self.metrics else [])])
        sounds = {RECORDED: [recorded[example.id] for example in kept]}
        takes: dict[str, list[Take]] = {}
        seeds = {s: self.size.seeds if s.name == s.kind else 1 for s in self.systems}
        with progress("speaking", sum(seeds.values()) * len(chosen), "sentences", shown=is_first()) as shown:
            for system, weights in self.systems.items():
                takes[system.name] = []
                for seed in range(seeds[system]):
                    before = shown.done
                    with weights() as model:
                        spoken = speak_takes(
                            Decoder(model, system.window),
                            codec,
                            recogniser,
                            chosen,
                            voice=self.voice,
                            metrics=self.metrics,
                            recorded=recorded,
                            seed=seed,
                            rows=self.rows,
                            on_done=partial(_show, shown, before, system.name),
                        )
                        _show(shown, before, system.name, len(chosen))
                        takes[system.name] += [spoken[example.id][0] for example in chosen]
                        if seed == 0:
                            codes = [spoken[example.id][1] for example in kept]
                            sounds[system.name] = sounds_of(model, codec, system.window, said, codes, voices)
                tell(takes)
        return Speeches(takes, sounds, kept, codec.sample_rate)

    def _recorded_sounds(self, codec: Codec, examples: Sequence[Example]) -> dict[str, Tensor]:
        """The recordings after a round trip through the codec, by the example's id."""
        distinct = list({example.id: example for example in examples}.values())
        voices = [None if self.voice is None else self.voice(example) for example in distinct]
        said, codes = [example.conditioning for example in distinct], [example.codes for example in distinct]
        with next(iter(self.systems.values()))() as original:
            sounds = sounds_of(original, codec, AttentionWindow(), said, codes, voices)
        return {example.id: sound for example, sound in zip(distinct, sounds, strict=True)}

    def _with_speech(self, result: TestResult, takes: Mapping[str, Sequence[Take]]) -> TestResult:
        speakers = {take.speaker for own in takes.values() for take in own}
        unseen = frozenset() if self.trained is None else frozenset(speakers - self.trained)
        rows = tuple(replace(row, speech=summarise(takes[row.system.name], unseen)) for row in result.rows)
        assert self.recogniser is not None
        heard = replace(result, rows=rows, recogniser=self.recogniser.name)
        if not {"teacher", "untrained", "student"} <= takes.keys():
            return heard
        won = won_back(takes["teacher"], takes["untrained"], takes["student"], unseen)
        by_ear = {} if won is None else {"cer": WonBack(*won)}
        return replace(heard, won_back={**by_ear, **result.won_back})


def won_back_codes(rows: Sequence[Row]) -> dict[str, WonBack]:
    """What the student has won back on recorded speech, as a share of the untrained window's loss, by measure."""
    by_name = {row.system.name: row for row in rows}
    if not {"teacher", "untrained", "student"} <= by_name.keys():
        return {}
    shares = {}
    for measure in ("agreement", "kl", "ce"):
        teacher, untrained, student = (getattr(by_name[name], measure) for name in ("teacher", "untrained", "student"))
        if untrained != teacher:
            shares[measure] = WonBack((student - untrained) / (teacher - untrained))
    return shares


def _show(shown: Progress, before: int, name: str, done: int) -> None:
    shown.update(before + done, name)
