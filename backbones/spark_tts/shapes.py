"""Dimensions of Spark-TTS-0.5B."""

from __future__ import annotations

from wand.benchmark.shapes import PublishedFigures, Shape

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

SHAPE = Shape(
    "Spark-TTS-0.5B",
    {"class_path": "SparkTTS", "architecture": {"config": _QWEN2, "format": _BICODEC, "dtype": "float32"}},
    prefix=241,
    window=64,
    published=PublishedFigures((18.09, 7.15), (48.12, 31.74), 4, 531, 309, 500, 2),
)
