"""Moves of the text windows of passages: what they compute again, also after faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.decoding.test_generate import speaker
from tests.passages.engines import SHORT, WINDOW, engine_of, speak
from tests.passages.readers import PER_TOKEN, RULES, TEXT, VOICE, look_at, passage, passage_speaker, steady
from wand.attention import AttentionWindow, LayerWindows
from wand.backbones.encodec_lm import EncodecLM
from wand.decoding.decoder import Decoder
from wand.decoding.engine import Engine
from wand.decoding.moves import Mover
from wand.decoding.requests import Request
from wand.decoding.rows import Rows
from wand.decoding.speeches import Speech
from wand.decoding.stopping import StopReason, StopRules
from wand.kv_cache.prefixes import PrefixMemory
from wand.model.batch import make_batch
from wand.model.columns import FlattenedLayout
from wand.passages.follower import Trouble
from wand.passages.passage import Passage
from wand.passages.rules import FOLLOW_EVERY


def watch_moves(monkeypatch: pytest.MonkeyPatch, lm: EncodecLM, window=WINDOW) -> list[tuple[Speech, int, int, Tensor]]:
    """Compare the logits after every move with the forward pass of training. Returns where the moves were."""
    moved: list[tuple[Speech, int, int, Tensor]] = []
    rebuilt, exchange = Mover._rebuilt, Mover._exchange

    def noted(self, row, speech, history, text, spoken):
        made = rebuilt(self, row, speech, history, text, spoken)
        conditioning, columns, offset = made
        batch = make_batch(lm.conditioner, lm.layout, [conditioning])
        batch = replace(batch, columns=columns[None], lengths=torch.tensor([len(columns)]))
        with torch.no_grad():
            logits = lm(replace(batch, offsets=torch.tensor([offset])), window)[0, -1]
        expected[row] = logits
        first = spoken - len(columns)
        spelled = [lm.conditioner.symbols[i] for i in conditioning["ids"][conditioning["is_text"]][:-1, 0].tolist()]
        assert "".join(spelled) == TEXT[text.begin : text.end]
        assert offset == 0 or len(columns) == self.rules.reread
        if speech.follower._repaired < 0:
            assert abs(first - offset - PER_TOKEN * text.begin) <= 4, (
                "positions are counted from the beginning of the text"
            )
        moved.append((speech, first, spoken, columns))
        return made

    expected: dict[int, Tensor] = {}

    def exchanged(self, rows: Rows, speeches, history, moves):
        exchange(self, rows, speeches, history, moves)
        for row in moves:
            with torch.inference_mode():
                own = lm.speech_head().logits(rows.hidden[row : row + 1])[0]
            torch.testing.assert_close(own, expected[row], atol=1e-4, rtol=1e-4)

    monkeypatch.setattr(Mover, "_rebuilt", noted)
    monkeypatch.setattr(Mover, "_exchange", exchanged)
    return moved


@pytest.mark.parametrize("window", [WINDOW, LayerWindows((AttentionWindow(4), AttentionWindow(2)))], ids=["one", "two"])
def test_a_move_gives_the_logits_of_training(monkeypatch, window) -> None:
    look_at(monkeypatch)
    lm = passage_speaker()
    moved = watch_moves(monkeypatch, lm, window)
    memory = PrefixMemory()
    chosen = Decoder(lm, window, memory=memory)
    engine = Engine(chosen, rows=2, prefix_length=100, rules=StopRules(30), passages=RULES)
    spoken = speak(engine, [Request(passage(lm), seed=seed, parts=parts) for seed, parts in ((1, None), (2, (3, 3)))])
    assert len(moved) > 10
    assert len(memory._known) <= 2, "the texts of moves are not kept"
    whole = spoken[0][1].columns
    for speech, first, end, columns in moved:
        if speech.ticket == 0:
            assert torch.equal(columns, whole[first:end])


def once(trouble: Callable[[int], int], begin: int) -> Callable[[Speech, int], int]:
    """A reader that goes wrong at a column. After it went back, it reads on from the token before that."""
    again: dict[int, int] = {}

    def place(speech: Speech, columns: int) -> int:
        if speech.follower._repaired < 0:
            return trouble(columns) if columns >= begin else steady(speech, columns)
        first = again.setdefault(speech.ticket, columns)
        return begin // PER_TOKEN + (columns - first) // PER_TOKEN

    return place


@pytest.mark.parametrize(
    ("trouble", "begin"),
    [(lambda c: c // 2 + 9, 97), (lambda c: c // 2 - 15, 97), (lambda c: 48, 97)],
    ids=["skip", "loop", "stuck"],
)
@pytest.mark.parametrize("parts", [None, (1, 1), (5, 30)], ids=["whole", "small parts", "large parts"])
def test_a_fault_is_spoken_again(monkeypatch, trouble, begin, parts) -> None:
    lm = passage_speaker(*range(16))  # no stop token
    look_at(monkeypatch)
    (undisturbed,) = speak(engine_of(lm), [Request(passage(lm), seed=3)])
    look_at(monkeypatch, once(trouble, begin))
    moved = watch_moves(monkeypatch, lm)
    backs: list[tuple[int, int]] = []
    go_back = Speech.go_back
    monkeypatch.setattr(Speech, "go_back", lambda s, c: backs.append((c, s.base)) or go_back(s, c))
    ((codes, end),) = speak(engine_of(lm), [Request(passage(lm), seed=3, parts=parts)])
    ((back, spoken),) = backs
    assert begin - 4 <= back <= spoken <= begin + RULES.stuck + 2 * RULES.patience
    if parts is None:
        assert abs(back - begin) <= 4
    assert not end.faults
    assert end.reason == StopReason.TEXT_END
    assert " ".join(word.text for word in end.words) == TEXT
    kept = begin - 4 - lm.layout.flush_columns
    assert torch.equal(codes[:, :kept], undisturbed[0][:, :kept])
    assert not torch.equal(codes[0, kept : kept + 60], undisturbed[0][0, kept : kept + 60])
    assert (codes < 16).all()
    assert any(e == back for _, _, e, _ in moved), "the text of the fault is exchanged too"


def test_a_fault_that_comes_again_is_named(monkeypatch) -> None:
    """A skip goes on after the text that was left out; a loop without end ends the speech."""
    lm = passage_speaker(*range(16))
    look_at(monkeypatch, lambda speech, columns: columns // 2 + 9 * (columns >= 97))
    ((_, end),) = speak(engine_of(lm), [Request(passage(lm), seed=3)])
    assert {fault.trouble for fault in end.faults} == {Trouble.SKIP}
    tokens = [fault.token for fault in end.faults]
    assert tokens == sorted(set(tokens)), "each is another one: the heads cannot look beyond their window"
    assert 44 <= end.faults[0].token <= 48
    assert end.reason == StopReason.TEXT_END
    look_at(monkeypatch, lambda speech, columns: columns // 2 if columns < 97 else 28 + columns // 2 % 10)
    longer = replace(RULES, late=14, behind=24)  # so that the window holds the text that is repeated
    ((_, end),) = speak(engine_of(lm, rules=longer), [Request(passage(lm), seed=3)])
    assert [fault.trouble for fault in end.faults] == [Trouble.LOOP, Trouble.STUCK]
    assert end.reason == StopReason.LOOP
    assert len(end.columns) < 97 + 3 * RULES.stuck


def test_learned_positions_do_not_run_out(monkeypatch) -> None:
    lm = passage_speaker(*range(16))
    seen: list[int] = []
    embed = lm.embed_speech

    def watched(columns: Tensor, offset: Tensor) -> Tensor:
        seen.append(int(offset.max()) + columns.shape[1])
        return embed(columns, offset)

    monkeypatch.setattr(lm, "embed_speech", watched)
    rules = replace(RULES, positions=70)
    for place in (steady, lambda speech, columns: columns // 12):
        seen.clear()
        look_at(monkeypatch, place)
        ((_, end),) = speak(engine_of(lm, rules=rules), [Request(passage(lm, SHORT), seed=3)])
        assert max(seen) <= 70
    assert [fault.trouble for fault in end.faults] == [Trouble.STUCK]
    assert end.reason == StopReason.LOOP


def flattened() -> EncodecLM:
    """Two slots of 8 codes in one codebook."""
    lm = speaker()
    lm = type(lm)(architecture=replace(lm.shape, num_codebooks=1))
    lm.layout = FlattenedLayout(1, 16, 17, (8, 8), (0, 1))
    lm.conditioner = replace(lm.conditioner, layout=lm.layout)
    lm.alignment_heads = passage_speaker().alignment_heads
    return lm.eval()


def test_frames_of_several_columns_stay_whole(monkeypatch) -> None:
    lm = flattened()
    offsets: list[int] = []
    go_on = Decoder.go_on

    def noted(self, batch):
        offsets.append((batch.offsets + batch.columns.shape[1]).item())
        return go_on(self, batch)

    monkeypatch.setattr(Decoder, "go_on", noted)
    backs: list[int] = []
    go_back = Speech.go_back
    monkeypatch.setattr(Speech, "go_back", lambda s, c: backs.append(c) or go_back(s, c))
    voice = replace(VOICE, codes=torch.zeros(2, 4, dtype=torch.long))
    for parts in (None, (3, 3)):
        look_at(monkeypatch, once(lambda c: 47, 95))
        request = Request(Passage(lm.conditioner, voice, TEXT), seed=3, parts=parts)
        ((codes, end),) = speak(engine_of(lm), [request])
        assert ((codes >= 0) & (codes < 8)).all()
        assert end.reason in (StopReason.TEXT_END, StopReason.STOP_TOKEN)
    assert len(backs) == 2
    assert all(back % 2 == 0 for back in backs)
    # Looks are at even columns, so the speech of a window begins with a whole frame.
    assert all(offset % 2 == 0 for offset in offsets)
    assert FOLLOW_EVERY % 2 == 0
