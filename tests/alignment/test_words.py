"""The words of a recording are found where a synthesiser has spoken them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.voice.sentences import Line
from benchmarks.word_times import RECORDED, late_words, same_words, synthesiser_times
from recipes.corpus.voices import Spoken
from tests.conftest import TINY, random_codes
from wand.alignment.words import word_times
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.model.alignment import AlignmentHead
from wand.speech.synthesizer import Synthesizer

TEXTS = ("I left my keys on the kitchen counter.", "the water was very cold today.")
VOICE = Reference(torch.ones(8, 5, dtype=torch.long))


@torch.inference_mode()
def test_words_are_found_where_the_synthesiser_has_spoken_them() -> None:
    backbone = EncodecLM("embedded")
    backbone.load_pretrained()
    # These weights were trained with full attention, so the window hides nothing.
    model = Synthesizer(backbone.eval(), AttentionWindow(512), backbone.load_codec())
    lines = [Line(i, text, voice) for i, (text, voice) in enumerate(zip(TEXTS, ["fiona", "marcus"], strict=True))]
    late = late_words(model, lines)[RECORDED]
    assert {voice: len(own) for voice, own in late.items()} == {"fiona": 7, "marcus": 6}
    errors = np.concatenate([*late.values()])
    assert np.median(np.abs(errors)) <= 0.03
    assert abs(np.median(errors)) <= 0.02
    assert np.quantile(np.abs(errors), 0.9) <= 0.1


def test_a_word_begins_with_its_first_phone() -> None:
    conditioner = EncodecLM("embedded").conditioner
    # "In a mill." with a silence before it; the voice says another vowel in "a", and leaves out the "l" of "mill".
    spoken = Spoken(torch.zeros(0), [("", 0.0), ("ˈɪ", 0.2), ("n", 0.3), ("ʌ", 0.4), ("m", 0.5), ("ɪ", 0.6)])
    assert synthesiser_times(conditioner, "in a mill.", VOICE, spoken) == [0.2, 0.4, 0.5]
    spoken = Spoken(torch.zeros(0), [("n", 0.3), ("m", 0.5), ("ɪ", 0.6), ("l", 0.7)])
    begins = synthesiser_times(conditioner, "in a mill.", VOICE, spoken)
    assert begins[::2] == [0.3, 0.5]
    assert np.isnan(begins[1]), "it was not said"


def test_words_that_were_heard_wrong_do_not_count() -> None:
    assert list(same_words(["The", "old", "man,", "sat."], ["the", "bold", "man", "has", "sat"])) == [
        (0, 0), (2, 2), (3, 4),
    ]  # fmt: skip


def test_all_words_have_times_in_order() -> None:
    """Also those of a model that looks anywhere: the place moves forward only, and ends within the speech."""
    backbone = EncodecLM(architecture=TINY).eval()
    backbone.alignment_heads = (AlignmentHead(0, 1), AlignmentHead(1, 3))
    codes = random_codes(backbone, 60)
    words = word_times(backbone, AttentionWindow(8), "one two three.", Reference(random_codes(backbone, 9)), codes)
    assert [word.text for word in words] == ["one", "two", "three."][: len(words)]
    times = [time for word in words for time in (word.begin, word.end)]
    assert times == sorted(times)
    assert times[0] == 0
    assert times[-1] <= backbone.layout.columns_of(60)


def test_without_heads_the_remedy_is_named() -> None:
    backbone = EncodecLM(architecture=TINY)
    codes = random_codes(backbone, 9)
    with pytest.raises(ValueError, match=r"no alignment heads of this EncodecLM.*`wand align --ckpt_path RUN`"):
        word_times(backbone, AttentionWindow(8), "one.", Reference(codes), codes)
