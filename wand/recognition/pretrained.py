"""Any recogniser of transformers: Whisper and its like, or a CTC model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wand.files.audio import resample


class PretrainedRecogniser:
    """A transformers model for speech recognition, CTC or sequence to sequence.

    Args:
        name: Folder, or name of a hub's model that has been downloaded, for example ``openai/whisper-large-v3``.
        device: Where it runs.
        batch_size: Sounds heard at once.

    Raises:
        ValueError: If it cannot be opened; nothing is downloaded.
    """

    def __init__(self, name: str, device: str = "cpu", batch_size: int = 16) -> None:
        from transformers import (
            MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
            AutoConfig,
            AutoFeatureExtractor,
            AutoModelForCTC,
            AutoModelForSpeechSeq2Seq,
            AutoTokenizer,
            pipeline,
        )

        try:
            config = AutoConfig.from_pretrained(name, local_files_only=True)
            writes = type(config) in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING
            kind: Any = AutoModelForSpeechSeq2Seq if writes else AutoModelForCTC
            model = kind.from_pretrained(name, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=True)
            extractor = AutoFeatureExtractor.from_pretrained(name, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"recogniser {name!r} cannot be opened ({str(error).splitlines()[0]}): give `embedded`, a folder, or a "
                f"model that `hf download` has fetched"
            ) from error
        self.sample_rate = int(extractor.sampling_rate)
        self.batch_size = batch_size
        # Annotations of the pipeline leave out that it takes lists.
        self._listen: Any = pipeline(
            "automatic-speech-recognition",
            model=model,
            tokenizer=tokenizer,
            feature_extractor=extractor,
            device=device,
        )

    @torch.inference_mode()
    def transcribe(self, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
        """What the pipeline writes; nothing for what is shorter than a twentieth of a second."""
        texts = [""] * len(sounds)
        audible = [i for i in range(len(sounds)) if len(sounds[i]) >= sample_rate // 20]
        inputs = [resample(sounds[i].float().cpu(), sample_rate, self.sample_rate).numpy() for i in audible]
        for i, result in zip(audible, self._listen(inputs, batch_size=self.batch_size), strict=True):
            texts[i] = result["text"]
        return texts
