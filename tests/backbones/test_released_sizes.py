"""At the dimensions that were released, on the meta device: parameters, and the paper's key/value cache (table 1)."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from transformers import Qwen2Config

from wand.backbones.cosyvoice import CosyVoice2
from wand.backbones.cosyvoice.conditioner import CosyVoiceArchitecture
from wand.backbones.spark_tts import FORMAT, SparkTTS
from wand.kv_cache.sizes import kv_bytes
from wand.model.backbone import Backbone
from wand.model.prompts import SpeechTokens


def cosyvoice2() -> Backbone:
    return CosyVoice2(architecture=CosyVoiceArchitecture())


def spark_tts() -> Backbone:
    """Qwen2.5-0.5B's shape over 166,000 tokens."""
    sizes = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
    heads = {"num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True}
    config = Qwen2Config(vocab_size=166_000, **sizes, **heads).to_diff_dict()
    counted = replace(
        FORMAT,
        speech_tokens=[replace(FORMAT.speech_tokens[0], count=8192)],
        global_tokens=SpeechTokens("<|bicodec_global_{}|>", count=4096),
    )
    return SparkTTS(architecture={"config": config, "format": asdict(counted), "dtype": "float32"})


MODELS = {"cosyvoice2": cosyvoice2, "spark_tts": spark_tts}


def on_meta(name: str) -> Backbone:
    with torch.device("meta"):
        return MODELS[name]()


@pytest.mark.parametrize(("name", "millions"), [("cosyvoice2", 505.8), ("spark_tts", 506.6)])
def test_parameters(name: str, millions: float) -> None:
    count = sum(parameter.numel() for parameter in on_meta(name).parameters())
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize(("name", "rows", "frame_rate"), [("cosyvoice2", 6564, 25.0), ("spark_tts", 8192 + 2, 50.0)])
def test_only_allowed_rows_are_multiplied(name: str, rows: int, frame_rate: float) -> None:
    backbone = on_meta(name)
    assert backbone.speech_head().weights[0].shape == (1, rows, 896)
    assert backbone.frame_rate == frame_rate


@pytest.mark.parametrize("name", MODELS)
def test_bytes_of_a_column(name: str) -> None:
    config = on_meta(name).decoder.config
    assert kv_bytes(config, 1, 4) == 24_576
    assert kv_bytes(config, 1, 2) == 12_288


@pytest.mark.parametrize(
    ("name", "itemsize", "prefix", "spoken", "window", "full", "windowed"),
    [("cosyvoice2", 4, 192, 255, 32, 10.48, 5.25), ("spark_tts", 4, 241, 531, 64, 18.09, 7.15)],
)
def test_the_papers_cache(
    name: str, itemsize: int, prefix: int, spoken: int, window: int, full: float, windowed: float
) -> None:
    """(P, G, W) of the utterances that were measured, in MiB."""
    config = on_meta(name).decoder.config
    assert round(kv_bytes(config, prefix + spoken, itemsize) / 2**20, 2) == full
    assert round(kv_bytes(config, prefix + window, itemsize) / 2**20, 2) == windowed
