"""EnCodec through transformers: the embedded tiny codec, ``facebook/encodec_24khz``, or any folder in that format."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor, nn
from transformers import EncodecModel
from transformers.utils import logging

from wand.assets import asset_folder
from wand.codecs.base import Codec
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
        self.causal = config.use_causal_conv and config.chunk_length_s is None
        self.pretrained = pretrained
        self._fingerprint = _fingerprint(self.model, self.num_codebooks)

    def __reduce__(self) -> tuple[type[Self], tuple[str, int]]:
        """Other processes open the files themselves: weight-normed convolutions cannot be pickled."""
        return type(self), (self.pretrained, self.num_codebooks)

    @property
    def fingerprint(self) -> str:
        """Short digest of the weights and the number of codebooks."""
        return self._fingerprint

    @torch.inference_mode()
    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Audio ``[B, 1, N]`` to codes ``[B, K, F]``, F = ceil(N / hop)."""
        if sample_rate != self.sample_rate:
            raise ValueError(f"audio at {sample_rate} Hz given to a codec of {self.sample_rate} Hz: resample it")
        embeddings = self.model.encoder(audio.to(self.model.device))
        return self.model.quantizer.encode(embeddings)[: self.num_codebooks].transpose(0, 1).clone()

    @torch.inference_mode()
    def decode(self, codes: Tensor, reference: Reference | None = None) -> Tensor:
        """Codes ``[B, K, F]`` to audio ``[B, 1, F * hop]``; they hold the voice too."""
        quantized = self.model.quantizer.decode(codes.to(self.model.device).transpose(0, 1))
        return self.model.decoder(quantized).clone()

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        nn.Module.to(self.model, device)
        return self


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
