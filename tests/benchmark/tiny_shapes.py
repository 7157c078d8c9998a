"""The released models, so small that everything about them runs in milliseconds."""

from __future__ import annotations

import copy
from dataclasses import replace

from wand.benchmark.shapes import SHAPES, Shape

SIZES = {
    "cosyvoice2": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_layers": 2,
        "num_heads": 4,
        "num_key_value_heads": 2,
        "text_vocab_size": 60,
        "speech_tokens": 50,
    },
    "indextts": {
        "layers": 2,
        "model_dim": 32,
        "heads": 4,
        "max_text_tokens": 20,
        "max_mel_tokens": 200,
        "number_text_tokens": 30,
        "number_mel_codes": 52,
        "start_mel_token": 50,
        "stop_mel_token": 51,
        "output_size": 16,
        "linear_units": 24,
        "attention_heads": 2,
        "num_blocks": 1,
    },
    "sparktts": {
        "config": {
            **SHAPES["sparktts"].spec["architecture"]["config"],
            "vocab_size": 70,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
        "format": {
            **SHAPES["sparktts"].spec["architecture"]["format"],
            "speech_tokens": [{"pattern": "<{}>", "count": 60}],
        },
    },
}


def tiny_shape(name: str) -> Shape:
    """A released model's shape at a few thousand parameters, with P = 7 and W = 4."""
    spec = copy.deepcopy(SHAPES[name].spec)
    spec["architecture"].update(SIZES[name])
    return replace(SHAPES[name], spec=spec, prefix=7, window=4)
