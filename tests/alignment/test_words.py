"""The words of a recording are found where espeak-ng has spoken them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.word_times import errors_of
from tests.conftest import TINY, random_codes
from wand.alignment.words import word_times
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.demo.corpus import EspeakCorpus
from wand.model.alignment import AlignmentHead
from wand.speech.synthesizer import Synthesizer


@torch.inference_mode()
def test_words_are_found_where_espeak_has_spoken_them() -> None:
    backbone = EncodecLM("embedded")
    backbone.load_pretrained()
    # These weights were trained with full attention, so the window hides nothing.
    model = Synthesizer(backbone.eval(), AttentionWindow(512), backbone.load_codec())
    errors = errors_of(model, EspeakCorpus(hours=0.01, test_sentences=3), utterances=2)
    late = np.abs(np.concatenate([*errors.values()]))
    assert len(late) > 10
    assert np.median(late) <= 0.05
    assert np.quantile(late, 0.9) <= 0.1


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
