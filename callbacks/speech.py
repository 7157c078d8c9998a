"""What teacher and student sound like, for the same few validation sentences throughout a run."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from wand.attention import AttentionWindow
from wand.backbone import Backbone
from wand.codecs import Codec
from wand.conditioning import ConditionedBatch, make_batch
from wand.data.audio import write_audio
from wand.data.datamodule import SpeechDataModule
from wand.data.shards import Example
from wand.decoding.decoder import generate
from wand.decoding.stopping import StopRules
from wand.evaluation.synthesis import decode
from wand.loggers import tensorboard
from wand.module import WandModule


class SpeechLogger(Callback):
    """Sound to TensorBoard and into the run's ``samples``: reference and teacher once, the student at every validation.

    The reference is the recorded sentence itself, through the codec: no model of its codes can sound better.

    Args:
        sentences: How many validation sentences, evenly spread over the split.
        patience: Longest speech allowed, as a multiple of the longest reference.
    """

    def __init__(self, sentences: int = 3, patience: float = 1.5) -> None:
        self.sentences = sentences
        self.patience = patience
        self._fixed_logged = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Speak and log."""
        data = getattr(trainer, "datamodule", None)
        trial = trainer.fast_dev_run  # type: ignore[attr-defined]
        if trial or not trainer.is_global_zero or trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if not isinstance(data, SpeechDataModule):
            return
        assert isinstance(pl_module, WandModule)
        chosen = self._choose(data)
        backbone = pl_module.backbone
        codec = backbone.load_codec()
        batch = make_batch(backbone.conditioner, backbone.layout, [e.conditioning for e in chosen])
        batch = trainer.strategy.batch_to_device(batch)
        limit = round(self.patience * max(e.codes.shape[1] for e in chosen)) + backbone.layout.flush_columns
        if not self._fixed_logged:
            self._fixed_logged = True
            self._log(trainer, codec, "reference", [e.codes for e in chosen])
            self._log_texts(trainer, chosen)
            if pl_module.teacher is not None:
                self._log(trainer, codec, "teacher", _speak(pl_module.teacher, batch, AttentionWindow(), limit))
        self._log(trainer, codec, "student", _speak(backbone, batch, pl_module.final_window, limit))

    def _choose(self, data: SpeechDataModule) -> list[Example]:
        examples = data.examples["validation"]
        return examples[:: max(1, len(examples) // self.sentences)][: self.sentences]

    def _log_texts(self, trainer: Trainer, chosen: list[Example]) -> None:
        if (board := tensorboard(trainer)) is not None:
            for i, example in enumerate(chosen):
                board.add_text(f"sentence/{i}", f"{example.text} ({example.speaker})", trainer.global_step)

    def _log(self, trainer: Trainer, codec: Codec, system: str, all_codes: list[Tensor]) -> None:
        board = tensorboard(trainer)
        for i, codes in enumerate(all_codes):
            audio = decode(codec, codes)
            if len(audio) == 0:
                continue
            write_audio(Path(trainer.default_root_dir) / "samples" / f"{i}-{system}.wav", audio, codec.sample_rate)
            if board is not None:
                board.add_audio(f"{system}/{i}", audio[None], trainer.global_step, sample_rate=codec.sample_rate)


def _speak(backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow, limit: int) -> list[Tensor]:
    return [generation.codes for generation in generate(backbone, batch, window, rules=StopRules(limit))]
