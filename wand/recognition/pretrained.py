"""Speech recognition models of transformers: sequence to sequence (such as Whisper) or CTC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wand.checks import check_device, first_line
from wand.console.interrupt import raise_if_stopped
from wand.files.audio import resample
from wand.files.pretrained import OFFLINE, load_pretrained
from wand.finite import check_weights
from wand.recognition.base import transcribing
from wand.text.characters import base_language

# Weights that only the training of such a model uses. Releases of Wav2Vec2 leave them out.
UNUSED = ("masked_spec_embed",)


class PretrainedRecogniser:
    """A transformers model for speech recognition, CTC or sequence to sequence.

    Args:
        name: Folder, or name of a model that has been downloaded from a hub, such as ``openai/whisper-large-v3``.
        device: Device of the model.
        batch_size: Number of sounds in a batch.
        language: Language of the speech (``en``, ``zh``). A model of several languages transcribes in it.

    Attributes:
        writes: Whether the model is one of sequence to sequence. Those hear half a minute at most: see `Piecewise`.

    Raises:
        ValueError: If the model cannot be opened, lacks weights, or does not know the language. Nothing is downloaded.
    """

    def __init__(self, name: str, device: str = "cpu", batch_size: int = 16, language: str = "en") -> None:
        from transformers import (
            MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
            AutoConfig,
            AutoFeatureExtractor,
            AutoModelForCTC,
            AutoModelForSpeechSeq2Seq,
            AutoTokenizer,
            pipeline,
        )

        check_device(device)
        try:
            config = AutoConfig.from_pretrained(name, **OFFLINE)
            writes = type(config) in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING
            kind: Any = AutoModelForSpeechSeq2Seq if writes else AutoModelForCTC
            model, missing = load_pretrained(kind, name)
            tokenizer = AutoTokenizer.from_pretrained(name, **OFFLINE)
            extractor = AutoFeatureExtractor.from_pretrained(name, **OFFLINE)
        except Exception as error:  # of transformers, which may raise anything for a damaged folder
            raise ValueError(
                f"recogniser {name!r} cannot be opened ({first_line(error)}): give `embedded`, a folder, or a "
                f"model that you have downloaded with `hf download`"
            ) from error
        if used := [key for key in missing if not key.endswith(UNUSED)]:
            raise ValueError(
                f"recogniser {name!r} has no weights {used[0]!r}: give a model that was trained to transcribe"
            )
        check_weights(dict(model.named_parameters()), f"recogniser {name}")
        self.sample_rate = int(extractor.sampling_rate)
        self.batch_size = batch_size
        self.name = name
        self.language = language
        self.writes = writes
        self._options = _language_options(name, getattr(model, "generation_config", None), language) if writes else {}
        # The pipeline's type annotations do not say that it takes lists.
        self._listen: Any = pipeline(
            "automatic-speech-recognition",
            model=model,
            tokenizer=tokenizer,
            feature_extractor=extractor,
            device=device,
        )

    @torch.inference_mode()
    def transcribe(self, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
        """Transcribe with the pipeline. Sounds shorter than a twentieth of a second give an empty text."""
        texts = [""] * len(sounds)
        audible = [i for i in range(len(sounds)) if len(sounds[i]) >= sample_rate // 20]
        inputs = [resample(sounds[i].float().cpu(), sample_rate, self.sample_rate).numpy() for i in audible]
        with transcribing(len(inputs)) as counted:
            for first in range(0, len(inputs), self.batch_size):
                raise_if_stopped()
                batch = slice(first, first + self.batch_size)
                heard = self._listen(inputs[batch], batch_size=self.batch_size, generate_kwargs=self._options)
                for i, result in zip(audible[batch], heard, strict=True):
                    texts[i] = result["text"]
                counted.update(counted.done + len(inputs[batch]))
        return texts


def _language_options(name: str, generation: Any, language: str) -> dict[str, str]:
    """Options that make a model of several languages, such as Whisper, transcribe in one."""
    languages = getattr(generation, "lang_to_id", None)
    base = base_language(language)
    if not getattr(generation, "is_multilingual", False) or languages is None:
        if getattr(generation, "is_multilingual", None) is False and base != "en":
            raise ValueError(f"recogniser {name!r} knows English only, and the language is {language}: give another")
        return {}
    if f"<|{base}|>" not in languages:
        raise ValueError(f"recogniser {name!r} does not know the language {language}: give another recogniser")
    return {"language": base, "task": "transcribe"}
