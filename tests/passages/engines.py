"""Engines that speak passages with a small voice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.passages.readers import RULES, TEXT
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.decoding.decoder import Decoder
from wand.decoding.engine import Engine
from wand.decoding.requests import Generation, Part, Request
from wand.decoding.stopping import StopRules
from wand.passages.rules import PassageRules

WINDOW = AttentionWindow(4)
SHORT = TEXT[:70]


def engine_of(lm: EncodecLM, rows: int = 1, rules: PassageRules = RULES, **others) -> Engine:
    others = {"sampling": None, **others}
    return Engine(Decoder(lm, WINDOW), rows=rows, prefix_length=100, rules=StopRules(30), passages=rules, **others)


def speak(
    engine: Engine, requests: Sequence[Request], between: Callable[[], object] = lambda: None
) -> list[tuple[Tensor, Generation]]:
    """The codes of each request, with those of its parts, and its end."""
    tickets = [engine.submit(request) for request in requests]
    parts: dict[int, list[Tensor]] = {ticket: [] for ticket in tickets}
    ends: dict[int, Generation] = {}
    for _ in range(4000):
        between()
        for event in engine.step():
            if isinstance(event, Part):
                parts[event.ticket].append(event.codes)
            else:
                parts[event.ticket].append(event.generation.codes)
                ends[event.ticket] = event.generation
        if not engine.busy:
            return [(torch.cat(parts[ticket], dim=1), ends[ticket]) for ticket in tickets]
    raise AssertionError("the engine does not end")
