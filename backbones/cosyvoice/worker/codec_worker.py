"""Speech tokenizer, flow and vocoder of CosyVoice 2 (upstream tag v2.0 and commit ace7c47); codes at 25 Hz."""

import inspect
import os
import sys
import tempfile
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
from serve import serve


class CosyVoice:
    """Runs the speech tokenizer, the flow and the vocoder of CosyVoice 2."""

    def __init__(self, settings: dict[str, Any]) -> None:
        device = settings["device"]  # upstream uses the first visible GPU
        if device == "cpu" or ":" in device:
            os.environ["CUDA_VISIBLE_DEVICES"] = device.partition(":")[2]
        if settings.get("repository"):
            sys.path.insert(0, settings["repository"] + "/third_party/Matcha-TTS")
        import torch
        import torchaudio
        import whisper
        from cosyvoice.cli.cosyvoice import CosyVoice2

        self.torch, self.torchaudio, self.whisper = torch, torchaudio, whisper
        upstream = CosyVoice2(settings["release"])
        self.frontend, self.model = upstream.frontend, upstream.model

    def encode(self, audio: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Encode audio ``[N]``, at most 30 s, to codes ``[1, F]``."""
        if len(audio) > 30 * sample_rate:
            raise ValueError(f"the tokenizer of CosyVoice 2 takes 30 s at most, not {len(audio) / sample_rate:.1f} s")
        return {"codes": self._codes(self._resampled(audio, sample_rate, 16000))}

    def _codes(self, audio: Any) -> np.ndarray:
        session = self.frontend.speech_tokenizer_session
        mel = self.whisper.log_mel_spectrogram(audio, n_mels=128)
        names = [given.name for given in session.get_inputs()]
        length = np.array([mel.shape[2]], dtype=np.int32)
        found = session.run(None, {names[0]: mel.cpu().numpy(), names[1]: length})[0]
        return np.asarray(found).reshape(1, -1).astype(np.int64)

    def decode(self, codes: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Decode codes ``[1, F]``, in the voice of reference audio ``[N]``, to audio ``[N]`` at 24 kHz."""
        torch, frontend = self.torch, self.frontend
        heard, full = (self._resampled(reference, sample_rate, rate) for rate in (16000, 24000))
        prompt = torch.from_numpy(self._codes(heard)).int()
        feature = self._extract(frontend._extract_speech_feat, full, 24000)[0]
        # Two mel frames per code; upstream cuts them in the same way.
        length = min(feature.shape[1] // 2, prompt.shape[1])
        feature, prompt = feature[:, : 2 * length], prompt[:, :length]
        name = str(uuid.uuid1())
        self.model.hift_cache_dict[name] = None
        with torch.no_grad():
            audio = self.model.token2wav(
                token=torch.from_numpy(codes).int(),
                prompt_token=prompt,
                prompt_feat=feature,
                embedding=self._extract(frontend._extract_spk_embedding, heard, 16000),
                token_offset=0,
                uuid=name,
                finalize=True,
            )
        self.model.hift_cache_dict.pop(name, None)
        return {"audio": audio.cpu().numpy().reshape(-1).astype(np.float32)}

    def _extract(self, method: Callable[[Any], Any], audio: Any, rate: int) -> Any:
        """Call a method of upstream. Older versions take a tensor, newer ones the path of a sound file."""
        if "prompt_wav" not in inspect.signature(method).parameters:
            return method(audio)
        import soundfile

        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            soundfile.write(file.name, audio[0].numpy(), rate)
            return method(file.name)

    def _resampled(self, given: np.ndarray, rate: int, wanted: int) -> Any:
        audio = self.torch.from_numpy(given.astype(np.float32))[None]
        return self.torchaudio.functional.resample(audio, rate, wanted)


if __name__ == "__main__":
    serve(CosyVoice)
