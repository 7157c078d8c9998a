"""Passages, split and whole texts through `generate` and `stream`, with the embedded voice."""

from __future__ import annotations

import pytest
import torch

from tests.passages.readers import pieces
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.decoding.stopping import StopReason
from wand.demo.corpus import VOICES
from wand.model.alignment import AlignmentHead
from wand.speech.long_text import LongText, parts_of_text, whole_or_split
from wand.speech.speaking import SpeakOptions
from wand.speech.synthesizer import Synthesizer
from wand.text.espeak import synthesize

TEXT = "the old men sailed quickly at the edge of the field. how many boats did the players forget?"


@pytest.fixture(scope="module")
def model() -> Synthesizer:
    """The embedded voice under a window that it was not trained for: it speaks, though not well."""
    lm = EncodecLM(pretrained="embedded")
    lm.load_pretrained()
    lm.alignment_heads = (AlignmentHead(4, 0),)
    return Synthesizer(lm.eval(), AttentionWindow(128), lm.load_codec())


@pytest.fixture(scope="module")
def voice(model: Synthesizer) -> Reference:
    assert model.codec is not None
    sound = synthesize("so they went home in the rain.", VOICES[0])
    return Reference(model.codec.encode(sound[None, None], 16_000)[0])


def test_text_in_pieces_is_spoken_like_the_whole_text(model: Synthesizer, voice: Reference) -> None:
    options = SpeakOptions(seed=3)
    (whole,) = model.generate(TEXT, voice, options)
    assert whole.reason in (StopReason.STOP_TOKEN, StopReason.TEXT_END)
    assert " ".join(word.text for word in whole.words) == TEXT
    begins = [word.begin for word in whole.words]
    assert begins == sorted(begins)
    assert whole.audio is not None
    assert 0.6 < whole.words[-1].end / (len(whole.audio) / 16_000) <= 1.0
    assert 3.0 < whole.codes.shape[1] / 50 < 12.0
    parts = list(model.stream(pieces(TEXT, 1), voice, options))
    assert torch.equal(torch.cat([part.codes for part in parts], dim=1), whole.codes)
    assert [part.reason for part in parts if part.reason] == [whole.reason]
    assert parts[-1].words == whole.words
    sound = torch.cat([part.audio for part in parts])
    assert whole.audio is not None
    torch.testing.assert_close(sound, whole.audio, atol=1e-4, rtol=1e-3)


def test_a_text_that_is_split_is_streamed_part_by_part(model: Synthesizer, voice: Reference) -> None:
    options = SpeakOptions(seed=3, long_text="split", max_seconds=1)
    text = f"{TEXT} {TEXT} {TEXT}"
    (whole,) = model.generate(text, voice, options)
    parts = list(model.stream(text, voice, options))
    assert torch.equal(torch.cat([part.codes for part in parts], dim=1), whole.codes)
    assert [part.reason for part in parts if part.reason] == [whole.reason]
    assert whole.audio is not None
    assert sum(len(part.audio) for part in parts) == len(whole.audio)


@pytest.mark.parametrize(
    ("how", "heads", "longest", "expected"),
    [
        ("auto", True, None, "passage"),
        ("auto", False, None, "whole"),
        ("auto", False, 10_000, "whole"),
        ("auto", False, 100, "split"),
        ("passage", True, 10_000, "passage"),
        ("split", True, None, "split"),
        ("whole", True, 100, "whole"),
    ],
)
def test_how_a_text_is_spoken(
    model: Synthesizer, voice: Reference, how: LongText, heads: bool, longest: int | None, expected: str
) -> None:
    lm = EncodecLM(pretrained="embedded")
    lm.alignment_heads = (AlignmentHead(4, 0),) if heads else ()
    lm.longest_prefix = longest
    text = " ".join([TEXT] * 4)
    parts, is_passage = parts_of_text(text, how, lm, model.codec, model.window, voice)
    assert is_passage == (expected == "passage")
    assert (len(parts) > 1) == (expected == "split")
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(("longest", "expected"), [(None, "whole"), (10_000, "whole"), (60, "split")])
def test_a_long_text_is_split_also_in_a_short_prefix(
    model: Synthesizer, voice: Reference, longest: int | None, expected: str
) -> None:
    lm = EncodecLM(pretrained="embedded")
    lm.longest_prefix, lm.longest_text = 10_000, longest
    assert whole_or_split(" ".join([TEXT] * 4), lm, voice) == expected
    assert whole_or_split("yes.", lm, voice) == "whole"


def test_what_cannot_be_spoken_is_said(model: Synthesizer, voice: Reference) -> None:
    lm = EncodecLM(pretrained="embedded")
    lm.alignment_heads = ()
    without = Synthesizer(lm.eval(), AttentionWindow(32), model.codec)
    with pytest.raises(ValueError, match="cannot speak passages, because its alignment heads are not known"):
        without.generate(TEXT, voice, SpeakOptions(long_text="passage"))
    with pytest.raises(ValueError, match="cannot speak text in pieces, because its alignment heads are not known"):
        list(without.stream(iter([TEXT]), voice))
    full = Synthesizer(model.backbone, AttentionWindow(), model.codec)
    with pytest.raises(ValueError, match="because it has full attention"):
        full.generate(TEXT, voice, SpeakOptions(long_text="passage"))
    with pytest.raises(ValueError, match="the text is empty"):
        list(model.stream(iter(["", " "]), voice))
    with pytest.raises(ValueError, match="long_text 'long' is not one of"):
        SpeakOptions(long_text="long")  # type: ignore[arg-type]
