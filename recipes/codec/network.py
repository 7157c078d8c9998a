"""The tiny codec's shape, its initialisation, and the part that reads phones from it in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import EncodecConfig, EncodecModel
from transformers.models.encodec.modeling_encodec import EncodecConv1d, EncodecConvTranspose1d

from recipes.codec.speech import PHONES, SAMPLE_RATE


def codec_config() -> EncodecConfig:
    """16 kHz mono, 50 frames a second, eight codebooks of 256 entries (3.2 kbit/s), everything causal."""
    return EncodecConfig(
        target_bandwidths=[3.2],
        sampling_rate=SAMPLE_RATE,
        audio_channels=1,
        num_filters=20,
        upsampling_ratios=[5, 4, 4, 4],
        hidden_size=32,
        codebook_size=256,
        num_lstm_layers=1,
        use_conv_shortcut=False,
        # Reflection padding would need future samples at the start of a stream.
        pad_mode="constant",
    )


@torch.no_grad()
def unit_variance_init(model: EncodecModel, audio: Tensor) -> None:
    """Scale every convolution so that its output has unit variance. With the default, the latents stay near zero.

    Args:
        model: The codec. It is changed in place.
        audio: Speech on which the variance is measured, `[B, 1, N]`.
    """
    convolutions = [m.conv for m in model.modules() if isinstance(m, EncodecConv1d | EncodecConvTranspose1d)]
    last = convolutions[-1]

    def rescale(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        scale = (audio.std() if module is last else 1.0) / output.std()
        module.get_parameter("parametrizations.weight.original0").mul_(scale)
        return output * scale

    for convolution in convolutions:
        nn.init.zeros_(convolution.get_parameter("bias"))
    handles = [convolution.register_forward_hook(rescale) for convolution in convolutions]
    model.decoder(model.encoder(audio))
    for handle in handles:
        handle.remove()


class PhoneReader(nn.Module):
    """Reads the phone of every frame from the first codebook, so that this codebook carries the words.

    The idea is that of SpeechTokenizer (2023) and Mimi (2024), with known phones in place of another model's features.
    It is used in training only.

    Args:
        width: Size of the latents.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv1d(width, 128, 5, padding=2)
        self.phones = nn.Conv1d(128, PHONES, 1)

    def forward(self, latents: Tensor) -> Tensor:
        """Scores ``[B, PHONES, T]`` of latents ``[B, D, T]``."""
        scores: Tensor = self.phones(functional.gelu(self.near(latents)))
        return scores
