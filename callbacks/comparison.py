"""The table of a test: quality and cost of teacher, untrained windows and student."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from wand.attention import AttentionWindow
from wand.data.audio import write_audio
from wand.data.datamodule import SpeechDataModule
from wand.data.example import Example
from wand.decoding.decoder import Decoder
from wand.evaluation.comparison import Row, WonBack, save, show, won_back_codes
from wand.evaluation.cost import cache_bytes, columns_of, step_milliseconds
from wand.evaluation.pictures import draw_spectrograms
from wand.evaluation.quality import Take, summarise, won_back
from wand.evaluation.speaking import speak_takes, spread
from wand.evaluation.systems import compared_systems
from wand.evaluation.voices import ReferenceVoices
from wand.module import WandModule
from wand.recognition import open_recogniser
from wand.synthesis import sounds_of


@dataclass(frozen=True)
class TableSize:
    """How much a table takes in.

    Args:
        sentences: Of the test split, evenly spread over it; null takes all.
        seeds: Takes of every sentence.
        windows: Sizes at which the untrained weights are shown, besides the student's; one take of every sentence.
        student_full: Whether the student is also run without its window.
        sounds: Sentences of which every system's sound is written.
        pictures: Sentences of which spectrograms are drawn.
    """

    sentences: int | None = None
    seeds: int = 2
    windows: tuple[int, ...] = (16, 32, 64, 128)
    student_full: bool = True
    sounds: int = 10
    pictures: int = 3


FULL = TableSize()
CLOSING = TableSize(sentences=30, seeds=1, windows=(), student_full=False, sounds=3, pictures=0)


class ComparisonTable(Callback):
    """At the end of a test: what every system says, how it predicts recorded speech, what it costs.

    Written to the run's folder ``test`` (``closing`` after a fit): ``table.json``, ``table.md``, all takes with what
    was heard in them, sounds and spectrograms. Several processes share the sentences.

    Args:
        recogniser: Who listens: ``embedded`` (for the speech of `wand.demo`), a folder or name that transformers
            opens (``openai/whisper-large-v3``), or null for a table without error rates.
        full: What ``wand test`` takes in.
        closing: What the table at the end of a fit takes in.
        rows: Sentences spoken at once.
        seconds: Lengths of speech at which the cache is counted.
        columns: Speech columns after which a step is timed.
    """

    def __init__(
        self,
        recogniser: str | None = None,
        full: TableSize = FULL,
        closing: TableSize = CLOSING,
        rows: int = 64,
        seconds: tuple[float, ...] = (4, 60),
        columns: tuple[int, ...] = (200, 3000),
    ) -> None:
        self.recogniser = recogniser
        self.full = full
        self.closing = closing
        self.rows = rows
        self.seconds = seconds
        self.columns = columns
        self.after_fit = False

    @property
    def size(self) -> TableSize:
        """What is taken in now."""
        return self.closing if self.after_fit else self.full

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell the module what to compare."""
        if stage == "test":
            assert isinstance(pl_module, WandModule)
            with_teacher = pl_module.settings.teacher is not None
            pl_module.systems = compared_systems(
                pl_module.final_window, with_teacher, self.size.windows, self.size.student_full
            )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Speak, listen, measure, print and write."""
        assert isinstance(pl_module, WandModule)
        data = getattr(trainer, "datamodule", None)
        assert isinstance(data, SpeechDataModule)
        rows, shares = self._measure_codes(trainer, pl_module, data)
        trainer.strategy.barrier()  # nobody speaks while steps are timed
        folder = Path(trainer.default_root_dir) / ("closing" if self.after_fit else "test")
        if self.recogniser is not None and pl_module.backbone.find_codec() is None:
            rank_zero_warn(f"recogniser {self.recogniser} has nothing to hear: there is no codec (data.codec)")
        elif self.recogniser is not None:
            rows, shares = self._add_speech(trainer, pl_module, data, rows, shares, folder)
        if trainer.is_global_zero:
            show(rows, shares)
            if self._has_folder(trainer):
                save(rows, shares, folder)

    # -- reference codes and cost --------------------------------------------------------------------------------

    def _measure_codes(self, trainer: Trainer, module: WandModule, data: SpeechDataModule) -> tuple[list[Row], WonBack]:
        conditioner = module.backbone.conditioner
        lengths = sorted(conditioner.length(e.conditioning) for e in data.examples["test"])
        prefix = lengths[len(lengths) // 2]
        windows = list(dict.fromkeys(system.window for system in module.systems))
        backbone = module.backbone
        bound = backbone.max_speech_tokens or math.inf
        timed = [n for n in self.columns if n < bound] if trainer.is_global_zero else []
        seconds = [s for s in self.seconds if columns_of(backbone, s) <= bound]
        times = {n: dict(zip(windows, step_milliseconds(backbone, prefix, n, windows), strict=True)) for n in timed}
        rows = []
        for system in module.systems:
            begin = f"test/{system.name}/"
            means = {
                k.removeprefix(begin): float(v) for k, v in trainer.callback_metrics.items() if k.startswith(begin)
            }
            rows.append(
                Row(
                    system=system,
                    ce=means["ce"],
                    agreement=means.get("agreement"),
                    kl=means.get("kl"),
                    kv_bytes={s: cache_bytes(backbone, prefix, s, system.window) for s in seconds},
                    step_ms={n: times[n][system.window] for n in timed},
                )
            )
        return rows, won_back_codes(rows)

    # -- speech --------------------------------------------------------------------------------------------------

    def _add_speech(
        self,
        trainer: Trainer,
        module: WandModule,
        data: SpeechDataModule,
        rows: list[Row],
        shares: WonBack,
        folder: Path,
    ) -> tuple[list[Row], WonBack]:
        chosen = spread(data.examples["test"], self.size.sentences)
        trained = {utterance.speaker for utterance in data.source.utterances("train")}
        unseen = frozenset({example.speaker for example in chosen} - trained)
        codec = module.backbone.load_codec().to(module.device)
        listed = spread(chosen, max(self.size.sounds, self.size.pictures))
        voice = ReferenceVoices(data.source, codec)
        voices = [voice(example) for example in listed]
        said = [example.conditioning for example in listed]
        recorded = [example.codes for example in listed]
        with module.teacher.weights() as original:
            sounds: dict[str, list[Tensor]] = {
                "recorded": sounds_of(original, codec, AttentionWindow(), said, recorded, voices)
            }
        takes: dict[str, list[Take]] = {}
        assert self.recogniser is not None
        listener = open_recogniser(self.recogniser, str(module.device))
        columns = TextColumn("[bold]speaking"), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, TimeRemainingColumn(), disable=not trainer.is_global_zero) as progress:
            seeds = {row.system.name: 1 if "untrained-" in row.system.name else self.size.seeds for row in rows}
            bar = progress.add_task("", total=sum(seeds.values()) * len(chosen))
            done = 0
            for row in rows:
                system, own = row.system, []
                with module.running(system) as weights:
                    for seed in range(seeds[system.name]):
                        progress.update(bar, description=system.name, completed=done)
                        spoken = speak_takes(
                            Decoder(weights, system.window),
                            codec,
                            listener,
                            chosen,
                            voice=voice,
                            seed=seed,
                            rows=self.rows,
                            on_done=partial(_move_bar, progress, bar, done),
                        )
                        done += len(chosen)
                        own += [spoken[example.id][0] for example in chosen]
                        if seed == 0:
                            codes = [spoken[example.id][1] for example in listed]
                            sounds[system.name] = sounds_of(weights, codec, system.window, said, codes, voices)
                takes[system.name] = own
        if trainer.is_global_zero and self._has_folder(trainer):
            self._write(folder, takes, sounds, listed, codec.sample_rate)
        rows = [replace(row, speech=summarise(takes[row.system.name], unseen)) for row in rows]
        if {"teacher", "untrained", "student"} <= takes.keys():
            won = won_back(takes["teacher"], takes["untrained"], takes["student"], unseen)
            shares = shares if won is None else {"cer": won, **shares}
        return rows, shares

    @staticmethod
    def _has_folder(trainer: Trainer) -> bool:
        """Whether this test belongs to a run that is on disk."""
        return (Path(trainer.default_root_dir) / "checkpoints").is_dir()

    def _write(
        self,
        folder: Path,
        takes: dict[str, list[Take]],
        sounds: dict[str, list[Tensor]],
        listed: Sequence[Example],
        sample_rate: int,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        lines = [{"system": name, **asdict(take)} for name, own in takes.items() for take in own]
        (folder / "takes.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        shutil.rmtree(folder / "sounds", ignore_errors=True)  # of an earlier test, perhaps of other sentences
        for name, own in sounds.items():
            for example, sound in zip(listed[: self.size.sounds], own, strict=False):
                if len(sound):
                    write_audio(folder / "sounds" / f"{example.id}-{name}.wav", sound, sample_rate)
        if self.size.pictures == 0:
            return
        if find_spec("matplotlib") is None:
            rank_zero_warn('spectrograms need matplotlib: pip install "wand-tts[plots]"')
            return
        drawn = spread(listed, self.size.pictures)
        places = [listed.index(example) for example in drawn]
        kept = {name: [own[i] for i in places] for name, own in sounds.items() if "untrained-" not in name}
        draw_spectrograms(kept, [example.text for example in drawn], sample_rate, folder / "spectrograms.png")


def _move_bar(progress: Progress, bar: TaskID, before: int, done: int) -> None:
    progress.update(bar, completed=before + done)
