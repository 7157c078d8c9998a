"""Speech of teacher and student at every validation, to listen to and to choose the best checkpoint."""

from __future__ import annotations

import time
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from wand.attention import AttentionWindow, Windows
from wand.checks import check_whole_number
from wand.codecs import Codec
from wand.console.progress import progress
from wand.data.datamodule import SpeechDataModule
from wand.data.example import Example
from wand.decoding.decoder import Decoder
from wand.evaluation.quality import error_rate
from wand.evaluation.takes import speak_examples, speak_takes, speakable, spread
from wand.evaluation.voices import ReferenceVoices
from wand.files.audio import write_audio
from wand.model.backbone import Backbone
from wand.ranks import apart
from wand.recognition import open_recogniser
from wand.speech.speaking import sounds_of
from wand.training.loggers import tensorboard
from wand.training.module import WandModule


class SpeechLogger(Callback):
    """Synthesises validation sentences with the student under its final window.

    With a recogniser, every validation logs the student's error rate ``val/cer``, which can select the best checkpoint.
    The first validation also logs the teacher's, ``val/teacher_cer``. ``val/speaking_share`` is the share of the
    training time that this takes. A few sentences are written as audio to TensorBoard and to the run's folder
    ``samples``: the recording and the teacher once, the student at every validation. The recording has passed through
    the codec, so no model can sound better. Sentences without words, or whose voice cannot be read, are skipped and
    counted in a warning.

    Args:
        recogniser: Speech recogniser: ``embedded`` (for the speech of `wand.demo`), a folder or name that transformers
            opens (``openai/whisper-large-v3``), a class with its weights (``CLASS_PATH:WEIGHTS``), or null for audio
            only.
        sentences: Number of sentences that the recogniser transcribes at each validation.
        sounds: Number of sentences whose audio is saved.
        rows: Number of sentences that are spoken at once, as rows of a batch.
        language: Language of the texts (``en``, ``zh``); by default the one that the model's front end reads, or else
            English.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        recogniser: str | None = None,
        sentences: int = 24,
        sounds: int = 3,
        rows: int = 64,
        language: str | None = None,
    ) -> None:
        for name, value in (("sentences", sentences), ("sounds", sounds)):
            check_whole_number(f"speech.{name}", value, least=0)
        check_whole_number("speech.rows", rows, least=1)
        self.recogniser = recogniser
        self.language = language
        self.sentences = sentences
        self.sounds = sounds
        self.rows = rows
        self._said_once = False
        self._voices: ReferenceVoices | None = None
        self._began = time.monotonic()
        self._speaking = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began, self._speaking = time.monotonic(), 0.0

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Synthesise, transcribe and log."""
        data = getattr(trainer, "datamodule", None)
        trial = trainer.fast_dev_run  # type: ignore[attr-defined]
        if trial or trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if not isinstance(data, SpeechDataModule):
            return
        assert isinstance(pl_module, WandModule)
        begin = time.monotonic()
        codec = pl_module.backbone.find_codec()
        if codec is None:
            return  # the corpus consists of codes, and without a codec there is no audio
        codec = codec.to(pl_module.device)
        self._voices = voices = self._voices or ReferenceVoices(data.source, codec)
        count = self.sentences if self.recogniser else self.sounds
        chosen = speakable(spread(data.examples["validation"], count), voices, self._language_of(pl_module.backbone))
        kept = spread(chosen, self.sounds)
        if not self._said_once:
            self._said_once = True
            recorded, full = [example.codes for example in kept], AttentionWindow()
            with pl_module.teacher.weights(gathered=True) as original:
                with apart("writing audio"):
                    self._log_sounds(trainer, voices, original, codec, full, "reference", kept, recorded)
                if pl_module.settings.teacher is not None:
                    self._speak("teacher", trainer, pl_module, voices, original, codec, full, chosen, kept)
            self._log_texts(trainer, kept)
        with pl_module.backbone.gathered() as student:
            window = pl_module.final_window
            self._speak("student", trainer, pl_module, voices, student, codec, window, chosen, kept)
        self._speaking += time.monotonic() - begin
        share = self._speaking / max(1e-9, time.monotonic() - self._began)
        pl_module.log("val/speaking_share", share, sync_dist=True)

    def _speak(
        self,
        system: str,
        trainer: Trainer,
        module: WandModule,
        voice: ReferenceVoices,
        backbone: Backbone,
        codec: Codec,
        window: Windows,
        chosen: list[Example],
        kept: list[Example],
    ) -> None:
        if self.recogniser is None:
            own = kept if trainer.is_global_zero else []
            with apart("speaking"):
                spoken = speak_examples(Decoder(backbone, window), codec, own, rows=self.rows)
                codes = [one.codes for one in spoken]
                self._log_sounds(trainer, voice, backbone, codec, window, system, kept, codes)
            return
        listener = open_recogniser(self.recogniser, str(module.device), self._language_of(backbone))
        decoder, shown = Decoder(backbone, window), trainer.is_global_zero
        with progress(f"validation, {system} speaks", len(chosen), "sentences", shown=shown, bar=False) as counted:
            takes = speak_takes(decoder, codec, listener, chosen, voice=voice, rows=self.rows, on_done=counted.update)
        cer = error_rate([take for take, _ in takes.values()])
        name = "val/cer" if system == "student" else f"val/{system}_cer"
        module.log(name, cer, prog_bar=system == "student", sync_dist=True)
        codes = [takes[example.id][1] for example in kept]
        with apart("writing audio"):
            self._log_sounds(trainer, voice, backbone, codec, window, system, kept, codes)

    def _language_of(self, backbone: Backbone) -> str:
        return self.language or backbone.language or "en"

    def _log_texts(self, trainer: Trainer, kept: list[Example]) -> None:
        if (board := tensorboard(trainer)) is not None and trainer.is_global_zero:
            for i, example in enumerate(kept):
                board.add_text(f"sentence/{i}", f"{example.text} ({example.speaker})", trainer.global_step)

    def _log_sounds(
        self,
        trainer: Trainer,
        voice: ReferenceVoices,
        backbone: Backbone,
        codec: Codec,
        window: Windows,
        name: str,
        examples: list[Example],
        codes: list[Tensor],
    ) -> None:
        if not trainer.is_global_zero:
            return
        board = tensorboard(trainer)
        said, voices = [example.conditioning for example in examples], [voice(example) for example in examples]
        for i, audio in enumerate(sounds_of(backbone, codec, window, said, codes, voices)):
            if len(audio) == 0:
                continue
            write_audio(Path(trainer.default_root_dir) / "samples" / f"{i}-{name}.wav", audio, codec.sample_rate)
            if board is not None:
                board.add_audio(f"{name}/{i}", audio[None], trainer.global_step, sample_rate=codec.sample_rate)
