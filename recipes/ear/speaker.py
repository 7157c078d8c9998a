"""An independent ear for voices: the speaker encoder of Resemblyzer, for measurements only."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank

from wand.files.audio import resample
from wand.files.weights import load_exactly
from wand.recognition.activity import FRAMES, active_frames, levels

SAMPLE_RATE = 16_000
HOP = SAMPLE_RATE // FRAMES
N_FFT, MELS, WIDTH, LAYERS = 400, 40, 256, 3
# The encoder was trained on pieces of this length. Pieces begin every STEP frames, where at
# least COVERED frames are left.
PIECE, STEP, COVERED = 160, 77, 120
# Sounds are made as loud as this, in dB of full scale.
LEVEL = -30.0
# Weights of the training's loss.
UNUSED = ("similarity_weight", "similarity_bias")


class SpeakerEncoder(nn.Module):
    """An `Embedder`: a recurrent network that tells speakers apart (Wan et al. 2018), with Resemblyzer's weights.

    The package itself is not imported, because it needs librosa and webrtcvad. Silence is left out by
    `wand.recognition.activity.active_frames` instead of webrtcvad.

    Args:
        weights: ``pretrained.pt`` of the package `resemblyzer`.

    Raises:
        ValueError: If the file cannot be read, or holds other weights.
    """

    filters: Tensor

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, WIDTH, LAYERS, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)
        filters = mel_filter_bank(
            N_FFT // 2 + 1, MELS, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        path = Path(weights)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        except (OSError, KeyError, RuntimeError, EOFError, UnpicklingError) as error:
            raise ValueError(
                f"no speaker encoder can be read from {path}: give `pretrained.pt` of the package resemblyzer"
            ) from error
        trained = {name: tensor for name, tensor in state.items() if name not in UNUSED}
        load_exactly(self, trained, path)
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, sound: Tensor, sample_rate: int) -> Tensor:
        """The mean direction of all pieces of a sound ``[N]``, of length 1: ``[256]``."""
        sound = resample(sound.float().cpu(), sample_rate, SAMPLE_RATE)
        active = active_frames(levels(sound, SAMPLE_RATE)).repeat_interleave(HOP)[: len(sound)]
        sound = sound[active]
        sound = sound * (10 ** (LEVEL / 10) / sound.square().mean()).sqrt()
        mel = self.spectrum(sound)
        count = 1 + max(0, (len(mel) - COVERED) // STEP)
        mel = functional.pad(mel, (0, 0, 0, max(0, (count - 1) * STEP + PIECE - len(mel))))
        _, (hidden, _) = self.lstm(mel.unfold(0, PIECE, STEP).transpose(1, 2))
        directions = functional.normalize(self.linear(hidden[-1]).relu(), dim=1)
        return functional.normalize(directions.mean(0), dim=0)

    def spectrum(self, sound: Tensor) -> Tensor:
        """Mel energies ``[F, MELS]`` of a sound ``[N]`` at 16 kHz."""
        taper = torch.hann_window(N_FFT)
        found = torch.stft(sound, N_FFT, HOP, window=taper, center=True, pad_mode="constant", return_complex=True)
        return found.abs().square().T @ self.filters
