"""DVAE encoder and BigVGAN of IndexTTS 1.5 (upstream tag v1.5.0); codes at 24000 / 1024 Hz."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from serve import check_length, serve

RATE = 24000
# The mel spectrogram of a speech needs more than 512 samples, the network for the voice five frames of a reference.
SHORTEST_SPEECH, SHORTEST_REFERENCE = 513 / RATE, 1024 / RATE


class IndexTTS:
    """Runs the speech tokenizer of IndexTTS (needs ``dvae.pth``) and its vocoder (takes latents)."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch
        from indextts.utils.feature_extractors import MelSpectrogramFeatures
        from omegaconf import OmegaConf

        torch.set_grad_enabled(False)
        self.torch, self.device = torch, settings["device"]
        self.release = settings["release"]
        self.config = OmegaConf.load(os.path.join(self.release, "config.yaml"))
        self.mel = MelSpectrogramFeatures(**self.config.dataset["mel"])
        self._dvae: Any = None
        self._vocoder: Any = None

    def encode(self, audio: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Encode audio ``[N]`` at 24 kHz to codes ``[1, F]``."""
        if self._dvae is None:
            from indextts.vqvae.xtts_dvae import DiscreteVAE

            self._dvae = DiscreteVAE(**self.config.vqvae)
            self._dvae.load_state_dict(self._weights("dvae.pth"))
            self._dvae.eval().to(self.device)
        found = self._dvae.get_codebook_indices(self._features(audio, sample_rate, SHORTEST_SPEECH))
        return {"codes": found.reshape(1, -1).cpu().numpy().astype(np.int64)}

    def vocode(self, latents: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Turn latents ``[F, D]``, in the voice of reference audio ``[N]``, into audio ``[N]`` at 24 kHz."""
        if self._vocoder is None:
            from indextts.BigVGAN.models import BigVGAN

            self._vocoder = BigVGAN(self.config.bigvgan, use_cuda_kernel=False)
            self._vocoder.load_state_dict(self._weights("bigvgan_generator.pth")["generator"])
            self._vocoder.eval().to(self.device)
            self._vocoder.remove_weight_norm()
        given = self.torch.from_numpy(latents.astype(np.float32))[None].to(self.device)
        voice = self._features(reference, sample_rate, SHORTEST_REFERENCE).transpose(1, 2)
        audio, _ = self._vocoder(given, voice)
        return {"audio": audio.reshape(-1).clamp(-1, 1).cpu().numpy().astype(np.float32)}

    def _features(self, audio: np.ndarray, sample_rate: int, least: float) -> Any:
        if sample_rate != RATE:
            raise ValueError(f"IndexTTS takes audio at {RATE} Hz, not {sample_rate} Hz")
        check_length(audio, sample_rate, least, math.inf, "IndexTTS takes")
        return self.mel(self.torch.from_numpy(audio.astype(np.float32))[None]).to(self.device)

    def _weights(self, name: str) -> Any:
        path = os.path.join(self.release, name)
        if not os.path.isfile(path):
            raise ValueError(f"no {name} in {self.release}")
        found = self.torch.load(path, map_location="cpu", weights_only=True)
        return found.get("model", found)  # upstream accepts both forms


if __name__ == "__main__":
    serve(IndexTTS)
