"""The contract on an adapter as another package would write it: one codebook, learned positions, a head with bias."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model

from tests.backbones.contract import Contract
from wand.codecs.reference import Reference
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch, Conditioning, left_pad
from wand.model.columns import ColumnLayout
from wand.model.heads import LinearHead
from wand.testing import Examples


@dataclass(frozen=True)
class Bytes:
    """Text as bytes; the voice as the mean of its sound."""

    fingerprint = "bytes-1"

    def __call__(self, text: str, reference: Reference) -> Conditioning:
        if not text.strip():
            raise ValueError("the text is empty")
        assert reference.audio is not None
        return {"bytes": torch.tensor([*text.encode()]), "voice": reference.audio.mean()[None]}

    def length(self, conditioning: Conditioning) -> int:
        return 1 + len(conditioning["bytes"])

    def collate(self, conditionings: Sequence[Conditioning], prefix_length: int) -> Conditioning:
        return {
            "bytes": left_pad([c["bytes"] for c in conditionings], prefix_length - 1),
            "voice": torch.stack([c["voice"] for c in conditionings]),
            "length": torch.tensor([self.length(c) for c in conditionings]),
        }


class TinyGPT(Backbone):
    """``voice | bytes | speech`` through GPT-2; speech columns have positions of their own."""

    frame_rate = 25.0
    sample_rate = 16_000
    num_codebooks = 1
    max_speech_tokens = 20

    def __init__(self, pretrained: str | None = None, width: int = 32, codes: int = 10) -> None:
        super().__init__()
        self.pretrained = pretrained
        if pretrained is not None:
            width, codes = json.loads((Path(pretrained) / "shape.json").read_text())
        self.shape = {"width": width, "codes": codes}
        self.speech_vocab_size = codes + 2
        self.stop_ids = (codes,)
        self.layout = ColumnLayout(1, stop_id=codes, filler_id=codes + 1)
        self.conditioner = Bytes()
        dropouts = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
        config = GPT2Config(n_embd=width, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2, **dropouts)
        self.decoder = GPT2Model(config)
        self.decoder.wte = None
        self.bytes = nn.Embedding(256, width)
        self.voice = nn.Linear(1, width)
        self.codes = nn.Embedding(self.speech_vocab_size, width)
        self.speech_positions = nn.Embedding(self.max_speech_tokens, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.speech_vocab_size)
        self.finish_init()

    def architecture(self) -> dict[str, Any]:
        return self.shape

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any]) -> Self:
        return cls(**architecture)

    def load_pretrained(self) -> None:
        self.load_state_dict(load_file(self._file))

    def pretrained_digest(self) -> str:
        return hashlib.sha256(self._file.read_bytes()).hexdigest()

    @property
    def _file(self) -> Path:
        assert self.pretrained is not None
        return Path(self.pretrained) / "weights.safetensors"

    def save_pretrained(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        folder.mkdir(parents=True)
        (folder / "shape.json").write_text(json.dumps([*self.shape.values()]))
        save_file(
            {name: tensor.to(dtype) for name, tensor in self.state_dict().items()}, folder / "weights.safetensors"
        )

    def embed_prefix(self, batch: ConditionedBatch) -> Tensor:
        text = self.bytes(batch.conditioning["bytes"])
        voice = self.voice(batch.conditioning["voice"].to(self.voice.weight.dtype))
        first = torch.arange(batch.prefix_length, device=text.device) == batch.starts[:, None]
        return torch.where(first[..., None], voice[:, None], nn.functional.pad(text, (0, 0, 1, 0)))

    def embed_speech(self, columns: Tensor, offset: Tensor) -> Tensor:
        assert offset.shape == columns.shape[:1]
        positions = offset[:, None] + torch.arange(columns.shape[1], device=columns.device)
        return self.codes(columns[..., 0]) + self.speech_positions(positions)

    def project(self, hidden: Tensor) -> Tensor:
        return self.norm(hidden)

    def speech_head(self) -> LinearHead:
        return LinearHead(self.head.weight[None], self.head.bias[None])


class TestTinyGPT(Contract):
    def make_backbone(self) -> TinyGPT:
        return TinyGPT()

    def make_examples(self, backbone: TinyGPT) -> Examples:
        return [
            (
                backbone.conditioner(text, Reference(torch.zeros(1, 1), torch.full((9,), level))),
                torch.randint(0, backbone.shape["codes"], (1, 7)),
            )
            for text, level in (("ü", 0.5), ("hello there", -2.0), ("no", 1.0))
        ]
