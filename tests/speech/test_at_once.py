"""The embedded voice, used several times at once: codes and sound are those of each call alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy
import pytest
import soundfile
import torch
from torch import Tensor

from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.speech.speaking import SpeakOptions
from wand.speech.streaming import SoundChunk
from wand.speech.synthesizer import Synthesizer

TEXTS = ["hello there", "so it is", "well then", "and again", "go on", "come in", "not now", "why not"]
Sound = tuple[Tensor, Tensor]


def options(seed: int) -> SpeakOptions:
    return SpeakOptions(seed=seed, max_seconds=0.5 + 0.05 * seed, first_seconds=0.1, chunk_seconds=0.15)


@pytest.fixture(scope="module")
def model() -> Synthesizer:
    lm = EncodecLM(pretrained="embedded")
    lm.load_pretrained()
    return Synthesizer(lm.eval(), AttentionWindow(32), lm.load_codec())


@pytest.fixture(scope="module")
def voice(model: Synthesizer, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    time = numpy.arange(16_000) / 16_000
    soundfile.write(path, 0.3 * numpy.sin(2 * numpy.pi * 150 * time) * (1 + numpy.sin(9 * time)) / 2, 16_000)
    return model.read_voice(path)


def fresh(model: Synthesizer, int8: bool = False) -> Synthesizer:
    """The same weights, without what earlier calls have left."""
    return Synthesizer(model.backbone, model.window, model.codec, int8)


def parts(model: Synthesizer, voice: Reference, seed: int) -> Iterator[SoundChunk]:
    return model.stream(TEXTS[seed], voice, options(seed))


def joined(chunks: list[SoundChunk]) -> Sound:
    return torch.cat([c.codes for c in chunks], dim=1), torch.cat([c.audio for c in chunks])


def generated(model: Synthesizer, voice: Reference, seed: int) -> Sound:
    (speech,) = model.generate(TEXTS[seed], voice, options(seed))
    assert speech.audio is not None
    return speech.codes, speech.audio


def check(own: Sound, expected: Sound) -> None:
    assert torch.equal(own[0], expected[0])
    torch.testing.assert_close(own[1], expected[1], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def alone(model: Synthesizer, voice: Reference) -> list[Sound]:
    sounds = [generated(fresh(model), voice, seed) for seed in range(len(TEXTS))]
    assert len({codes.shape[1] for codes, _ in sounds}) > 2
    return sounds


def test_eight_streams_read_in_turn(model: Synthesizer, voice: Reference, alone: list[Sound]) -> None:
    streams = [parts(model, voice, seed) for seed in range(8)]
    heard: list[list[SoundChunk]] = [[] for _ in streams]
    left = list(range(8))
    while left:
        for i in list(left):
            chunk = next(streams[i], None)
            if chunk is None:
                left.remove(i)
            else:
                heard[i].append(chunk)
    assert all(len(chunks) > 2 for chunks in heard)
    for chunks, expected in zip(heard, alone, strict=True):
        check(joined(chunks), expected)


def in_four_threads(model: Synthesizer, voice: Reference) -> list[Sound]:
    together = Barrier(4)

    def speak(seed: int) -> Sound:
        together.wait()
        return generated(model, voice, seed)

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(speak, range(4)))


def test_four_threads_generate(model: Synthesizer, voice: Reference, alone: list[Sound]) -> None:
    for own, expected in zip(in_four_threads(fresh(model), voice), alone, strict=False):
        check(own, expected)


def test_four_threads_generate_with_int8_weights(model: Synthesizer, voice: Reference) -> None:
    """Int8 rounds a remembered voice otherwise than a new one, so the voice is in memory before."""
    shared = fresh(model, int8=True)
    for _ in range(2):
        expected = [generated(shared, voice, seed) for seed in range(4)]
    for own, wanted in zip(in_four_threads(shared, voice), expected, strict=True):
        check(own, wanted)


def test_generate_between_the_parts_of_a_stream(model: Synthesizer, voice: Reference, alone: list[Sound]) -> None:
    heard = []
    for chunk in parts(model, voice, 0):
        heard.append(chunk)
        check(generated(model, voice, 1), alone[1])
    check(joined(heard), alone[0])


def test_streams_that_are_left_or_fail_change_no_other(
    model: Synthesizer, voice: Reference, alone: list[Sound]
) -> None:
    left, closed, failing, kept = (parts(model, voice, seed) for seed in (1, 2, 3, 0))
    heard = [next(kept)]
    next(left)
    next(closed)
    closed.close()  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        [1 / 0 for _ in failing]  # an error in the program that listens
    with pytest.raises(ValueError, match="empty"):
        model.generate(" ", voice)
    del left
    heard += list(kept)
    check(joined(heard), alone[0])
    check(generated(model, voice, 2), alone[2])


def test_two_synthesizers_over_one_model(model: Synthesizer, voice: Reference, alone: list[Sound]) -> None:
    """Under two windows, one of them with int8 weights: the weights are shared, nothing else is."""
    other = Synthesizer(model.backbone, AttentionWindow(8), model.codec, int8=True)
    for _ in range(2):
        expected = generated(other, voice, 4)
    one, two = parts(model, voice, 0), parts(other, voice, 4)
    heard: tuple[list[SoundChunk], list[SoundChunk]] = ([], [])
    for chunks in zip(one, two, strict=False):
        for own, chunk in zip(heard, chunks, strict=True):
            own.append(chunk)
    heard[0].extend(one)
    heard[1].extend(two)
    check(joined(heard[1]), expected)
    check(generated(model, voice, 0), alone[0])
