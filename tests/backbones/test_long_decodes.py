"""The windowed student of every adapter speaks on and on in a cache that stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.backbones import test_causal_lm, test_cosyvoice, test_spark_tts
from tests.conftest import TINY
from wand.attention import AttentionWindow
from wand.backbones.cosyvoice import CosyVoice2
from wand.backbones.encodec_lm import EncodecLM
from wand.backbones.spark_tts import SparkTTS
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.model.backbone import Backbone
from wand.model.batch import make_batch

COLUMNS = 2000


def make(name: str, folder: Path) -> tuple[Backbone, Reference]:
    if name == "encodec_lm":
        return EncodecLM(architecture=TINY), Reference(torch.ones(3, 5, dtype=torch.long))
    if name == "cosyvoice2":
        release = test_cosyvoice.write_release(folder, test_cosyvoice.GOLDEN.state)
        return CosyVoice2(pretrained=str(release)), Reference(torch.ones(1, 5), text="a voice")
    if name == "spark_tts":
        release = test_spark_tts.write_release(folder, test_spark_tts.GOLDEN.state)
        return SparkTTS(pretrained=str(release)), test_spark_tts.voice("so it is,")
    return test_causal_lm.make_model(folder, name), test_causal_lm.voice(name)


@pytest.mark.parametrize("name", ["encodec_lm", "cosyvoice2", "spark_tts", "llasa", "orpheus"])
@torch.inference_mode()
def test_two_thousand_columns(name: str, tmp_path: Path) -> None:
    backbone, reference = make(name, tmp_path)
    decoder = Decoder(backbone.eval(), AttentionWindow(14))
    batch = make_batch(backbone.conditioner, backbone.layout, [backbone.conditioner("hello", reference)])
    head = backbone.speech_head()
    hidden, cache = decoder.prefill(batch)
    logits = head.logits(hidden)
    assert isinstance(cache, PrefixWindowCache)
    sizes = set()
    for _ in range(COLUMNS):
        logits = head.logits(decoder.step(cache, logits.argmax(-1)))
        sizes.add(cache.nbytes)
    assert len(sizes) == 1
    assert logits.isfinite().all()
    assert cache.positions.tolist() == [batch.prefix_length + COLUMNS]
