"""What teacher and student sound like, for the same few validation sentences throughout a run."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from wand.attention import AttentionWindow
from wand.backbone import Backbone
from wand.conditioning import ConditionedBatch, make_batch
from wand.data.datamodule import SpeechDataModule
from wand.decoding.decoder import generate
from wand.decoding.stopping import StopRules
from wand.loggers import tensorboard
from wand.module import WandModule


class SpeechLogger(Callback):
    """Logs sound: the reference codes decoded and the teacher once, the student at every validation.

    Args:
        sentences: How many validation sentences, evenly spread over the split.
        patience: Longest speech allowed, as a multiple of the reference's length.
    """

    def __init__(self, sentences: int = 3, patience: float = 1.5) -> None:
        self.sentences = sentences
        self.patience = patience
        self._fixed_logged = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Speak and log."""
        board = tensorboard(trainer)
        data = getattr(trainer, "datamodule", None)
        if trainer.sanity_checking or board is None or not trainer.is_global_zero or not isinstance(data, SpeechDataModule):
            return
        assert isinstance(pl_module, WandModule)
        examples = data.examples["validation"]
        chosen = examples[:: max(1, len(examples) // self.sentences)][: self.sentences]
        backbone = pl_module.backbone
        codec = backbone.load_codec()
        batch = make_batch(backbone.conditioner, backbone.layout, [e.conditioning for e in chosen])
        batch = trainer.strategy.batch_to_device(batch)
        longest = max(e.codes.shape[1] for e in chosen)
        sounds: dict[str, list[Tensor]] = {}
        if not self._fixed_logged:
            sounds["reference"] = [e.codes for e in chosen]
            if pl_module.teacher is not None:
                sounds["teacher"] = self._speak(pl_module.teacher, batch, AttentionWindow(), longest)
            for i, example in enumerate(chosen):
                board.add_text(f"sentence/{i}", f"{example.text} ({example.speaker})", trainer.global_step)
            self._fixed_logged = True
        sounds["student"] = self._speak(backbone, batch, pl_module.final_window, longest)
        for system, all_codes in sounds.items():
            for i, codes in enumerate(all_codes):
                if codes.shape[1] > 0:
                    audio = codec.decode(codes[None])[0]
                    board.add_audio(f"{system}/{i}", audio, trainer.global_step, sample_rate=codec.sample_rate)

    def _speak(self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow, longest: int) -> list[Tensor]:
        limit = round(self.patience * longest) + backbone.layout.flush_columns
        return [g.codes for g in generate(backbone, batch, window, rules=StopRules(limit))]
