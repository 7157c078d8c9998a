"""Passages in an engine: in pieces, in company, while they wait, after faults. Their text alone counts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain

import pytest
import torch
from torch import Tensor

from tests.decoding.test_engine import SAMPLINGS, TEXTS
from tests.passages.engines import SHORT, WINDOW, engine_of, speak
from tests.passages.readers import PER_TOKEN, RULES, TEXT, VOICE, look_at, passage, passage_speaker
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.decoding.decoder import Decoder
from wand.decoding.engine import Engine
from wand.decoding.generate import generate_all
from wand.decoding.requests import Done, Generation, Request, RequestError
from wand.decoding.stopping import StopReason, StopRules
from wand.model.alignment import AlignmentHead
from wand.model.sampling import Sampling
from wand.passages.passage import Passage
from wand.passages.rules import PassageRules

SECOND = "at the end of the road a man had a mill, and a cat that sat in it by day."


class Typist:
    """Adds random pieces of a text to a passage, at random steps."""

    def __init__(self, lm: EncodecLM, text: str, seed: int) -> None:
        self.passage, self.text, self.chance = passage(lm, None), text, random.Random(seed)

    def __call__(self) -> None:
        if self.chance.random() < 0.04 and not self.passage.closed:
            count = self.chance.randint(1, 12)
            self.passage.extend(self.text[:count])
            self.text = self.text[count:]
            if not self.text:
                self.passage.close()


def same(own: tuple[Tensor, Generation], expected: tuple[Tensor, Generation]) -> bool:
    return torch.equal(own[0], expected[0]) and (own[1].reason, own[1].words) == (expected[1].reason, expected[1].words)


def test_text_that_arrives_in_pieces_is_spoken_like_the_whole(monkeypatch) -> None:
    look_at(monkeypatch)
    lm = passage_speaker()
    (whole,) = speak(engine_of(lm), [Request(passage(lm, SHORT), seed=3)])
    assert whole[0].shape[1] >= PER_TOKEN * (len(SHORT) - RULES.near - 1)
    assert " ".join(word.text for word in whole[1].words) == SHORT
    assert not whole[1].faults
    for seed, parts in ((1, None), (2, (5, 7))):
        typist = Typist(lm, SHORT, seed)
        (own,) = speak(engine_of(lm), [Request(typist.passage, seed=3, parts=parts)], typist)
        assert same(own, whole)
    pieces = iter([SHORT[i : i + 5] for i in range(0, len(SHORT), 5)])
    (own,) = speak(engine_of(lm), [Request(passage(lm, pieces), seed=3, parts=(1, 1))])
    assert same(own, whole)


@pytest.mark.parametrize("sampling", [SAMPLINGS["penalised"], SAMPLINGS["repetition-aware"]], ids=["penalty", "aware"])
def test_passages_and_requests_are_spoken_as_if_alone(monkeypatch, sampling: Sampling) -> None:
    look_at(monkeypatch)
    monkeypatch.setattr("wand.decoding.engine.FORGET_AFTER", 5)
    lm = passage_speaker()
    texts = [SHORT, SECOND]
    plain = [Request(lm.conditioner(text, VOICE), seed=40 + i) for i, text in enumerate(TEXTS[:4])]
    alone = [
        speak(engine_of(lm, sampling=sampling), [request])[0]
        for request in [*(Request(passage(lm, text), seed=i) for i, text in enumerate(texts)), *plain]
    ]
    typists = [Typist(lm, text, 7 + i) for i, text in enumerate(texts)]
    waited: set[int] = set()

    def between() -> None:
        for typist in typists:
            typist()
        waited.update(speech.ticket for speech in engine._parked)

    engine = engine_of(lm, rows=2, sampling=sampling)
    requests = [Request(typist.passage, seed=i, parts=(4, 9)) for i, typist in enumerate(typists)]
    together = speak(engine, [*requests, *plain], between)
    for own, expected in zip(together, alone, strict=True):
        assert same(own, expected)
    assert waited == {0, 1}


def test_a_speech_that_waits_gives_its_row_to_others(monkeypatch) -> None:
    look_at(monkeypatch)
    lm = passage_speaker()
    plain = [Request(lm.conditioner(text, VOICE), seed=40 + i) for i, text in enumerate(TEXTS[:2])]
    whole = [Request(passage(lm, text), seed=i) for i, text in enumerate((SHORT, SECOND))]
    alone = [speak(engine_of(lm), [request])[0] for request in [*whole, *plain]]

    engine = engine_of(lm, rows=1)
    texts = [passage(lm, None), passage(lm, None)]
    tickets = [engine.submit(Request(text, seed=i)) for i, text in enumerate(texts)]
    tickets += [engine.submit(request) for request in plain]
    texts[0].extend(SHORT[:50])
    texts[1].extend(SECOND[:50])
    order, ends = [], {}
    while not engine.waits:
        for event in engine.step():
            assert isinstance(event, Done)
            order.append(event.ticket)
            ends[event.ticket] = event.generation
    assert order == tickets[2:], "both passages have begun and wait; the others were spoken in the row"
    assert {speech.ticket for speech in engine._parked} == set(tickets[:2])
    for text, rest in zip(reversed(texts), (SECOND[50:], SHORT[50:]), strict=True):
        text.extend(rest)
        text.close()
        for _ in range(400):
            ends |= {event.ticket: event.generation for event in engine.step()}
    assert not engine.busy
    for ticket, (codes, expected) in zip(tickets, alone, strict=True):
        assert same((ends[ticket].codes, ends[ticket]), (codes, expected))


def test_a_speech_that_waits_costs_nothing(monkeypatch) -> None:
    look_at(monkeypatch)
    lm = passage_speaker()
    engine = engine_of(lm, rows=2)
    steps: list[None] = []
    step = Decoder.step
    monkeypatch.setattr(Decoder, "step", lambda *given: steps.append(None) or step(*given))
    texts = [passage(lm, None), passage(lm, None)]
    tickets = [engine.submit(Request(text)) for text in texts]
    assert engine.waits, "no text has arrived"
    assert engine.step() == []
    for text in texts:
        text.extend(TEXT[:70])
    assert not engine.waits
    while not engine.waits:
        engine.step()
    spoken = len(steps)
    assert spoken >= PER_TOKEN
    for _ in range(3):
        assert engine.step() == []
    assert len(steps) == spoken
    assert engine.busy

    engine.cancel(tickets[0])
    assert engine.waits
    texts[1].close()
    assert not engine.waits
    (done,) = [event for _ in range(200) for event in engine.step()]
    assert isinstance(done, Done)
    assert done.ticket == tickets[1]
    assert not engine.busy
    assert not engine.waits
    (expected,) = speak(engine_of(lm), [Request(passage(lm, TEXT[:70]))])
    assert torch.equal(done.generation.codes, expected[0])


def broken_pieces() -> Iterator[str]:
    yield from (SHORT[:40], SHORT[40:60])
    raise OSError("the line is dead")


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        (["", " "[:0]], RequestError, "request 1 'bad' cannot be spoken: the text is empty"),
        ([SHORT[:40], " and then some", " 7 more words, of which one is a number."], RequestError, "bad.*'7'.*knows"),
        (broken_pieces(), OSError, "the line is dead"),
    ],
    ids=["empty", "unknown symbols", "a broken iterator"],
)
def test_a_text_that_cannot_be_read_ends_alone(monkeypatch, text, error, match) -> None:
    look_at(monkeypatch)
    lm = passage_speaker()
    (expected,) = speak(engine_of(lm), [Request(passage(lm, SHORT), seed=3)])
    engine = engine_of(lm, rows=2)
    good = engine.submit(Request(passage(lm, SHORT), seed=3))
    bad = engine.submit(Request(passage(lm, iter(text)), name="bad"))
    events = []
    with pytest.raises(error, match=match) as raised:
        events += chain.from_iterable(iter(engine.step, "never"))
    assert error is OSError or (raised.value.ticket == bad and raised.value.__cause__ is not None)
    assert len(engine._speaking) == 1, "its row is free"
    after = engine.submit(Request(passage(lm, SHORT), seed=3))
    while engine.busy:
        events += engine.step()
    assert [event.ticket for event in events] == [good, after]
    assert all(torch.equal(event.generation.codes, expected[0]) for event in events)


def test_an_empty_passage_that_is_closed_is_an_error() -> None:
    lm = passage_speaker()
    engine = engine_of(lm)
    text = passage(lm, None)
    engine.submit(Request(text))
    text.close()
    assert engine.step() == []
    with pytest.raises(ValueError, match="the text is empty: give at least one word"):
        engine.step()
    assert not engine.busy


def test_a_passage_is_spoken_once() -> None:
    lm = passage_speaker()
    text = passage(lm)
    engine_of(lm).submit(Request(text))
    with pytest.raises(ValueError, match="make a new passage"):
        engine_of(lm).submit(Request(text))


def bytes_of(engine: Engine) -> int:
    """Bytes of the tensors of an engine's histories and speeches, and 8 for every entry of a list."""
    total = 0
    for history in (engine._history, engine._mover.looks):
        total += sum(step.nbytes + 8 for step in history._steps)
    for speech in engine._speeches:
        if speech is not None:
            own, text = speech.follower, speech.follower.passage
            entries = (own._reached, own._looks, text._ids, text._words, text._starts, text._units._words)
            total += speech.kept.nbytes + 8 * sum(map(len, entries))
    return total


def test_a_stream_keeps_no_more_the_longer_it_lasts(monkeypatch) -> None:
    look_at(monkeypatch, lambda speech, columns: columns // 2)
    monkeypatch.setattr("wand.decoding.engine.FORGET_AFTER", 16)
    lm = passage_speaker()
    engine = engine_of(lm)
    read = 0

    def words() -> Iterator[str]:
        nonlocal read
        for number in range(10**6):
            word = TEXTS[number % len(TEXTS)] + " "
            read += len(word)
            yield word

    engine.submit(Request(passage(lm, words()), parts=(1, 4)))
    sizes, caches, ahead = [], set(), []
    for column in range(600):
        engine.step()
        sizes.append(bytes_of(engine))
        caches.add(engine._state.cache.nbytes)
        ahead.append(read - column)
    assert engine._speeches[0].base > 500
    assert max(sizes[300:]) <= 1.1 * max(sizes[100:300])
    assert len(caches) == 1
    assert max(ahead) <= 2 * RULES.size, "the text is read when it is needed"


def test_a_stop_token_waits_for_the_end_of_the_text(monkeypatch) -> None:
    """Also if the model has several, and a bound of its own for other requests."""
    lm = passage_speaker(16, 5, 1)
    lm.stop_ids = (16, 5)
    look_at(monkeypatch)
    ((_, end),) = speak(engine_of(lm), [Request(passage(lm, SHORT), seed=3)])
    assert end.reason == StopReason.STOP_TOKEN
    assert not torch.isin(end.columns[:-8, 0], torch.tensor(lm.stop_ids)).any()
    assert len(end.columns) >= PER_TOKEN * (len(SHORT) - RULES.near - 2)


def test_other_requests_keep_their_least_length() -> None:
    lm = passage_speaker(16, 1)
    least = 0
    lm.speech_bounds = lambda batch: (torch.full((len(batch),), least), torch.full((len(batch),), 25))
    requests = [Request(lm.conditioner("hello", VOICE), seed=seed) for seed in range(4)]

    def lengths() -> list[int]:
        return [codes.shape[1] for codes, _ in speak(engine_of(lm, rows=3), requests)]

    assert min(lengths()) < 9
    least = 9
    assert min(lengths()) >= 9


def test_what_speaks_no_passages_says_so() -> None:
    lm = passage_speaker()
    with pytest.raises(ValueError, match="cannot speak passages, because it has full attention: split the text"):
        PassageRules.of(lm, AttentionWindow())
    lm.max_speech_tokens = 100
    with pytest.raises(ValueError, match="it has learned positions for 100 speech columns, and passages need"):
        PassageRules.of(lm, WINDOW)
    lm.max_speech_tokens = None
    lm.alignment_heads = (AlignmentHead(9, 0),)
    with pytest.raises(ValueError, match=r"alignment_heads: \[9, 0\] is not the layer and the head of a model with"):
        engine_of(lm)
    lm.alignment_heads = ()
    with pytest.raises(ValueError, match=r"its alignment heads are not known \(`wand align"):
        engine_of(lm)
    with pytest.raises(ValueError, match="this engine speaks no passages"):
        engine_of(lm, rules=None).submit(Request(passage(passage_speaker())))


def test_a_passage_that_nobody_closes_is_refused() -> None:
    lm = passage_speaker()
    passage = Passage(lm.conditioner, VOICE)
    passage.extend(TEXT)
    with pytest.raises(ValueError, match="a passage waits for text that nobody adds: close it first"):
        generate_all(Decoder(lm, AttentionWindow(4)), [Request(passage)], rules=StopRules(max_columns=40), rows=1)
