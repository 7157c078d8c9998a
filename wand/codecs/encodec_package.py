"""EnCodec with its own package, `encodec`, and the published weight files."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import torch
from torch import Tensor, nn

from wand.codecs.encodec import EncodecBase, choose_codebooks, digest, is_causal, segments_refused
from wand.files.weights import load_exactly, read_weights

# Do not install its dependency torchaudio: the CUDA build of torchaudio breaks `import transformers` on CPUs.
INSTALL = 'pip install "wand-tts[encodec]" && pip install --no-deps encodec==0.1.1'
# Network settings of the 24 kHz model that differ from the defaults of the package.
SEANET = {"causal": True}
# Settings that only the decoder has.
DECODER_ONLY = ("final_activation", "final_activation_params", "trim_right_ratio")
# Names of the weight of the first convolution ``[C', channels, kernel]``, with and without weight normalisation.
FIRST = ("encoder.model.0.conv.conv.weight_v", "encoder.model.0.conv.conv.weight")


class EncodecPackageCodec(EncodecBase):
    """EnCodec as `encodec.EncodecModel`: the 24 kHz model, or another mono model without segments and scales.

    Args:
        weights: Path of the published weights, for example ``encodec_24khz-d7cc33bc.th``. Only tensors are read, so the
            file cannot run code.
        num_codebooks: Number of residual codebooks to use (default: all; 32 in the 24 kHz model).
        sample_rate: Sample rate of the model, in Hz (default: 24000).
        seanet: Settings of the network that differ from those of the 24 kHz model, as keyword arguments of
            `encodec.modules.SEANetEncoder` and `SEANetDecoder`, for example ``{ratios: [8, 5, 4], causal: false}``
            (default: none). The number and the size of the codebooks are read from the weights.

    Raises:
        ValueError: If the package is not installed; if the weights are missing, damaged or of another network; if the
            model has too few codebooks; or if it is a stereo model such as the 48 kHz model.
    """

    def __init__(
        self,
        weights: str,
        num_codebooks: int | None = None,
        sample_rate: int = 24_000,
        seanet: dict[str, Any] | None = None,
    ) -> None:
        self.weights, self.seanet = weights, seanet
        network = SEANET | (seanet or {})
        self.model = _open(Path(weights), sample_rate, network)
        self.sample_rate = sample_rate
        self.num_codebooks = choose_codebooks(weights, self.model.quantizer.n_q, num_codebooks)
        self.codebook_size = self.model.quantizer.bins
        self.frame_rate = sample_rate / int(self.model.encoder.hop_length)
        self.pad_mode = network.get("pad_mode", "reflect")
        self.causal = is_causal(
            network["causal"], network.get("norm", "weight_norm"), network.get("trim_right_ratio", 1.0)
        )
        self._fingerprint = digest(self.model, self.num_codebooks, sample_rate, sorted(network.items()))

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        """Pickle only the settings; a copy opens the file again. Weight-normed convolutions cannot be pickled."""
        return type(self), (self.weights, self.num_codebooks, self.sample_rate, self.seanet)

    @property
    def decoder_layers(self) -> nn.Module:
        """The decoder's layers, in order."""
        return self.model.decoder.model

    def quantize(self, embeddings: Tensor) -> Tensor:
        """Quantize embeddings ``[B, D, F]`` of the encoder to the codes ``[K, B, F]`` of all codebooks of the model."""
        return self.model.quantizer.encode(embeddings, self.model.frame_rate)


def import_encodec() -> ModuleType:
    """Import the package `encodec` without torchaudio.

    The package imports torchaudio for file handling, which is not used here. During the import, a stand-in module
    replaces torchaudio, unless torchaudio is already imported. It is removed afterwards, because `transformers` would
    take it for the real module. The package keeps the stand-in, which imports the real torchaudio when it is used.

    Raises:
        ValueError: If the package or `einops` is not installed.
    """
    stand_in = ModuleType("torchaudio")
    stand_in.__getattr__ = lambda name: getattr(importlib.import_module("torchaudio"), name)  # type: ignore[method-assign]
    placed = sys.modules.setdefault("torchaudio", stand_in) is stand_in
    try:
        return importlib.import_module("encodec")
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed: {INSTALL}") from error
    finally:
        if placed:
            del sys.modules["torchaudio"]


def _open(path: Path, sample_rate: int, network: dict[str, Any]) -> Any:
    """Open `encodec.EncodecModel` in float32 with the weights of a file."""
    encodec = import_encodec()
    state = read_weights(path, below="best_state")
    first = next((state[name] for name in FIRST if name in state), None)
    codebooks = [tensor for name, tensor in state.items() if name.endswith("._codebook.embed")]
    if first is None or not codebooks:
        raise ValueError(f"{path} does not hold weights of encodec.EncodecModel: give the published .th file")
    if first.shape[1] != 1:
        raise segments_refused(str(path))
    size, dimension = codebooks[0].shape
    both = {name: value for name, value in network.items() if name not in DECODER_ONLY}
    # The random initial weights are replaced below. Keep the random state of the caller unchanged.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*weight_norm")
        try:
            encoder = encodec.modules.SEANetEncoder(dimension=dimension, **both)
            decoder = encodec.modules.SEANetDecoder(dimension=dimension, **network)
        except (TypeError, ValueError, AttributeError, AssertionError) as error:
            raise ValueError(f"seanet {network} is not a network of the package encodec: {error!r}") from error
        quantizer = encodec.quantization.ResidualVectorQuantizer(dimension, n_q=len(codebooks), bins=size)
        model = encodec.EncodecModel(encoder, decoder, quantizer, [], sample_rate, channels=1)
    load_exactly(model, state, path)
    return model.eval().requires_grad_(False)
