"""EnCodec: the base class of its implementations, and the implementation with transformers."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from functools import lru_cache
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import EncodecModel
from transformers.utils import logging

from wand.assets import asset_folder
from wand.checks import first_line
from wand.codecs.base import Codec
from wand.codecs.encodec_layers import PAD_MODES, reflected_frames, with_state
from wand.codecs.reference import Reference
from wand.codecs.streaming import CodecStream
from wand.files.pretrained import load_pretrained
from wand.finite import check_weights

EMBEDDED = "embedded"
# Statistics that only the training of a codebook uses.
UNUSED = (".inited", ".cluster_size", ".embed_avg")


class EncodecBase(Codec):
    """EnCodec (Defossez et al., 2022) for mono audio, without segments and scales. Each subclass uses one library.

    Attributes:
        model: The network. Its `encoder` and `decoder` map audio to embeddings and back, its `quantizer` maps
            embeddings to codes and back.
        pad_mode: How the convolutions pad their input, one of the modes of `torch.nn.functional.pad`.
    """

    model: Any
    pad_mode: str
    _fingerprint: str

    @property
    def fingerprint(self) -> str:
        """Short digest of the weights, the settings and the number of codebooks."""
        return self._fingerprint

    @property
    @abstractmethod
    def decoder_layers(self) -> nn.Module:
        """The decoder's layers, in order."""

    @abstractmethod
    def quantize(self, embeddings: Tensor) -> Tensor:
        """Quantize embeddings ``[B, D, F]`` of the encoder to the codes ``[K, B, F]`` of all codebooks of the model."""

    @torch.no_grad()
    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Encode audio ``[B, 1, N]`` to codes ``[B, K, F]``, F = ceil(N / hop)."""
        if sample_rate != self.sample_rate:
            raise ValueError(f"the codec needs audio at {self.sample_rate} Hz, not {sample_rate} Hz: resample it")
        embeddings = self.model.encoder(audio.to(self.device))
        return self.quantize(embeddings)[: self.num_codebooks].transpose(0, 1)

    @torch.no_grad()
    def decode(self, codes: Tensor, reference: Reference | None = None) -> Tensor:
        """Decode codes ``[B, K, F]`` to audio ``[B, 1, F * hop]``. `reference` is not used."""
        return self.model.decoder(self.embed(codes))

    def embed(self, codes: Tensor) -> Tensor:
        """Embed codes ``[B, K, F]`` as inputs of the decoder, ``[B, D, F]``."""
        return self.model.quantizer.decode(codes.to(self.device).transpose(0, 1))

    def stream(self, reference: Reference | None = None) -> CodecStream:
        """Decode one utterance in chunks. If the model is causal, the layers keep state and the result is exact."""
        return EncodecStream(self) if self.causal and self.pad_mode in PAD_MODES else super().stream(reference)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        nn.Module.to(self.model, device)
        return self


class EncodecCodec(EncodecBase):
    """EnCodec as `transformers.EncodecModel`.

    Args:
        pretrained: ``embedded`` (16 kHz, 50 frames per second, 8 codebooks of 256 codes), a folder that
            ``EncodecModel.from_pretrained`` opens, or the name of a model on the Hugging Face hub that has been
            downloaded, such as ``facebook/encodec_24khz``.
        num_codebooks: Number of residual codebooks to use (default: all).

    Raises:
        ValueError: If the model cannot be opened, lacks weights, has too few codebooks, is not mono, or uses segments
            with scales. Nothing is downloaded.
    """

    def __init__(self, pretrained: str = EMBEDDED, num_codebooks: int | None = None) -> None:
        self.model = _open(str(asset_folder("codec")) if pretrained == EMBEDDED else pretrained)
        config = self.model.config
        if config.audio_channels != 1 or config.normalize or config.chunk_length_s is not None:
            raise segments_refused(pretrained)
        self.sample_rate = config.sampling_rate
        self.num_codebooks = choose_codebooks(pretrained, self.model.quantizer.num_quantizers, num_codebooks)
        self.codebook_size = config.codebook_size
        self.frame_rate = config.sampling_rate / config.hop_length
        self.pad_mode = config.pad_mode
        self.causal = is_causal(config.use_causal_conv, config.norm_type, config.trim_right_ratio)
        self.pretrained = pretrained
        self._fingerprint = digest(self.model, self.num_codebooks, self.sample_rate)

    def __reduce__(self) -> tuple[type[Self], tuple[str, int]]:
        """Pickle only the settings; a copy opens the files again. Weight-normed convolutions cannot be pickled."""
        return type(self), (self.pretrained, self.num_codebooks)

    @property
    def decoder_layers(self) -> nn.Module:
        """The decoder's layers, in order."""
        return self.model.decoder.layers

    def quantize(self, embeddings: Tensor) -> Tensor:
        """Quantize embeddings ``[B, D, F]`` of the encoder to the codes ``[K, B, F]`` of all codebooks of the model."""
        return self.model.quantizer.encode(embeddings)


class EncodecStream(CodecStream):
    """Decodes one utterance in chunks. The audio equals that of one decode of the whole utterance.

    If the convolutions use reflection padding (``pad_mode: reflect``, as in ``facebook/encodec_24khz``), the first
    samples depend on a few later frames (7 in that model), and the stream waits for them.

    Args:
        codec: A causal codec whose `pad_mode` is one of `PAD_MODES`.
    """

    def __init__(self, codec: EncodecBase) -> None:
        self._codec = codec
        self._layers = [with_state(layer, codec.pad_mode) for layer in codec.decoder_layers.children()]
        self._needed = reflected_frames(codec.decoder_layers) if codec.pad_mode == "reflect" else 1
        self._waiting = torch.zeros(codec.num_codebooks, 0, dtype=torch.long, device=codec.device)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode the next codes ``[K, n]`` to samples ``[n * hop]``. The first frames may wait; see the class."""
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
        """The samples ``[N]`` of the frames that still wait, in a very short utterance; otherwise no samples."""
        waiting, self._waiting = self._waiting, self._waiting[:, :0]
        return self._codec.decode(waiting[None])[0, 0].cpu() if waiting.shape[1] else torch.zeros(0)


def choose_codebooks(name: str, available: int, asked: int | None) -> int:
    """Number of codebooks to use; all by default.

    Raises:
        ValueError: If the model has fewer.
    """
    if asked is not None and not 1 <= asked <= available:
        raise ValueError(f"codec {name!r} has {available} codebooks, {asked} were asked for")
    return available if asked is None else asked


def is_causal(causal_convolutions: bool, norm: str, trim_right_ratio: float) -> bool:
    """Whether no sample depends on later frames. Group normalisation is not causal: it averages over time."""
    return causal_convolutions and norm in ("weight_norm", "none") and trim_right_ratio == 1.0


def segments_refused(name: str) -> ValueError:
    """The error for EnCodec at 48 kHz, whose codes alone do not give the audio."""
    return ValueError(
        f"codec {name!r} codes stereo, or segments with a scale each, as EnCodec at 48 kHz does, and wand supports "
        "only mono audio without segments and scales: use the 24 kHz model, or another such model"
    )


def digest(model: nn.Module, *settings: Any) -> str:
    """Short digest of the weights of a model and of the settings that its codes depend on."""
    made = hashlib.sha256(json.dumps(settings).encode())
    for name, tensor in sorted(model.state_dict().items()):
        made.update(name.encode())
        made.update(tensor.cpu().contiguous().numpy().tobytes())
    return made.hexdigest()[:12]


@lru_cache(maxsize=2)
def _open(name: str) -> EncodecModel:
    """Open a model in float32. Cached, because data, pictures and tables open the same model."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # loading takes only milliseconds
    try:
        model, missing = load_pretrained(EncodecModel, name, dtype=torch.float32)
    except Exception as error:  # of transformers, which may raise anything for a damaged folder
        raise ValueError(f"codec {name!r} cannot be opened: {first_line(error)}") from error
    finally:
        if shown:
            logging.enable_progress_bar()
    if used := [key for key in missing if not key.endswith(UNUSED)]:
        raise ValueError(f"codec {name!r} has no weights {used[0]!r}: download it again")
    check_weights(dict(model.named_parameters()), f"codec {name}")
    opened: EncodecModel = model.eval().requires_grad_(False)
    return opened
