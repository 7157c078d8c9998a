"""EncodecLM: a decoder-only transformer over the codebooks of an EnCodec, with the delay pattern.

The embedded default, and a small model for EnCodec of any size. The prefix is ``reference codes | text | start``: about
two seconds of the voice to be cloned (another sentence, its words not given), then the letters or phones to be spoken.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaModel

from wand.assets import asset_folder
from wand.codecs import Codec, EncodecCodec
from wand.codecs.encodec import EMBEDDED
from wand.codecs.reference import Reference
from wand.files.weights import file_digest, load_exactly, read_json, read_weights
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch, Conditioning, left_pad
from wand.model.columns import ColumnLayout
from wand.model.heads import LinearHead
from wand.model.sampling import Sampling
from wand.text.front_end import FRONT_ENDS, SYMBOLS, FrontEnd


@dataclass(frozen=True)
class EncodecLMArchitecture:
    """Shape of an `EncodecLM`.

    Args:
        hidden_size: D.
        num_layers: Decoder layers.
        num_heads: Query heads.
        num_key_value_heads: Key/value heads.
        intermediate_size: Width of the feed-forward layers.
        codec: What `EncodecCodec` opens: ``embedded``, a folder or a name.
        sample_rate: Of the codec, in Hz.
        frame_rate: Of the codec, in Hz.
        num_codebooks: K.
        codebook_size: Codes of one codebook.
        front_end: What texts are read as: ``letters``, or ``phones`` (needs espeak-ng).
        symbols: What the front end may give; all it can by default.
        text_kernel: Symbols that a symbol's embedding is mixed with, itself in the middle; 1 mixes none.
        columns_per_symbol: About how many columns a symbol lasts. Text and speech then share a sense of progress: a
            column finds its place in the text sooner. 0 has none.
        reference_seconds: Length of the reference in the prefix, at most.
    """

    hidden_size: int = 256
    num_layers: int = 6
    num_heads: int = 4
    num_key_value_heads: int = 2
    intermediate_size: int = 704
    codec: str = EMBEDDED
    sample_rate: int = 16_000
    frame_rate: float = 50.0
    num_codebooks: int = 4
    codebook_size: int = 256
    front_end: FrontEnd = "letters"
    symbols: str = ""
    text_kernel: int = 1
    columns_per_symbol: float = 0.0
    reference_seconds: float = 2.0

    def __post_init__(self) -> None:
        if self.front_end not in FRONT_ENDS:
            raise ValueError(f"front_end {self.front_end!r} is not one of {', '.join(FRONT_ENDS)}")
        if self.text_kernel < 1 or self.text_kernel % 2 == 0:
            raise ValueError(f"text_kernel {self.text_kernel} is not odd: it reaches as far back as ahead")
        object.__setattr__(self, "symbols", self.symbols or SYMBOLS[self.front_end])
        if self.hidden_size % self.num_heads or self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size}, num_heads {self.num_heads} and num_key_value_heads "
                f"{self.num_key_value_heads} must divide one another in this order"
            )


@dataclass(frozen=True)
class SymbolConditioner:
    """Reference codes and the text's symbols as prefix columns; a code column holds K codes, a text column one id.

    Args:
        layout: Of the codes.
        front_end: What texts are read as.
        symbols: What it may give.
        reference_frames: Frames of the reference at most.
    """

    layout: ColumnLayout
    front_end: FrontEnd
    symbols: str
    reference_frames: int
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {symbol: i for i, symbol in enumerate(self.symbols)})

    @property
    def start_id(self) -> int:
        """Text id after which speech starts."""
        return len(self.symbols)

    @cached_property
    def fingerprint(self) -> str:
        """Short digest of the front end, its symbols, the layout and the reference's length."""
        parts = (asdict(self.layout), self.front_end, self.symbols, self.reference_frames)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    def __call__(self, text: str, reference: Reference) -> Conditioning:
        """``ids [L, K]`` and ``is_text [L]``, L the prefix columns of this utterance."""
        spoken = FRONT_ENDS[self.front_end](text)
        if not spoken:
            raise ValueError("the text is empty: give at least one word")
        if unknown := sorted(set(spoken) - set(self.symbols)):
            raise ValueError(
                f"the text {text!r} has {self.front_end} this model does not know: {' '.join(map(repr, unknown))}; it "
                f"knows {self.symbols!r}" + (" (write numbers as words)" if self.front_end == "letters" else "")
            )
        frames = reference.codes[:, : self.reference_frames].long()
        if frames.shape[1] == 0:
            raise ValueError("the reference is empty: give a sound of at least half a second")
        codes = self.layout.to_columns(frames)
        spelled = torch.tensor([*(self._ids[symbol] for symbol in spoken), self.start_id])
        ids = torch.cat([codes, spelled[:, None].expand(-1, self.layout.num_codebooks)])
        return {"ids": ids, "is_text": torch.arange(len(ids)) >= len(codes)}

    def length(self, conditioning: Conditioning) -> int:
        """Prefix columns of one conditioning."""
        return len(conditioning["ids"])

    def collate(self, conditionings: Sequence[Conditioning], prefix_length: int) -> Conditioning:
        """``ids [B, P, K]`` and ``is_text [B, P]``, left-padded."""
        return {name: left_pad([c[name] for c in conditionings], prefix_length) for name in ("ids", "is_text")}


class TextEncoder(nn.Module):
    """Embeds symbols, each mixed with its neighbours: a phone among others is easier to find than one of many alike.

    Args:
        symbols: Number of symbols.
        width: D.
        kernel: Symbols mixed by each of two convolutions; 1 has none.
    """

    def __init__(self, symbols: int, width: int, kernel: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        layers = 0 if kernel == 1 else 2
        self.mixers = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(layers))

    def forward(self, ids: Tensor, is_text: Tensor) -> Tensor:
        """``[B, P]`` to ``[B, P, D]``; what is not text is zero."""
        present = is_text[..., None].to(self.embedding.weight.dtype)
        embedded = self.embedding(ids) * present
        for mixer in self.mixers:
            mixed = mixer(embedded.transpose(1, 2)).transpose(1, 2)
            embedded = (embedded + functional.gelu(mixed)) * present
        return embedded


class Progress(nn.Module):
    """Where a place lies on the way through the utterance: sinusoids of its column, mapped to an embedding.

    The map begins at zero, so that a model can be given one at any time.

    Args:
        width: D.
    """

    periods: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        # From a phone to a minute, in columns.
        self.register_buffer("periods", torch.logspace(math.log10(16), math.log10(4096), 16), persistent=False)
        self.embed = nn.Linear(32, width, bias=False)
        nn.init.zeros_(self.embed.weight)

    def forward(self, place: Tensor) -> Tensor:
        """Places ``[...]`` in columns to ``[..., D]``."""
        # In single precision: half of it cannot tell the columns of a long speech apart.
        angle = place[..., None].float() * (2 * math.pi / self.periods.float())
        return self.embed(torch.cat([angle.sin(), angle.cos()], dim=-1).to(self.embed.weight.dtype))


class EncodecLM(Backbone):
    """A Llama body over EnCodec's codebooks.

    Codes of a frame are embedded one table per codebook and summed; every codebook has its own head. Rows of a
    codebook's vocabulary: its codes, then stop, then filler (what the delay pattern leaves empty).

    Args:
        pretrained: Folder with ``config.json`` and ``model.safetensors``, or ``embedded`` for the model that comes
            with wand; None starts from random weights.
        architecture: Shape of a model without original weights.

    Raises:
        ValueError: If both or neither are given, or the folder does not hold a model.
    """

    cut_references = True
    licence = "The embedded voice is under Apache-2.0; another original's licence applies to what is derived from it."

    def __init__(self, pretrained: str | None = None, architecture: EncodecLMArchitecture | None = None) -> None:
        super().__init__(pretrained)
        if (pretrained is None) == (architecture is None):
            raise ValueError("EncodecLM takes either `pretrained` or `architecture`, exactly one of them")
        self.pretrained = pretrained
        shape = _read_architecture(self.folder) if architecture is None else architecture
        self.shape = shape
        self.frame_rate = shape.frame_rate
        self.sample_rate = shape.sample_rate
        self.num_codebooks = shape.num_codebooks
        self.speech_vocab_size = shape.codebook_size + 2
        stop_id, filler_id = shape.codebook_size, shape.codebook_size + 1
        self.stop_ids = (stop_id,)
        self.layout = ColumnLayout(shape.num_codebooks, stop_id, filler_id)
        self.conditioner = SymbolConditioner(
            self.layout, shape.front_end, shape.symbols, round(shape.reference_seconds * shape.frame_rate)
        )
        self.sampling = Sampling(temperature=0.9, top_p=0.95)
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
        # Inputs are embedded here; a table of the body's own would be a parameter without a gradient.
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
        """Where the original weights are."""
        assert self.pretrained is not None
        return asset_folder("encodec_lm") if self.pretrained == EMBEDDED else Path(self.pretrained)

    def architecture(self) -> dict[str, Any]:
        """The shape in plain values."""
        return asdict(self.shape)

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any]) -> Self:
        """A model with random weights."""
        return cls(architecture=EncodecLMArchitecture(**architecture))

    def load_pretrained(self) -> None:
        """Read ``model.safetensors``."""
        path = self.folder / "model.safetensors"
        load_exactly(self, read_weights(path), path)

    def pretrained_digest(self) -> str:
        """SHA-256 of ``model.safetensors``."""
        return file_digest(self.folder / "model.safetensors")

    def save_pretrained(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"model_type": "encodec_lm", **self.architecture()}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, folder / "model.safetensors")

    def own_codec(self) -> Codec:
        """The EnCodec whose codes this model speaks."""
        codec = EncodecCodec(self.shape.codec, self.num_codebooks)
        spoken = (codec.sample_rate, codec.frame_rate, codec.codebook_size)
        expected = (self.sample_rate, self.frame_rate, self.shape.codebook_size)
        if spoken != expected:
            raise ValueError(
                f"codec {self.shape.codec!r} has (Hz, frames/s, codes) {spoken}, the model was made for {expected}"
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
        """``[B, T, D]``; beside rotary positions, progress where the model has it."""
        embedded = self._embed_codes(columns)
        if self.has_progress:
            place = offset[:, None] + torch.arange(columns.shape[1], device=columns.device)
            embedded = embedded + self.speech_progress(place)
        return embedded

    def _embed_codes(self, columns: Tensor) -> Tensor:
        return self.code_embedding[torch.arange(self.num_codebooks, device=columns.device), columns].sum(-2)

    def speech_head(self) -> LinearHead:
        """``[K, V, D]``, no bias."""
        return LinearHead(self.head)

    def forbidden_tokens(self) -> Tensor | None:
        """Filler is never spoken, and stop by the first codebook only."""
        forbidden = torch.zeros(self.num_codebooks, self.speech_vocab_size, dtype=torch.bool)
        forbidden[:, self.layout.filler_id] = True
        forbidden[1:, self.layout.stop_id] = True
        return forbidden


def _read_architecture(folder: Path) -> EncodecLMArchitecture:
    path = folder / "config.json"
    if not (path.is_file() and (folder / "model.safetensors").is_file()):
        raise ValueError(f"no EncodecLM at {folder}: it should hold config.json and model.safetensors")
    config = read_json(path)
    if config.pop("model_type", None) != "encodec_lm":
        raise ValueError(f"{path} describes another model (model_type is not encodec_lm)")
    known = {entry.name for entry in fields(EncodecLMArchitecture)}
    if set(config) != known:
        raise ValueError(f"{path} does not describe an EncodecLM: wrong or missing keys {sorted(set(config) ^ known)}")
    return EncodecLMArchitecture(**config)
