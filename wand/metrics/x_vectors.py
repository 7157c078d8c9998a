"""Speaker verification models of transformers as an `Embedder`, such as WavLM with x-vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from wand.checks import check_device, first_line
from wand.files.audio import resample
from wand.files.pretrained import OFFLINE, load_pretrained
from wand.finite import check_weights

# Weights that only the training of such a model uses.
UNUSED = ("objective.", "classifier.")


class XVectors:
    """An `Embedder`: a transformers model that tells speakers apart by x-vectors.

    Args:
        name: Folder, or name of a model that has been downloaded from a hub, such as ``microsoft/wavlm-base-plus-sv``.
        device: Device of the model.

    Raises:
        ValueError: If the device or the model cannot be opened, or has no weights for x-vectors. Nothing is downloaded.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

        check_device(device)
        try:
            self._extract = AutoFeatureExtractor.from_pretrained(name, **OFFLINE)
            model, missing = load_pretrained(AutoModelForAudioXVector, name)
        except Exception as error:  # of transformers, which may raise anything for a damaged folder
            raise ValueError(
                f"speaker model {name!r} cannot be opened ({first_line(error)}): give a folder, or a model that you "
                f"have downloaded with `hf download`"
            ) from error
        if used := [key for key in missing if not key.startswith(UNUSED)]:
            raise ValueError(f"speaker model {name!r} has no weights {used[0]!r}: give a model with x-vectors")
        check_weights(dict(model.named_parameters()), f"speaker model {name}")
        self._model = model.eval().to(device)
        self.sample_rate = int(self._extract.sampling_rate)

    @torch.inference_mode()
    def __call__(self, sound: Tensor, sample_rate: int) -> Tensor:
        """The x-vector ``[D]`` of a sound ``[N]``, on the CPU. Silence is not left out."""
        audio = resample(sound.float().cpu(), sample_rate, self.sample_rate)
        inputs = self._extract(audio.numpy(), sampling_rate=self.sample_rate, return_tensors="pt")
        return self._model(**inputs.to(self._model.device)).embeddings[0].float().cpu()
