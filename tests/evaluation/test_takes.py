"""Many sentences spoken side by side are the same as each alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.workplace import SHAPE
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.codecs.reference import Reference
from wand.data.example import Example
from wand.decoding.decoder import Decoder
from wand.decoding.stopping import StopReason
from wand.evaluation.takes import GRACE, PATIENCE, speak_examples, speak_takes, speakable, spread

FRAMES = (12, 31, 20, 7)


@pytest.fixture(scope="module")
def lm() -> EncodecLM:
    torch.manual_seed(0)
    return EncodecLM(architecture=EncodecLMArchitecture(**SHAPE, reference_seconds=0.1)).eval()


@pytest.fixture(scope="module")
def examples(lm) -> list[Example]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for i, frames in enumerate(FRAMES):
        codes, reference = (torch.randint(0, 256, (8, n), generator=generator) for n in (frames, 5))
        text = "one two three"[: 5 + 2 * i]
        made.append(Example(f"u{i}", text, "anna", lm.conditioner(text, Reference(reference)), codes))
    return made


@pytest.mark.parametrize("size", [None, 8])
def test_neighbours_do_not_matter(lm, examples, size):
    codec, window = lm.load_codec(), AttentionWindow(size)
    together = speak_examples(Decoder(lm, window), codec, examples, seed=3)
    for i, example in enumerate(examples):
        alone = speak_examples(Decoder(lm, window), codec, [example], seed=3)[0]
        assert torch.equal(alone.codes, together[i].codes)
        assert alone.reason == together[i].reason
    done: list[int] = []
    in_pairs = speak_examples(Decoder(lm, window), codec, examples, seed=3, rows=2, on_done=done.append)
    assert all(torch.equal(a.codes, b.codes) for a, b in zip(together, in_pairs, strict=True))
    assert done == sorted(done)
    assert done[-1] == len(examples)


def test_a_process_without_a_share_says_nothing(lm):
    assert speak_examples(Decoder(lm, AttentionWindow(8)), lm.load_codec(), []) == []


def test_each_sentence_has_its_own_bound(lm, examples):
    spoken = speak_examples(Decoder(lm, AttentionWindow(8)), lm.load_codec(), examples)
    for frames, one in zip(FRAMES, spoken, strict=True):
        bound = round((PATIENCE * frames / lm.frame_rate + GRACE) * lm.frame_rate)
        assert one.codes.shape[1] <= bound
        if one.reason == StopReason.LENGTH:
            assert one.codes.shape[1] == bound


def test_seeds_make_takes(lm, examples):
    codec, window = lm.load_codec(), AttentionWindow(8)
    first, again, other = (speak_examples(Decoder(lm, window), codec, examples, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a.codes, b.codes) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a.codes, b.codes) for a, b in zip(first, other, strict=True))


class Deaf:
    """Hears the same in everything."""

    name = "deaf"
    language = "en"

    def transcribe(self, sounds, sample_rate):
        return ["one"] * len(sounds)


def test_takes_come_with_their_codes(lm, examples):
    takes = speak_takes(Decoder(lm, AttentionWindow(8)), lm.load_codec(), Deaf(), examples, seed=2)
    assert set(takes) == {example.id for example in examples}
    for example in examples:
        take, codes = takes[example.id]
        assert (take.text, take.heard, take.seed) == (example.text, "one", 2)
        assert take.seconds == codes.shape[1] / lm.frame_rate
        assert take.recorded_seconds == example.codes.shape[1] / lm.frame_rate


def test_spread_is_even_and_keeps_order():
    assert spread(range(130), 30)[:4] == [0, 4, 8, 13]
    assert len(set(spread(range(130), 30))) == 30
    assert spread([1, 2, 3], None) == spread([1, 2, 3], 9) == [1, 2, 3]


def test_sentences_that_cannot_be_judged_are_skipped_and_counted(examples):
    wordless = replace(examples[1], text="?!")

    def voice(example: Example) -> None:
        if example is examples[2]:
            raise ValueError("no sound file at gone.wav")

    given = [examples[0], wordless, examples[2], examples[3]]
    with pytest.warns(UserWarning, match="2 of 4 sentences are not spoken; the first is 'u1': the text has no words"):
        assert speakable(given, voice) == [examples[0], examples[3]]
