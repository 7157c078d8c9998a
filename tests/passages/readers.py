"""Speeches of known places in their texts: heads of random weights look where a test says."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch

from tests.conftest import TINY, sharpened
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.decoding.moves import Mover
from wand.decoding.rows import Rows
from wand.decoding.speeches import Speech
from wand.model.alignment import AlignmentHead
from wand.passages.passage import Passage
from wand.passages.rules import PassageRules

VOICE = Reference(torch.arange(12).view(3, 4))
# Of a small voice: two columns a token, under a window of 4 columns.
RULES = PassageRules(
    first=6, reach=12, ahead=6, behind=12, near=2, skip=3, reread=8, late=2, patience=12, stuck=40, ending=12
)  # fmt: skip
PER_TOKEN = 2
MOVE, LOOK = Mover.move, Mover.look
TEXT = "one day a small bird sat on the wall of a garden. it sang so well that all who came by stood still."
Place = Callable[[Speech, int], int]
"""The token that the head looks at after a number of columns of a speech."""


def pieces(text: str, seed: int) -> Iterator[str]:
    """A text cut at random."""
    chosen = random.Random(seed)
    while text:
        cut = chosen.randint(1, 12)
        yield text[:cut]
        text = text[cut:]


def passage_speaker(*allowed: int) -> EncodecLM:
    """A tiny model with an alignment head, which says only some codes in its first codebook if they are given."""
    from tests.decoding.test_generate import Limited

    torch.manual_seed(0)
    kind = type("Limited", (Limited,), {"allowed": allowed}) if allowed else EncodecLM
    lm = sharpened(kind(architecture=TINY)).eval()
    lm.alignment_heads = (AlignmentHead(0, 0),)
    return lm


def passage(lm: EncodecLM, text: str | Sequence[str] | None = TEXT) -> Passage:
    return Passage(lm.conditioner, VOICE, text)


def steady(speech: Speech, columns: int) -> int:
    return columns // PER_TOKEN


def look_at(monkeypatch: pytest.MonkeyPatch, place: Place = steady) -> None:
    """Let the alignment heads look at given places; where a window ends, at its last token."""
    current: list[Speech | None] = []

    def moved(self: Mover, rows: Rows, speeches: list[Speech | None], *others) -> dict[int, Exception]:
        errors = MOVE(self, rows, speeches, *others)
        current[:] = speeches
        return errors

    @torch.inference_mode()
    def looked(self: Mover, rows: Rows) -> None:
        assert rows.watch is not None
        for row, speech in enumerate(current):
            if speech is not None and speech.follower is not None and not speech.parked:
                window = speech.follower.window
                token = min(max(place(speech, int(rows.steps[row])), window.begin), window.end - 1)
                rows.watch.seen[row] = rows.watch.first[row] + token - window.begin
        LOOK(self, rows)

    monkeypatch.setattr(Mover, "move", moved)
    monkeypatch.setattr(Mover, "look", looked)
