"""Any recogniser of transformers: Whisper and its like, or a CTC model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wand.data.audio import resample


class PretrainedRecogniser:
    """A transformers model for speech recognition, CTC or sequence to sequence.

    Args:
        name: Folder, or name of a hub's model that has been downloaded, for example ``openai/whisper-large-v3``.
        device: Where it runs.
        batch_size: Sounds heard at once.

    Raises:
        ValueError: If it cannot be opened.
    """

    def __init__(self, name: str, device: str = "cpu", batch_size: int = 16) -> None:
        from transformers import AutomaticSpeechRecognitionPipeline, pipeline

        try:
            made = pipeline("automatic-speech-recognition", model=name, device=device)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"recogniser {name!r} cannot be opened: {str(error).splitlines()[0]}") from error
        assert isinstance(made, AutomaticSpeechRecognitionPipeline)
        self.pipeline = made
        self.batch_size = batch_size

    @torch.inference_mode()
    def transcribe(self, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
        """What the pipeline writes; long sounds as the model takes them."""
        extractor = self.pipeline.feature_extractor
        assert extractor is not None
        texts = [""] * len(sounds)
        audible = [i for i in range(len(sounds)) if len(sounds[i]) >= sample_rate // 20]
        inputs = [resample(sounds[i].float().cpu(), sample_rate, extractor.sampling_rate).numpy() for i in audible]
        # The pipeline's annotations leave out that it takes lists.
        listen: Any = self.pipeline
        for i, result in zip(audible, listen(inputs, batch_size=self.batch_size), strict=True):
            texts[i] = result["text"]
        return texts
