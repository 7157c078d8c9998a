"""The table of a test: quality and cost of teacher, untrained windows and student."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from wand.checks import check_number, check_whole_number
from wand.console.interrupt import Interrupted
from wand.data.datamodule import SpeechDataModule
from wand.evaluation.metric import TestMetric, check_metrics
from wand.evaluation.result import TestResult
from wand.evaluation.result_files import TABLE, write_result, write_speeches, write_takes
from wand.evaluation.result_table import show
from wand.evaluation.systems import compared_systems
from wand.evaluation.test import CLOSING, FULL, ComparisonTest, Takes, TestSize
from wand.evaluation.voices import ReferenceVoices
from wand.ranks import apart
from wand.recognition import open_recogniser
from wand.training.module import WandModule


class ComparisonTable(Callback):
    """Runs a `ComparisonTest` at the end of a test, prints its table and writes it.

    The run's folder ``test`` (``closing`` after a fit) gets ``table.json``, ``table.md``, all takes with their
    transcripts, audio files and spectrograms. Until the test is complete, the folder ``test-unfinished`` has the tables
    of the systems that have spoken. Several processes share the sentences.

    Args:
        recogniser: The speech recogniser: ``embedded`` (for the speech of `wand.demo`), a folder or name that
            transformers opens (``openai/whisper-large-v3``), a class with its weights (``CLASS_PATH:WEIGHTS``), or null
            for a table without speech.
        full: Size of the test that ``wand test`` runs.
        closing: Size of the test at the end of a fit.
        rows: Number of sentences that are spoken at once, as rows of a batch.
        seconds: Speech lengths, in seconds, for the cache sizes.
        columns: Speech lengths, in columns, for the step times.
        metrics: Your own metrics, one further column each; they need a recogniser.
        language: Language of the texts (``en``, ``zh``); by default the one that the model's front end reads, or else
            English.

    Raises:
        ValueError: If a number is out of range, or two metrics have the same name.
    """

    def __init__(
        self,
        recogniser: str | None = None,
        full: TestSize = FULL,
        closing: TestSize = CLOSING,
        rows: int = 64,
        seconds: tuple[float, ...] = (4, 60),
        columns: tuple[int, ...] = (200, 3000),
        metrics: list[TestMetric] | None = None,
        language: str | None = None,
    ) -> None:
        check_whole_number("table.rows", rows, least=1)
        for length in seconds:
            check_number("table.seconds", length, "(0, inf)")
        for columns_before in columns:
            check_whole_number("table.columns", columns_before, least=1)
        self.recogniser = recogniser
        self.language = language
        self.full = full
        self.closing = closing
        self.rows = rows
        self.seconds = seconds
        self.columns = columns
        self.metrics = metrics or []
        self.after_fit = False
        check_metrics(self.metrics)

    @property
    def size(self) -> TestSize:
        """Size of the current test."""
        return self.closing if self.after_fit else self.full

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell the module which systems to compare."""
        if self.metrics and self.recogniser is None:
            raise ValueError(
                f"table.metrics {', '.join(metric.name for metric in self.metrics)} need speech, but nothing is spoken "
                f"without a recogniser: give --recogniser, or remove the metrics"
            )
        if stage == "test":
            assert isinstance(pl_module, WandModule)
            with_teacher = pl_module.settings.teacher is not None
            pl_module.systems = compared_systems(
                pl_module.final_window, with_teacher, self.size.windows, self.size.student_full
            )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure cost and speech, then print and write the table."""
        assert isinstance(pl_module, WandModule)
        data = getattr(trainer, "datamodule", None)
        assert isinstance(data, SpeechDataModule)
        codec = pl_module.backbone.find_codec()
        if self.recogniser is not None and codec is None:
            rank_zero_warn(f"recogniser {self.recogniser} is not used: there is no codec to make audio (data.codec)")
        language = self.language or pl_module.backbone.language or "en"
        listener = None
        if self.recogniser is not None:
            listener = open_recogniser(self.recogniser, str(pl_module.device), language)
        test = ComparisonTest(
            {system: pl_module.weights_of(system, gathered=True) for system in pl_module.systems},
            data.examples["test"],
            self.size,
            codec=None if codec is None else codec.to(pl_module.device),
            recogniser=listener,
            metrics=self.metrics,
            voice=ReferenceVoices(data.source, codec),
            trained={utterance.speaker for utterance in data.source.utterances("train")},
            rows=self.rows,
            seconds=self.seconds,
            columns=self.columns,
        )
        run = Path(trainer.default_root_dir)
        writes = trainer.is_global_zero and (run / "checkpoints").is_dir()  # the test belongs to a run on disk
        folder = run / ("closing" if self.after_fit else "test")
        unfinished = folder.with_name(f"{folder.name}-unfinished")

        def keep(part: TestResult, takes: Takes) -> None:
            if writes:
                write_result(part, unfinished)
                write_takes(takes, unfinished)

        try:
            result, speeches = test.complete(pl_module.test_means, keep)
        except Interrupted as stopped:
            if (unfinished / TABLE).is_file():
                stopped.report = f"what was measured so far is in {os.path.relpath(unfinished)}"
            raise
        with apart("writing the table"):
            if trainer.is_global_zero:
                show(result)
            if writes:
                write_result(result, folder)
                if speeches is not None:
                    write_speeches(speeches, self.size, folder)
                shutil.rmtree(unfinished, ignore_errors=True)
