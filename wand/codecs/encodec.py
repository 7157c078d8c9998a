"""EnCodec through transformers: the embedded tiny codec, ``facebook/encodec_24khz``, or any folder in that format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor, nn
from transformers import EncodecModel
from transformers.models.encodec.modeling_encodec import (
    EncodecConv1d,
    EncodecConvTranspose1d,
    EncodecLSTM,
    EncodecResnetBlock,
)
from transformers.utils import logging

from wand.assets import asset_folder
from wand.codecs.base import Codec
from wand.codecs.streaming import CodecStream
from wand.conditioning import Reference

EMBEDDED = "embedded"


class EncodecCodec(Codec):
    """EnCodec (Defossez et al., 2022) as `transformers.EncodecModel`.

    Args:
        pretrained: ``embedded`` (16 kHz, 50 frames/s, 4 codebooks of 256), a folder that
            ``EncodecModel.from_pretrained`` opens, or a model name of the Hugging Face hub that has been downloaded.
        num_codebooks: Residual codebooks to use; all by default.

    Raises:
        ValueError: If the model cannot be found, or has fewer codebooks.
    """

    def __init__(self, pretrained: str = EMBEDDED, num_codebooks: int | None = None) -> None:
        self.model = _open(str(asset_folder("codec")) if pretrained == EMBEDDED else pretrained)
        config = self.model.config
        available = int(self.model.quantizer.num_quantizers)
        if num_codebooks is not None and not 1 <= num_codebooks <= available:
            raise ValueError(f"codec {pretrained!r} has {available} codebooks, {num_codebooks} were asked for")
        self.sample_rate = config.sampling_rate
        self.num_codebooks = available if num_codebooks is None else num_codebooks
        self.codebook_size = config.codebook_size
        self.frame_rate = config.sampling_rate / config.hop_length
        self.causal = (
            config.use_causal_conv
            and config.norm_type == "weight_norm"  # the other looks at the whole time
            and config.trim_right_ratio == 1.0
            and config.chunk_length_s is None
        )
        self.pretrained = pretrained
        self._fingerprint = _fingerprint(self.model, self.num_codebooks)

    def __reduce__(self) -> tuple[type[Self], tuple[str, int]]:
        """Other processes open the files themselves: weight-normed convolutions cannot be pickled."""
        return type(self), (self.pretrained, self.num_codebooks)

    @property
    def fingerprint(self) -> str:
        """Short digest of the weights and the number of codebooks."""
        return self._fingerprint

    @torch.no_grad()
    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Audio ``[B, 1, N]`` to codes ``[B, K, F]``, F = ceil(N / hop)."""
        if sample_rate != self.sample_rate:
            raise ValueError(f"audio at {sample_rate} Hz given to a codec of {self.sample_rate} Hz: resample it")
        embeddings = self.model.encoder(audio.to(self.model.device))
        return self.model.quantizer.encode(embeddings)[: self.num_codebooks].transpose(0, 1)

    @torch.no_grad()
    def decode(self, codes: Tensor, reference: Reference | None = None) -> Tensor:
        """Codes ``[B, K, F]`` to audio ``[B, 1, F * hop]``; they hold the voice too."""
        return self.model.decoder(self.embed(codes))

    def embed(self, codes: Tensor) -> Tensor:
        """Codes ``[B, K, F]`` to what the decoder reads, ``[B, D, F]``."""
        return self.model.quantizer.decode(codes.to(self.model.device).transpose(0, 1))

    def stream(self, reference: Reference | None = None) -> CodecStream:
        """Decode one utterance chunk by chunk: a causal model with its own state, others as any codec."""
        exact = self.causal and self.model.config.pad_mode in ("constant", "reflect")
        return EncodecStream(self) if exact else super().stream(reference)

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        nn.Module.to(self.model, device)
        return self


class EncodecStream(CodecStream):
    """The decoder of a causal EnCodec with the state of its layers: the sound of one decode of the whole.

    Where convolutions reflect their beginning (``pad_mode: reflect``, as in ``facebook/encodec_24khz``), the first
    sound depends on some frames after it, 7 there, and waits for them.

    Args:
        codec: A causal one.
    """

    def __init__(self, codec: EncodecCodec) -> None:
        model = codec.model
        self._codec = codec
        self._layers = [_with_state(layer) for layer in model.decoder.layers]
        self._needed = _reflected_frames(model.decoder) if model.config.pad_mode == "reflect" else 1
        self._waiting = torch.zeros(codec.num_codebooks, 0, dtype=torch.long, device=model.device)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """The next codes ``[K, n]`` to their samples ``[n * hop]``; fewer frames than the beginning needs wait."""
        waiting = torch.cat([self._waiting, codes.to(self._waiting.device)], dim=1)
        if waiting.shape[1] < self._needed:
            self._waiting = waiting
            return torch.zeros(0)
        self._waiting, self._needed = waiting[:, :0], 1
        hidden = self._codec.embed(waiting[None])
        for layer in self._layers:
            hidden = layer(hidden)
        return hidden[0, 0].cpu()

    def finish(self) -> Tensor:
        """The samples ``[N]`` of an utterance shorter than what its beginning needs; else none."""
        waiting, self._waiting = self._waiting, self._waiting[:, :0]
        return self._codec.decode(waiting[None])[0, 0].cpu() if waiting.shape[1] else torch.zeros(0)


def _with_state(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """A layer of EnCodec's decoder that goes on where its last call ended; ``[B, C, T]`` to ``[B, C', T']``."""
    match layer:
        case EncodecConv1d():
            return _Convolution(layer)
        case EncodecConvTranspose1d():
            return _Upsampling(layer)
        case EncodecLSTM():
            return _Recurrence(layer)
        case EncodecResnetBlock():
            return _Residual(layer)
    return layer


class _Convolution:
    """Remembers the inputs that its kernel still sees; the first are padding."""

    def __init__(self, layer: EncodecConv1d) -> None:
        assert int(layer.stride) == 1, "a decoder's convolutions keep the length"
        self.conv, self.pad_mode, self.reach = layer.conv, layer.pad_mode, int(layer.padding_total)
        self.seen: Tensor | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        if self.seen is None:
            hidden = nn.functional.pad(hidden, (self.reach, 0), self.pad_mode)
        else:
            hidden = torch.cat([self.seen, hidden], dim=-1)
        self.seen = hidden[..., hidden.shape[-1] - self.reach :].clone()
        return self.conv(hidden)


class _Upsampling:
    """Remembers what its outputs hold beyond the last stride, to which the next inputs add."""

    def __init__(self, layer: EncodecConvTranspose1d) -> None:
        assert layer.conv.bias is not None
        self.conv, self.bias, self.stride = layer.conv, layer.conv.bias, layer.conv.stride[0]
        self.beyond: Tensor | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        length = hidden.shape[-1] * self.stride
        made = self.conv(hidden)
        if self.beyond is not None:
            made[..., : self.beyond.shape[-1]] += self.beyond
        self.beyond = made[..., length:] - self.bias[:, None]  # the bias comes again
        return made[..., :length]


class _Recurrence:
    """Remembers the state of the LSTM."""

    def __init__(self, layer: EncodecLSTM) -> None:
        self.lstm = layer.lstm
        self.state: tuple[Tensor, Tensor] | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        steps = hidden.permute(2, 0, 1)
        made, self.state = self.lstm(steps, self.state)
        return (made + steps).permute(1, 2, 0)


class _Residual:
    """A residual block of layers with state."""

    def __init__(self, layer: EncodecResnetBlock) -> None:
        self.block = [_with_state(one) for one in layer.block]
        self.shortcut = _with_state(layer.shortcut)

    def __call__(self, hidden: Tensor) -> Tensor:
        kept = self.shortcut(hidden)
        for layer in self.block:
            hidden = layer(hidden)
        return kept + hidden


def _reflected_frames(decoder: nn.Module) -> int:
    """Frames that must be known before every convolution can reflect its beginning."""
    needed, upsampled = 1, 1
    for layer in decoder.modules():
        if isinstance(layer, EncodecConvTranspose1d):
            upsampled *= layer.conv.stride[0]
        elif isinstance(layer, EncodecConv1d):
            needed = max(needed, int(layer.padding_total) // upsampled + 1)
    return needed


@lru_cache(maxsize=2)
def _open(name: str) -> EncodecModel:
    """The model in float32; kept, since data, pictures and tables ask for it again and again."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a bar over a few milliseconds is noise
    try:
        model = EncodecModel.from_pretrained(name, dtype=torch.float32)
    except OSError as error:
        raise ValueError(f"codec {name!r} cannot be opened: {str(error).splitlines()[0]}") from error
    finally:
        if shown:
            logging.enable_progress_bar()
    return model.eval().requires_grad_(False)


def _fingerprint(model: EncodecModel, num_codebooks: int) -> str:
    digest = hashlib.sha256(json.dumps([num_codebooks, model.config.sampling_rate]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
