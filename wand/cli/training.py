"""`wand fit`, `wand validate` and `wand test` through LightningCLI."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from math import isnan
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from wand.callbacks import (
    AttentionPictures,
    ComparisonTable,
    MemoryEstimate,
    ModelCheckpoint,
    PlainProgress,
    ResumePoint,
    SpeechLogger,
    StopAtSignal,
    ThroughputLogger,
    WindowCurriculum,
)
from wand.checks import check_whole_number
from wand.cli.configs import check_run_name, new_run_folder, settle_arguments
from wand.cli.parts.help import HelpParser
from wand.cli.parts.next_steps import next_steps
from wand.cli.parts.run_config import RunConfig
from wand.cli.parts.together import agree_on_checkpoint, agree_on_folder, start_processes
from wand.console.interrupt import Interrupted
from wand.console.progress import has_terminal
from wand.data.datamodule import SpeechDataModule
from wand.files.writing import remove_partial_files
from wand.model.adapters import find_backbone
from wand.ranks import RankLost, first_decides, is_first, naming_lost_ranks
from wand.recognition import open_recogniser
from wand.registry import known_backbones
from wand.runs.checkpoint_io import WholeCheckpoints
from wand.runs.checkpoints import read_checkpoint, run_folder
from wand.runs.finite_checkpoints import FiniteCheckpoints
from wand.runs.jobs import record_job, run_of_job
from wand.runs.trust import command_for
from wand.text.characters import base_language
from wand.training.module import WandModule
from wand.training.optimizer import check_ends
from wand.training.sharding import strategy_settings
from wand.version import __version__

DESCRIPTIONS = {
    "fit": "Adapt a model: distil a full-attention teacher into a windowed student.",
    "validate": "Measure a run's student on the validation split, under its final window.",
    "test": "Compare teacher, untrained windows and student on the test split; the table goes into the run folder.",
    "prepare": "Make the training data of a config. The first fit with the same options does the same.",
}
# Options of a command in one process, for a config that names a launcher.
ALONE = " --trainer.strategy auto --trainer.plugins null"


class WandCLI(LightningCLI):
    """LightningCLI with a curriculum in every run, run folders, and options that override a checkpoint's settings."""

    command = ""
    command_line: Sequence[str] = ()
    checkpoint_file: Path | None = None
    goes_on: Path | None = None
    folder: Path | None = None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the sections that every run has."""
        parser.add_argument(
            "--name",
            type=str,
            default="run",
            help="Name of the run. The folder is runs/NAME (or NAME-2, ... if it exists).",
        )
        parser.add_argument(
            "--recogniser",
            type=str | None,
            default=None,
            help="Speech recogniser for the error rates: `embedded` (for the speech of wand.demo), a folder or name "
            "that transformers opens (openai/whisper-large-v3), a class of your own with its weights "
            "(CLASS_PATH:WEIGHTS), or null for none.",
        )
        parser.add_lightning_class_args(WindowCurriculum, "curriculum")
        parser.add_lightning_class_args(SpeechLogger, "speech")
        parser.add_lightning_class_args(ComparisonTable, "table")
        parser.link_arguments("recogniser", "speech.recogniser")
        parser.link_arguments("recogniser", "table.recogniser")
        parser.add_argument(
            "--language",
            type=str | None,
            default=None,
            help="Language of the texts, for recogniser and error rates: en, de, zh. By default, the language that the "
            "model's front end reads, or else English.",
        )
        parser.link_arguments("language", "speech.language")
        parser.link_arguments("language", "table.language")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/agreement",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.enable_version_counter": False,
                "checkpoint.auto_insert_metric_name": False,
            }
        )
        parser.add_lightning_class_args(ModelCheckpoint, "last_checkpoint")
        parser.set_defaults(
            {
                "last_checkpoint.filename": "last",
                "last_checkpoint.every_n_train_steps": 200,
                "last_checkpoint.enable_version_counter": False,
            }
        )

    @classmethod
    def subcommands(cls) -> dict[str, set[str]]:
        """The command that runs, and the arguments of the trainer's method that are not options."""
        # The parsers of the other commands would never be used.
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name == cls.command}

    def _parse_ckpt_path(self) -> None:
        """Do nothing: a checkpoint never overrides what the user typed. Its run's config is read before the options."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the trainer its precision and its progress, unless the user has set them."""
        settings = self._get(self.config_init, "trainer")
        kwargs |= strategy_settings(settings["strategy"])
        self._check_settings()
        if self.subcommand != "fit":
            kwargs["logger"] = False
            self.save_config_callback = None  # the run folder keeps the config.yaml of its fit
        elif self._logs_to_board:
            if find_spec("tensorboard") is None:
                raise ValueError("tensorboard is not installed: pip install tensorboard, or --trainer.logger false")
            kwargs["logger"] = False  # until there is a folder
        if settings["precision"] is None:
            kwargs["precision"] = default_precision(settings["accelerator"])
            rank_zero_info(f"precision: {kwargs['precision']}")
        callbacks = _listed(settings["callbacks"])
        own_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
        if settings["enable_progress_bar"] is not False and not own_bar and not has_terminal():
            kwargs["callbacks"] = [*callbacks, PlainProgress()]
        check_whole_number("trainer.accumulate_grad_batches", settings["accumulate_grad_batches"], least=1)
        for name, value in settings.items():
            if isinstance(value, float) and isnan(value):
                raise ValueError(f"trainer.{name} {value} is not a number")
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ImportError, RuntimeError) as error:  # how Lightning refuses
            raise ValueError(f"trainer: {error}") from error
        if self.subcommand == "fit":
            check_ends(trainer)
        return trainer

    @property
    def _logs_to_board(self) -> bool:
        settings = self._get(self.config_init, "trainer")
        return self.subcommand == "fit" and settings["logger"] is None and not settings["fast_dev_run"]

    @property
    def _has_own_launcher(self) -> bool:
        """Whether the config names what has started the processes, such as Ray. It starts no later command."""
        plugins = self._get(self.config_init, "trainer")["plugins"]
        return any(isinstance(plugin, ClusterEnvironment) for plugin in _listed(plugins))

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the command. If other processes are lost, say how to go on."""
        try:
            with naming_lost_ranks():
                super()._run_subcommand(subcommand)
        except RankLost as lost:
            remedy = "the same command starts again"
            if self.folder is not None and any(self.folder.glob("checkpoints/*.ckpt")):
                remedy = f"go on with: {command_for('fit', self.folder)}"
            raise ConnectionError(f"{lost}; {remedy}") from lost
        except Interrupted as stopped:
            stopped.shown = is_first()
            raise

    def before_fit(self) -> None:
        """Start the processes of the run, and agree on its folder before anything is written into it."""
        trainer = self.trainer
        start_processes(trainer, self.model)
        agree_on_checkpoint(self.checkpoint_file)
        self.folder = agree_on_folder(self._choose_folder() if is_first() else None)
        if self.folder is not None:
            trainer._default_root_dir = str(self.folder)  # type: ignore[attr-defined]
            for callback in trainer.checkpoint_callbacks:  # the folder of a logger may be another one
                if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                    callback.dirpath = str(self.folder / "checkpoints")
            if self._logs_to_board:
                trainer.logger = TensorBoardLogger(str(self.folder.parent), name=self.folder.name, version="")
            if is_first():
                remove_partial_files(self.folder)
                if self.subcommand == "fit":
                    record_job(self.folder, self.command_line)
        self._make_resumable(trainer)

    before_validate = before_test = before_fit

    def _make_resumable(self, trainer: Trainer) -> None:
        """Let the trainer write whole, finite checkpoints and stop at signals, in place of Lightning's own handlers."""
        trainer._signal_connector = _NoSignals(trainer)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpoints()
        trainer.strategy.checkpoint_io = FiniteCheckpoints(trainer.strategy.checkpoint_io)
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        first = next((i for i, one in enumerate(callbacks) if isinstance(one, Checkpoint)), len(callbacks))
        callbacks[first:] = [ResumePoint(), *callbacks[first:], StopAtSignal(self.folder)]

    def _check_settings(self) -> None:
        """Raise the errors that need no data, before data and a run folder are made."""
        if self.subcommand == "fit":
            check_run_name(self._get(self.config_init, "name"))
        self._get(self.config_init, "curriculum").check(self.model)
        kept = self._get(self.config_init, "checkpoint")
        monitor = kept.monitor
        read, language = self.model.backbone.language, self._get(self.config_init, "language")
        if read is not None and language is not None and base_language(read) != base_language(language):
            raise ValueError(
                f"--language {language} does not fit the model, whose front end reads {read}: leave it out"
            )
        if (recogniser := self._get(self.config_init, "recogniser")) is not None:
            open_recogniser(recogniser, language=language or read or "en")
        needs_teacher = self.subcommand == "fit" and monitor in ("val/agreement", "val/kl")
        if self.subcommand == "fit" and monitor == "val/cer" and recogniser is None:
            raise ValueError(
                "checkpoint.monitor val/cer needs a recogniser: pass --recogniser embedded (for the speech of "
                "wand.demo) or the name of a speech recognition model that transformers opens"
            )
        if self.subcommand == "fit" and monitor == "val/cer":
            if self._get(self.config_init, "speech").sentences == 0:
                raise ValueError("checkpoint.monitor val/cer needs sentences: set speech.sentences to at least 1")
            if self.datamodule.codec is None:
                self.model.backbone.load_codec()  # without one there is no speech to recognise
        if needs_teacher and self.model.settings.teacher is None:
            raise ValueError(
                f"checkpoint.monitor {monitor} needs a teacher, but model.teacher is null: set checkpoint.monitor "
                f"val/ce and checkpoint.mode min"
            )
        if self.subcommand == "fit":
            kept.check_names()
            kept.check_mode()

    def _choose_folder(self) -> Path | None:
        """The folder of the checkpoint's run, or a new folder for a fit. A trial fit (fast_dev_run) gets none."""
        if self.subcommand == "fit" and self._get(self.config_init, "trainer")["fast_dev_run"]:
            return None
        folder = None if self.checkpoint_file is None else run_folder(self.checkpoint_file)
        if self.subcommand != "fit":
            return folder
        return folder or self.goes_on or new_run_folder(self._get(self.config, "name"))

    def fit(self, **kwargs: Any) -> None:
        """Train. Checkpoints contain only tensors and plain values."""
        self.trainer.fit(**{**kwargs, "weights_only": True})

    def validate(self, **kwargs: Any) -> None:
        """Measure on the validation split."""
        self.trainer.validate(**{**kwargs, "weights_only": True})

    def test(self, **kwargs: Any) -> None:
        """Measure on the test split; `ComparisonTable` prints and writes the result."""
        try:
            self.trainer.test(**{**kwargs, "weights_only": True, "verbose": False})
        except Interrupted as stopped:
            stopped.report = "; ".join(filter(None, [stopped.report, "the same command tests again"]))
            raise

    def after_fit(self) -> None:
        """Save the last checkpoint, test the best one, and print what to try next."""
        if self.folder is None:
            return
        self.trainer.save_checkpoint(self.folder / "checkpoints" / "last.ckpt", weights_only=False)
        self._get(self.config_init, "table").after_fit = True
        best = first_decides(self._get(self.config_init, "checkpoint").best)
        if best is None:
            rank_zero_info("the fit has kept no best checkpoint: its last weights are tested")
        tested = None if best is None else str(best)
        try:
            self.test(model=self.model, datamodule=self.datamodule, ckpt_path=tested)
        except Interrupted as stopped:
            again = command_for("test", self.folder)
            stopped.report = f"the fit is finished, only its closing test is not; go on with: {again}"
            raise
        if self.trainer.is_global_zero:
            print(next_steps(self.folder, self.model, ALONE if self._has_own_launcher else ""))


class _NoSignals(_SignalConnector):
    """Installs no handlers: `wand.console.interrupt` alone handles signals, also on a cluster."""

    def register_signal_handlers(self) -> None:
        """Do nothing."""


def _listed(value: Any) -> list[Any]:
    """The values of an option that takes one, a list or none."""
    return value if isinstance(value, list) else [] if value is None else [value]


def default_precision(accelerator: str) -> str:
    """``bf16-mixed`` if the hardware supports bfloat16, else ``32-true``."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "32-true"


def _quiet() -> None:
    """Silence messages and warnings of Lightning that do not apply here."""
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended to run from within Python")
    # A resumed run writes into its own folder, and the datamodule stores the position of the loader.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch ended")
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")  # the teacher, on purpose
    warnings.filterwarnings("ignore", message=".*is not supported by the model summary")  # its size in MB is a guess
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")  # it is not changed in place
    warnings.filterwarnings("ignore", message="`isinstance\\(treespec, LeafSpec\\)` is deprecated")
    said = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    said.addFilter(
        lambda record: not any(words in record.getMessage() for words in ("Tip:", "Loading `train_dataloader`"))
    )


def main(command: str, arguments: list[str], kind: type[WandCLI] = WandCLI) -> WandCLI:
    """Run one of the trainer's commands; ``prepare`` only builds what ``fit`` would run.

    Args:
        command: ``fit``, ``validate``, ``test``, or ``prepare``.
        arguments: Options of the command.
        kind: The class of the command.
    """
    runs = command != "prepare"
    begun = run_of_job(arguments) if command == "fit" else None
    saved = begun if begun is not None and any(begun.glob("checkpoints/*.ckpt")) else None
    settled, checkpoint = settle_arguments(arguments, () if runs else ("ckpt_path", "weights_only"), saved)
    if checkpoint is not None:
        # Damaged and foreign files are refused before any work. Weights alone have no schedule, also if sharded.
        is_whole = "lr_schedulers" in read_checkpoint(checkpoint, whole=False)
        if command == "fit" and not is_whole:
            raise ValueError(f"{checkpoint} holds only weights, so no fit can go on from it: give a whole checkpoint")
    _quiet()
    for name in known_backbones():
        find_backbone(name)  # after the import, an adapter can be named without its module

    facts = {"command": command, "checkpoint_file": checkpoint, "goes_on": begun, "command_line": arguments}
    bound = type(kind.__name__, (kind,), facts)
    described = {"description": DESCRIPTIONS[command]}
    try:
        return bound(
            WandModule,
            SpeechDataModule,
            run=runs,
            args=[command, *settled] if runs else settled,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=HelpParser,
            save_config_callback=RunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={
                "parser_mode": "omegaconf+",
                "version": f"wand {__version__}",
                "exit_on_error": False,
                "prog": "wand" if runs else "wand prepare",
                **({command: described | {"exit_on_error": False}} if runs else described),
            },
            trainer_defaults={
                "max_epochs": 1,
                "gradient_clip_val": 1.0,
                "log_every_n_steps": 10,
                "num_sanity_val_steps": 0,
                "use_distributed_sampler": False,
                "callbacks": [MemoryEstimate(), ThroughputLogger(), AttentionPictures()],
            },
        )
    except ArgumentError as error:
        hint = f" (known backbones: {', '.join(known_backbones())})" if "model.backbone" in str(error) else ""
        raise ValueError(f"{error}{hint}") from error
    except MisconfigurationException as error:  # Lightning's word for a setting that cannot work, such as of a callback
        raise ValueError(str(error)) from error
