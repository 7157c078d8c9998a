"""Speech tokenizer, flow and vocoder of CosyVoice 2 (upstream tag v2.0 and commit ace7c47); codes at 25 Hz."""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
import uuid
from collections.abc import Callable
from itertools import takewhile
from types import ModuleType
from typing import Any

import numpy as np
from serve import check_length, serve

TOKENIZER = "speech_tokenizer_v2.onnx"
# Sample rates of the tokenizer and of the vocoder, in Hz.
HEARD, SPOKEN = 16000, 24000
# Upstream's bound for everything that it tokenizes, in seconds.
LONGEST = 30
# The mel spectrogram of the tokenizer needs more than 200 samples at 16 kHz, that of the flow 960 at 24 kHz for a code.
SHORTEST_SPEECH, SHORTEST_REFERENCE = 201 / HEARD, 960 / SPOKEN


class CosyVoice:
    """Runs the speech tokenizer, the flow and the vocoder of CosyVoice 2."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.release = settings["release"]
        # Upstream uses the first visible GPU.
        visible = visible_gpus(settings["device"], os.environ.get("CUDA_VISIBLE_DEVICES"))
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
        if settings.get("repository"):
            sys.path.insert(0, settings["repository"] + "/third_party/Matcha-TTS")
        import onnxruntime
        import torch
        import torchaudio
        import whisper

        torch.set_grad_enabled(False)
        self.torch, self.torchaudio, self.whisper, self.onnxruntime = torch, torchaudio, whisper, onnxruntime
        self._session: Any = None
        self._upstream: Any = None
        self._last_voice: Any = None

    def encode(self, audio: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Encode audio ``[N]``, at most 30 s, to codes ``[1, F]``. Opens only the speech tokenizer."""
        check_length(audio, sample_rate, SHORTEST_SPEECH, LONGEST, "the tokenizer of CosyVoice 2 takes")
        return {"codes": self._codes(self._resampled(audio, sample_rate, HEARD))}

    def _codes(self, audio: Any) -> np.ndarray:
        if self._session is None:
            path = os.path.join(self.release, TOKENIZER)
            if not os.path.isfile(path):
                raise ValueError(f"no {TOKENIZER} in {self.release}")
            options = self.onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1  # as upstream
            provider = "CUDAExecutionProvider" if self.torch.cuda.is_available() else "CPUExecutionProvider"
            self._session = self.onnxruntime.InferenceSession(path, sess_options=options, providers=[provider])
        mel = self.whisper.log_mel_spectrogram(audio, n_mels=128)
        names = [given.name for given in self._session.get_inputs()]
        length = np.array([mel.shape[2]], dtype=np.int32)
        found = self._session.run(None, {names[0]: mel.cpu().numpy(), names[1]: length})[0]
        return np.asarray(found).reshape(1, -1).astype(np.int64)

    def decode(self, codes: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Decode codes ``[1, F]``, in the voice of reference audio ``[N]``, to audio ``[N]`` at 24 kHz."""
        model = self._synthesis().model
        voice = self._voice(reference, sample_rate)
        name = str(uuid.uuid1())
        model.hift_cache_dict[name] = None
        try:
            token = self.torch.from_numpy(codes).int()
            audio = model.token2wav(token=token, token_offset=0, uuid=name, finalize=True, **voice)
        finally:
            model.hift_cache_dict.pop(name, None)
        return {"audio": audio.cpu().numpy().reshape(-1).astype(np.float32)}

    def _synthesis(self) -> Any:
        """Upstream's front end, flow and vocoder. Its language model is dropped."""
        if self._upstream is None:
            _leave_texts_alone()
            from cosyvoice.cli.cosyvoice import CosyVoice2

            self._upstream = CosyVoice2(self.release)
            self._upstream.model.llm = None
            self._upstream.frontend.speech_tokenizer_session = None  # `_codes` has its own
            if self.torch.cuda.is_available():
                self.torch.cuda.empty_cache()
        return self._upstream

    def _voice(self, reference: np.ndarray, sample_rate: int) -> dict[str, Any]:
        """Codes, mel and embedding of a reference. Those of the last reference are remembered."""
        key = sample_rate, reference.tobytes()
        if self._last_voice is None or self._last_voice[0] != key:
            check_length(reference, sample_rate, SHORTEST_REFERENCE, LONGEST, "a reference of CosyVoice 2 has")
            frontend = self._synthesis().frontend
            heard, full = (self._resampled(reference, sample_rate, rate) for rate in (HEARD, SPOKEN))
            prompt = self.torch.from_numpy(self._codes(heard)).int()
            feature = self._extract(frontend._extract_speech_feat, full, SPOKEN)[0]
            # Two mel frames per code; upstream cuts them in the same way.
            length = min(feature.shape[1] // 2, prompt.shape[1])
            made = {
                "prompt_token": prompt[:, :length],
                "prompt_feat": feature[:, : 2 * length],
                "embedding": self._extract(frontend._extract_spk_embedding, heard, HEARD),
            }
            self._last_voice = key, made
        return dict(self._last_voice[1])

    def _extract(self, method: Callable[[Any], Any], audio: Any, rate: int) -> Any:
        """Call a method of upstream. Older versions take a tensor, newer ones the path of a sound file."""
        if "prompt_wav" not in inspect.signature(method).parameters:
            return method(audio)
        import soundfile

        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            soundfile.write(file.name, audio[0].numpy(), rate, subtype="FLOAT")
            return method(file.name)

    def _resampled(self, given: np.ndarray, rate: int, wanted: int) -> Any:
        audio = self.torch.from_numpy(given.astype(np.float32))[None]
        return self.torchaudio.functional.resample(audio, rate, wanted)


def visible_gpus(device: str, visible: str | None) -> str | None:
    """The value of ``CUDA_VISIBLE_DEVICES`` that shows only this device; None leaves it as it is.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:1``, which is the second of the visible GPUs.
        visible: The value that the user has set, if any.
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (":" in device and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"device {device!r} is neither cpu, cuda nor cuda:N")
    if kind == "cpu":
        return ""
    if not number:
        return None
    if visible is None:
        return str(int(number))
    # CUDA reads the list up to the first entry that is none.
    entries = list(takewhile(lambda entry: entry not in ("", "-1"), map(str.strip, visible.split(","))))
    if int(number) >= len(entries):
        raise ValueError(f"device {device!r} does not exist: CUDA_VISIBLE_DEVICES is {visible!r}")
    return entries[int(number)]


def _leave_texts_alone() -> None:
    """Hide upstream's packages for the normalisation of texts, which fetch files from the network when they start."""
    without = ModuleType("wetext")
    without.Normalizer = lambda *args, **kwargs: None  # type: ignore[attr-defined]
    sys.modules["wetext"] = without
    sys.modules["ttsfrd"] = None  # type: ignore[assignment]


if __name__ == "__main__":
    serve(CosyVoice)
