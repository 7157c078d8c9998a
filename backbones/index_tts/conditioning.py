"""The conditioning network of IndexTTS 1.5: log-mel, conformer, perceiver (facts read at tag v1.5.0, commit 9098497).

The network turns a reference into latents. It is frozen: its weights come with those of the language model and are not
trained. It uses neither dropout nor batch statistics. Modules have the names that upstream uses, so that tensors keep
their names.

Shapes: B references, F frames of the mel, T = (F - 1) // 2 frames after the first convolution, W width of the
conformer, D width of the language model, L latents.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank

SAMPLE_RATE = 24_000
MELS = 100
FFT, HOP = 1024, 256
# Magnitudes are clamped to this value before the logarithm.
FLOOR = 1e-7
KERNEL = 15
POSITIONS = 5000
LATENTS = 32
PERCEIVER_LAYERS = 2
HEAD_WIDTH = 64


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    """Mel filters ``[FFT / 2 + 1, MELS]``: triangles on the HTK scale, not normalised."""
    made = mel_filter_bank(FFT // 2 + 1, MELS, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm=None, mel_scale="htk")
    return torch.from_numpy(made).float()


def log_mel(audio: Tensor) -> Tensor:
    """Log-mel spectrogram (of magnitudes) ``[1 + N // 256, 100]`` of audio ``[N]`` at 24 kHz, N > 512."""
    spectrum = torch.stft(audio, FFT, HOP, window=torch.hann_window(FFT), pad_mode="reflect", return_complex=True)
    return (spectrum.abs().T @ _filters()).clamp(min=FLOOR).log()


class _Subsampling(nn.Module):
    """Halves the frames: ``[B, F, MELS]`` to ``[B, T, W]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, width, 3, 2), nn.ReLU())
        self.out = nn.Sequential(nn.Linear(width * ((MELS - 1) // 2), width))
        self.pos_enc = _Positions(width)

    def forward(self, mel: Tensor) -> Tensor:
        made: Tensor = self.out(self.conv(mel[:, None]).transpose(1, 2).flatten(2))
        return made * math.sqrt(made.shape[-1])


class _Positions(nn.Module):
    """Sinusoidal positions. Upstream's files contain this buffer."""

    pe: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        position = torch.arange(POSITIONS, dtype=torch.float32)[:, None]
        angle = position * torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10_000.0) / width))
        self.register_buffer("pe", torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[None])

    def forward(self, frames: int) -> Tensor:
        return self.pe[:, :frames]


class _RelativeAttention(nn.Module):
    """Attention of every frame to all real frames, with separate terms for content and position."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(width, width) for _ in range(4))
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u, self.pos_bias_v = (nn.Parameter(torch.zeros(heads, width // heads)) for _ in range(2))

    def forward(self, hidden: Tensor, positions: Tensor, real: Tensor) -> Tensor:
        query = self.linear_q(hidden).unflatten(-1, (self.heads, -1))
        key, value = self._heads(self.linear_k(hidden)), self._heads(self.linear_v(hidden))
        place = self._heads(self.linear_pos(positions)).expand_as(key)
        by_content, by_place = ((query + bias).transpose(1, 2) for bias in (self.pos_bias_u, self.pos_bias_v))
        # Compute (q + u) k + (q + v) p as one product of concatenated vectors.
        attended = functional.scaled_dot_product_attention(
            torch.cat([by_content, by_place], dim=-1),
            torch.cat([key, place], dim=-1),
            value,
            attn_mask=real[:, None, None],
            scale=key.shape[-1] ** -0.5,
        )
        out: Tensor = self.linear_out(attended.transpose(1, 2).flatten(2))
        return out

    def _heads(self, hidden: Tensor) -> Tensor:
        return hidden.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class _Convolution(nn.Module):
    """Mixes neighbouring frames. Padding counts as zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pointwise_conv1 = nn.Conv1d(width, 2 * width, 1)
        self.depthwise_conv = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.pointwise_conv2 = nn.Conv1d(width, width, 1)

    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        gated = functional.glu(self.pointwise_conv1(hidden.transpose(1, 2)), dim=1)
        # Mask after the gate, because the bias has made the padding nonzero.
        mixed = self.depthwise_conv(gated * real[:, None])
        active = functional.silu(self.norm(mixed.transpose(1, 2)))
        out: Tensor = self.pointwise_conv2(active.transpose(1, 2)).transpose(1, 2)
        return out


class _FeedForward(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.w_2(functional.silu(self.w_1(hidden)))
        return out


class _ConformerBlock(nn.Module):
    """Attention, convolution and feed-forward, each with a norm before it and a residual connection."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.self_attn = _RelativeAttention(width, heads)
        self.conv_module = _Convolution(width)
        self.feed_forward = _FeedForward(width, inner)
        self.norm_mha, self.norm_conv, self.norm_ff, self.norm_final = (nn.LayerNorm(width) for _ in range(4))

    def forward(self, hidden: Tensor, positions: Tensor, real: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.norm_mha(hidden), positions, real)
        hidden = hidden + self.conv_module(self.norm_conv(hidden), real)
        out: Tensor = self.norm_final(hidden + self.feed_forward(self.norm_ff(hidden)))
        return out


class ConformerEncoder(nn.Module):
    """Encodes right-padded log-mels of references as hidden frames.

    Args:
        width: W.
        heads: Number of attention heads.
        inner: Width of the feed-forward layers.
        blocks: Number of blocks.
    """

    def __init__(self, width: int, heads: int, inner: int, blocks: int) -> None:
        super().__init__()
        self.embed = _Subsampling(width)
        self.encoders = nn.ModuleList(_ConformerBlock(width, heads, inner) for _ in range(blocks))
        self.after_norm = nn.LayerNorm(width)

    def forward(self, mel: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden frames ``[B, T, W]``, and whether each is real, ``[B, T]``.

        Args:
            mel: ``[B, F, MELS]``, F at least 3.
            frames: ``[B]`` number of real frames of each reference.
        """
        hidden = self.embed(mel)
        length = hidden.shape[1]
        positions = self.embed.pos_enc(length)
        real = torch.arange(length, device=mel.device) < (frames[:, None] - 1) // 2
        for block in self.encoders:
            hidden = block(hidden, positions, real)
        return self.after_norm(hidden), real


class _CrossAttention(nn.Module):
    """Attention of the latents to themselves and to the hidden frames."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, heads * HEAD_WIDTH, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * HEAD_WIDTH, bias=False)
        self.to_out = nn.Linear(heads * HEAD_WIDTH, width, bias=False)

    def forward(self, latents: Tensor, heard: Tensor, real: Tensor) -> Tensor:
        context = torch.cat([latents, heard], dim=1)
        seen = functional.pad(real, (latents.shape[1], 0), value=True)
        query, key, value = (
            hidden.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for hidden in (self.to_q(latents), *self.to_kv(context).chunk(2, dim=-1))
        )
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None])
        out: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return out


class _GatedGELU(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        value, gate = hidden.chunk(2, dim=-1)
        return value * functional.gelu(gate)


class _RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.normalize(hidden, dim=-1) * math.sqrt(hidden.shape[-1]) * self.gamma


class Perceiver(nn.Module):
    """Summarises any number of hidden frames in L latents.

    Args:
        width: D.
        heard_width: W.
        heads: Number of attention heads.
        multiple: Width of the feed-forward layers as a multiple of D. The gate reduces it to two thirds.
    """

    def __init__(self, width: int, heard_width: int, heads: int, multiple: int) -> None:
        super().__init__()
        inner = int(width * multiple * 2 / 3)
        self.latents = nn.Parameter(torch.randn(LATENTS, width) * 0.02)
        self.proj_context = nn.Linear(heard_width, width)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    _CrossAttention(width, heads),
                    nn.Sequential(nn.Linear(width, 2 * inner), _GatedGELU(), nn.Linear(inner, width)),
                ]
            )
            for _ in range(PERCEIVER_LAYERS)
        )
        self.norm = _RMSNorm(width)

    def forward(self, heard: Tensor, real: Tensor) -> Tensor:
        """Latents ``[B, L, D]`` from hidden frames ``[B, T, W]``; `real` ``[B, T]`` is False for padding."""
        context = self.proj_context(heard)
        latents = self.latents.expand(len(heard), -1, -1)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            attend, feed_forward = layer
            latents = latents + attend(latents, context, real)
            latents = latents + feed_forward(latents)
        out: Tensor = self.norm(latents)
        return out
