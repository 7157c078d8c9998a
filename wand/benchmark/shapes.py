"""The released models' dimensions as plain values: what `wand.model.registry.build_backbone` makes a random model of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from wand.model.backbone import Backbone
from wand.model.registry import build_backbone

_QWEN2 = {
    "model_type": "qwen2",
    "vocab_size": 166_000,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
_BICODEC = {
    "speech_tokens": [{"pattern": "<|bicodec_semantic_{}|>", "count": 8192}],
    "stop_tokens": ["<|end_semantic_token|>", "<|im_end|>"],
    "prompt": "{text}",
    "frame_rate": 50.0,
    "sample_rate": 16_000,
    "global_tokens": None,
    "sampling": {"temperature": 0.8, "top_k": 50, "top_p": 0.95},
}


@dataclass(frozen=True)
class Shape:
    """A released model without its weights, and the sizes at which the paper measured it.

    Args:
        title: Its name.
        spec: As `wand.model.backbone.Backbone.spec` gives it.
        prefix: P of the paper's key/value figures.
        window: W that the paper gave it.
    """

    title: str
    spec: dict[str, Any]
    prefix: int
    window: int

    def build(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Backbone:
        """The model with random weights, in eval mode; on the meta device it takes no memory."""
        with torch.device(device):
            return build_backbone(self.spec).to(dtype).eval().requires_grad_(False)


# The adapters' own defaults are the released sizes, where they have any.
SHAPES = {
    "cosyvoice2": Shape("CosyVoice 2-0.5B", {"class_path": "CosyVoice2", "architecture": {}}, 192, 32),
    "indextts": Shape(
        "IndexTTS 1.5", {"class_path": "IndexTTS", "architecture": {"mel_positions": "training"}}, 79, 32
    ),
    "sparktts": Shape(
        "Spark-TTS-0.5B",
        {
            "class_path": "SparkTTS",
            "architecture": {"config": _QWEN2, "format": _BICODEC, "dtype": "float32"},
        },
        241,
        64,
    ),
}
