"""EncodecLM: a decoder-only transformer over the codebooks of EnCodec, with the delay pattern.

It is the default model, whose weights come with wand, and can be trained for an EnCodec of any size. The prefix is
``reference codes | text | start``: about two seconds of the voice to clone (from another sentence, without transcript),
then the letters or phones to speak.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaModel

from wand.assets import asset_folder
from wand.backbones.encodec_lm.conditioner import SymbolConditioner
from wand.codecs import Codec, EncodecCodec
from wand.codecs.encodec import EMBEDDED
from wand.files.plain_values import read_json
from wand.files.typed import build
from wand.files.weights import file_digest, load_exactly, read_weights, stored_dtype, write_safetensors
from wand.files.writing import write_text
from wand.model.alignment import read_heads
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch
from wand.model.columns import ColumnLayout
from wand.model.heads import LinearHead
from wand.model.sampling import Sampling
from wand.text.front_end import AMERICAN, FRONT_ENDS, SYMBOLS, FrontEnd

CONFIG = "config.json"
# What older files do not name.
ADDED = {"language", "dtype"}
# Speech columns per symbol of a model that has no such setting.
COLUMNS_PER_SYMBOL = 3.5
# Larger values are damage, not models.
LARGEST_SIZES = {
    "hidden_size": 2**16,
    "num_layers": 2**10,
    "num_heads": 2**12,
    "num_key_value_heads": 2**12,
    "intermediate_size": 2**18,
    "num_codebooks": 2**8,
    "codebook_size": 2**20,
    "sample_rate": 2**20,
}


@dataclass(frozen=True)
class EncodecLMArchitecture:
    """Shape of an `EncodecLM`.

    Args:
        hidden_size: D.
        num_layers: Number of decoder layers.
        num_heads: Number of query heads.
        num_key_value_heads: Number of key/value heads.
        intermediate_size: Width of the feed-forward layers.
        codec: The codec, as `EncodecCodec` opens it: ``embedded``, a folder or a name.
        sample_rate: Sample rate of the codec, in Hz.
        frame_rate: Frame rate of the codec, in Hz.
        num_codebooks: K.
        codebook_size: Number of codes in one codebook.
        front_end: Unit of the text input: ``letters``, or ``phones`` (needs espeak-ng).
        language: Language of the phones, by its name in espeak-ng: ``en-us``, ``de``, ``cmn``.
        symbols: Symbols that the front end may produce; all of its symbols by default.
        text_kernel: Kernel size of the convolutions over the embedded text (odd); 1 uses none.
        columns_per_symbol: Approximate number of speech columns per symbol. It scales progress embeddings of text and
            speech, which help a column to find its place in the text. 0 uses none.
        reference_seconds: Maximum length of the reference in the prefix, in seconds.
        dtype: The dtype of the original weights, by its name in torch.
    """

    hidden_size: int = 256
    num_layers: int = 6
    num_heads: int = 4
    num_key_value_heads: int = 2
    intermediate_size: int = 704
    codec: str = EMBEDDED
    sample_rate: int = 16_000
    frame_rate: float = 50.0
    num_codebooks: int = 8
    codebook_size: int = 256
    front_end: FrontEnd = "letters"
    language: str = AMERICAN
    symbols: str = ""
    text_kernel: int = 1
    columns_per_symbol: float = 0.0
    reference_seconds: float = 2.0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, largest in LARGEST_SIZES.items():
            if not 1 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} {getattr(self, name)} is outside 1 ... {largest}")
        if not (math.isfinite(self.frame_rate) and 0 < self.frame_rate <= self.sample_rate):
            raise ValueError(f"frame_rate {self.frame_rate} is not positive, or above sample_rate {self.sample_rate}")
        if self.front_end not in FRONT_ENDS:
            raise ValueError(f"front_end {self.front_end!r} is not one of {', '.join(FRONT_ENDS)}")
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise ValueError(f"dtype {self.dtype!r} is not the name of a dtype of torch")
        if self.text_kernel < 1 or self.text_kernel % 2 == 0:
            raise ValueError(f"text_kernel {self.text_kernel} is not a positive odd number: it is centred on a symbol")
        object.__setattr__(self, "symbols", self.symbols or SYMBOLS[self.front_end])
        if self.hidden_size % self.num_heads or self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size}, num_heads {self.num_heads} and num_key_value_heads "
                f"{self.num_key_value_heads} do not fit together: each must divide the one before it"
            )


class TextEncoder(nn.Module):
    """Embeds symbols and mixes each with its neighbours, so that equal symbols in different places differ.

    Args:
        symbols: Number of symbols.
        width: D.
        kernel: Kernel size of the two convolutions; 1 uses none.
    """

    def __init__(self, symbols: int, width: int, kernel: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        layers = 0 if kernel == 1 else 2
        self.mixers = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(layers))

    def forward(self, ids: Tensor, is_text: Tensor) -> Tensor:
        """Embed ids ``[B, P]`` as ``[B, P, D]``. Columns that are not text are zero."""
        present = is_text[..., None].to(self.embedding.weight.dtype)
        embedded = self.embedding(ids) * present
        for mixer in self.mixers:
            mixed = mixer(embedded.transpose(1, 2)).transpose(1, 2)
            embedded = (embedded + functional.gelu(mixed)) * present
        return embedded


class Progress(nn.Module):
    """Embeds a place in the utterance: sinusoids of its column, mapped to an embedding.

    The map starts at zero, so adding it to a trained model does not change the output of the model.

    Args:
        width: D.
    """

    periods: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        # Periods in columns, from about a phone to about a minute.
        self.register_buffer("periods", torch.logspace(math.log10(16), math.log10(4096), 16), persistent=False)
        self.embed = nn.Linear(32, width, bias=False)
        nn.init.zeros_(self.embed.weight)

    def forward(self, place: Tensor) -> Tensor:
        """Embed places ``[...]``, in columns, as ``[..., D]``."""
        # In single precision: in half precision, neighbouring columns of a long speech would get the same number.
        angle = place[..., None].float() * (2 * math.pi / self.periods.float())
        return self.embed(torch.cat([angle.sin(), angle.cos()], dim=-1).to(self.embed.weight.dtype))


class EncodecLM(Backbone):
    """A Llama body over EnCodec's codebooks.

    Each codebook has its own embedding table and its own head. The embeddings of the K codes in a column are summed.
    Rows of a codebook's vocabulary: its codes, then stop, then filler (for places that the delay pattern leaves empty).

    Args:
        pretrained: Folder with ``config.json`` and ``model.safetensors``, or ``embedded`` for the model that comes
            with wand; None starts from random weights.
        architecture: Shape of a model without original weights.

    Raises:
        ValueError: If not exactly one of the two is given, or the folder does not hold a model.
    """

    cut_references = True
    licence = "The embedded model is under Apache-2.0. Weights derived from another original are under its licence."

    def __init__(self, pretrained: str | None = None, architecture: EncodecLMArchitecture | None = None) -> None:
        super().__init__(pretrained)
        if (pretrained is None) == (architecture is None):
            raise ValueError("EncodecLM takes exactly one of `pretrained` and `architecture`")
        self.pretrained = pretrained
        config = {} if pretrained is None else _read_config(self.folder)
        heads = config.pop("alignment_heads", [])
        if architecture is None:
            dtype = str(stored_dtype(self.folder)).removeprefix("torch.")
            architecture = replace(_described(config, str(self.folder / CONFIG)), dtype=dtype)
        self.shape = shape = architecture
        self.stored_dtype = getattr(torch, shape.dtype)
        self.frame_rate = shape.frame_rate
        self.sample_rate = shape.sample_rate
        self.num_codebooks = shape.num_codebooks
        self.speech_vocab_size = shape.codebook_size + 2
        stop_id, filler_id = shape.codebook_size, shape.codebook_size + 1
        self.stop_ids = (stop_id,)
        self.layout = ColumnLayout(shape.num_codebooks, stop_id, filler_id)
        self.conditioner = SymbolConditioner(
            self.layout,
            shape.front_end,
            shape.symbols,
            round(shape.reference_seconds * shape.frame_rate),
            shape.language,
        )
        self.language = shape.language
        self.tokens_per_second = shape.frame_rate / (shape.columns_per_symbol or COLUMNS_PER_SYMBOL)
        self.sampling = Sampling(temperature=0.6, top_p=0.95)
        self.decoder = LlamaModel(
            LlamaConfig(
                vocab_size=1,
                hidden_size=shape.hidden_size,
                intermediate_size=shape.intermediate_size,
                num_hidden_layers=shape.num_layers,
                num_attention_heads=shape.num_heads,
                num_key_value_heads=shape.num_key_value_heads,
                max_position_embeddings=32_768,
                pad_token_id=None,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
        self.alignment_heads = read_heads(heads, self.decoder.config, f"{pretrained}: {CONFIG}: alignment_heads")
        # This class embeds the inputs. The embedding table of the body would be a parameter without a gradient.
        del self.decoder.embed_tokens
        width, codebooks, rows = shape.hidden_size, shape.num_codebooks, self.speech_vocab_size
        self.text_encoder = TextEncoder(len(shape.symbols) + 1, width, shape.text_kernel)
        self.has_progress = shape.columns_per_symbol > 0
        if self.has_progress:
            self.text_progress, self.speech_progress = Progress(width), Progress(width)
        self.code_embedding = nn.Parameter(torch.randn(codebooks, rows, width) * 0.02)
        self.head = nn.Parameter(torch.randn(codebooks, rows, width) * 0.02)
        self.finish_init()

    @property
    def folder(self) -> Path:
        """Folder of the original weights."""
        assert self.pretrained is not None
        return asset_folder("encodec_lm") if self.pretrained == EMBEDDED else Path(self.pretrained)

    def architecture(self) -> dict[str, Any]:
        """The shape as plain values."""
        return asdict(self.shape)

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any]) -> Self:
        """A model with random weights."""
        return cls(architecture=_described(architecture, "architecture"))

    def load_pretrained(self) -> None:
        """Read ``model.safetensors``."""
        path = self.folder / "model.safetensors"
        load_exactly(self, read_weights(path), path)

    def pretrained_digest(self) -> str:
        """SHA-256 of ``model.safetensors``."""
        return file_digest(self.folder / "model.safetensors")

    def save_pretrained(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        dtype = dtype or self.stored_dtype
        heads, name = [[*head] for head in self.alignment_heads], str(dtype).removeprefix("torch.")
        config = {"model_type": "encodec_lm", **self.architecture(), "dtype": name, "alignment_heads": heads}
        write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
        state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in self.state_dict().items()}
        write_safetensors(state, folder / "model.safetensors")

    def own_codec(self) -> Codec:
        """The EnCodec of this model."""
        codec = EncodecCodec(self.shape.codec, self.num_codebooks)
        spoken = (codec.sample_rate, codec.frame_rate, codec.codebook_size)
        expected = (self.sample_rate, self.frame_rate, self.shape.codebook_size)
        if spoken != expected:
            raise ValueError(
                f"codec {self.shape.codec!r} has (Hz, frames/s, codes) {spoken}, but the model needs {expected}"
            )
        return codec

    def embed_prefix(self, batch: ConditionedBatch) -> Tensor:
        """``[B, P, D]``."""
        ids, is_text = batch.conditioning["ids"], batch.conditioning["is_text"]
        text = self.text_encoder(torch.where(is_text, ids[..., 0], 0), is_text)
        if self.has_progress:
            symbol = (is_text.cumsum(-1) - 1).clamp(min=0)
            text = text + self.text_progress(symbol * self.shape.columns_per_symbol)
        codes = self._embed_codes(torch.where(is_text[..., None], 0, ids))
        return torch.where(is_text[..., None], text, codes)

    def embed_speech(self, columns: Tensor, offset: Tensor) -> Tensor:
        """``[B, T, D]``, including the progress embedding if the model has one. Other positions are rotary."""
        embedded = self._embed_codes(columns)
        if self.has_progress:
            place = offset[:, None] + torch.arange(columns.shape[1], device=columns.device)
            embedded = embedded + self.speech_progress(place)
        return embedded

    def _embed_codes(self, columns: Tensor) -> Tensor:
        return self.code_embedding[torch.arange(self.num_codebooks, device=columns.device), columns].sum(-2)

    def speech_head(self) -> LinearHead:
        """A head of ``[K, V, D]`` without bias."""
        return LinearHead(self.head)

    def forbidden_tokens(self) -> Tensor | None:
        """Filler is never spoken, and only the first codebook may speak stop."""
        forbidden = torch.zeros(self.num_codebooks, self.speech_vocab_size, dtype=torch.bool)
        forbidden[:, self.layout.filler_id] = True
        forbidden[1:, self.layout.stop_id] = True
        return forbidden


def _read_config(folder: Path) -> dict[str, Any]:
    """The architecture of a model, in plain values, and its ``alignment_heads``, which older files do not name."""
    path = folder / CONFIG
    if not (path.is_file() and (folder / "model.safetensors").is_file()):
        raise ValueError(f"no EncodecLM at {folder}: it should hold config.json and model.safetensors")
    config = read_json(path)
    if config.pop("model_type", None) != "encodec_lm":
        raise ValueError(f"{path} describes another model (model_type is not encodec_lm)")
    return config


def _described(config: dict[str, Any], place: str) -> EncodecLMArchitecture:
    """The architecture in plain values. Every key must be there: a default would be another model."""
    known = {entry.name for entry in fields(EncodecLMArchitecture)}
    if set(config) | ADDED != known:
        wrong = sorted(set(config) ^ known - ADDED)
        raise ValueError(f"{place} does not describe an EncodecLM: wrong or missing keys {wrong}")
    return build(EncodecLMArchitecture, config, place)
