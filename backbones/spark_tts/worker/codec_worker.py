"""BiCodec of Spark-TTS (upstream commit 2f1ea90): semantic tokens at 50 Hz, and 32 global tokens for the voice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from serve import check_length, serve

# One window of wav2vec2, in seconds.
SHORTEST = 400 / 16000


class BiCodec:
    """Runs the audio tokenizer of Spark-TTS."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch
        from sparktts.models.audio_tokenizer import BiCodecTokenizer
        from sparktts.utils.audio import audio_volume_normalize

        torch.set_grad_enabled(False)  # wav2vec2 would keep every activation of a long sound
        self.torch, self.normalize = torch, audio_volume_normalize
        self.device = settings["device"]
        self.tokenizer = BiCodecTokenizer(settings["release"], device=torch.device(self.device))

    def encode(self, audio: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Encode audio ``[N]`` at 16 kHz to semantic codes ``[1, F]`` and global codes ``[32]``."""
        if sample_rate != 16000:
            raise ValueError(f"BiCodec takes audio at 16 kHz, not {sample_rate} Hz")
        check_length(audio, sample_rate, SHORTEST, math.inf, "BiCodec takes")
        torch, tokenizer = self.torch, self.tokenizer
        # Upstream normalises the volume of the files that it reads, if the config of the release says so.
        if tokenizer.config["volume_normalize"]:
            audio = self.normalize(audio)
        audio = audio.astype(np.float32)
        batch = {
            "wav": torch.from_numpy(audio)[None].to(self.device),
            "ref_wav": torch.from_numpy(tokenizer.get_ref_clip(audio))[None].float().to(self.device),
            "feat": tokenizer.extract_wav2vec2_features(audio).to(self.device),
        }
        semantic, voice = tokenizer.model.tokenize(batch)
        return {
            "codes": semantic.reshape(1, -1).cpu().numpy().astype(np.int64),
            "global_codes": voice.reshape(-1).cpu().numpy().astype(np.int64),
        }

    def decode(self, codes: np.ndarray, global_codes: np.ndarray) -> dict[str, np.ndarray]:
        """Decode semantic codes ``[1, F]`` and the global codes of a voice to audio ``[N]`` at 16 kHz."""
        torch = self.torch
        semantic = torch.from_numpy(codes).long().to(self.device)
        voice = torch.from_numpy(global_codes)[None].long().to(self.device)
        audio = self.tokenizer.detokenize(voice, semantic)
        return {"audio": np.asarray(audio, dtype=np.float32).reshape(-1)}


if __name__ == "__main__":
    serve(BiCodec)
