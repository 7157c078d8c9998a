"""Codes to sound, one by one and side by side."""

from __future__ import annotations

import gc
import weakref

import torch

from tests.conftest import TINY
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs import EncodecCodec
from wand.speech.speaking import decode, decode_all, stop_rules


class Unhashable(EncodecCodec):
    __hash__ = None  # type: ignore[assignment] # as that of a dataclass which can be compared


def test_the_rules_keep_no_codec_alive():
    codec = Unhashable()
    silence = codec.encode(torch.zeros(1, 1, codec.sample_rate), codec.sample_rate)
    assert stop_rules(EncodecLM(architecture=TINY), codec, 1.0).silent_tokens == set(silence[0, 0].tolist())
    known = weakref.ref(codec)
    del codec
    gc.collect()
    assert known() is None


def test_sounds_decoded_side_by_side_are_those_decoded_alone():
    codec = EncodecCodec()
    assert codec.causal
    codes = [torch.randint(0, 256, (4, frames)) for frames in (30, 0, 7, 50, 31, 1)]
    together = decode_all(codec, codes, rows=3)
    for own, sound in zip(codes, together, strict=True):
        alone = decode(codec, own)
        assert sound.shape == alone.shape == (own.shape[1] * 320,)
        torch.testing.assert_close(sound, alone, atol=2e-5, rtol=1e-4)


def test_long_speech_is_decoded_in_parts(monkeypatch):
    codec = EncodecCodec()
    codes = [torch.randint(0, 256, (8, frames)) for frames in (70, 20, 141)]
    whole = decode_all(codec, codes)
    monkeypatch.setattr("wand.speech.speaking.STREAMED_SECONDS", 1.0)
    for own, sound in zip(whole, decode_all(codec, codes), strict=True):
        torch.testing.assert_close(sound, own, atol=2e-5, rtol=1e-4)


def test_a_codec_that_looks_ahead_is_never_padded():
    class LooksAhead:
        causal = False
        frame_rate = 50.0

        def decode(self, codes, reference=None):
            return codes.flip(-1).float().sum(1, keepdim=True)

    codes = [torch.randint(0, 9, (2, frames)) for frames in (3, 5)]
    for own, sound in zip(codes, decode_all(LooksAhead(), codes), strict=True):
        assert torch.equal(sound, own.flip(-1).float().sum(0))
