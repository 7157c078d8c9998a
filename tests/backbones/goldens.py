"""Numbers made by running the upstream model classes with tiny random weights; see ``tests/goldens``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from wand.attention import AttentionWindow
from wand.decoding.decoder import Decoder
from wand.model.backbone import Backbone
from wand.model.batch import Conditioning, make_batch

FOLDER = Path(__file__).parents[1] / "goldens"


@dataclass(frozen=True)
class Golden:
    """One upstream model: its configuration, weights, what went in and what came out."""

    config: dict[str, Any]
    state: dict[str, Tensor]
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]

    @classmethod
    def read(cls, name: str) -> Golden:
        folder = FOLDER / name
        parts = (load_file(folder / f"{part}.safetensors") for part in ("state_dict", "inputs", "expected"))
        return cls(json.loads((folder / "config.json").read_text()), *parts)


def close(own: Tensor, expected: Tensor, tolerance: float = 5e-5) -> None:
    torch.testing.assert_close(own, expected, atol=tolerance, rtol=0)


@torch.no_grad()
def greedy(
    backbone: Backbone,
    conditioning: Conditioning,
    steps: int,
    window: AttentionWindow | None = None,
    forbidden: dict[int, int] | None = None,
) -> tuple[list[int], Tensor]:
    """Row ids spoken greedily and the raw logits of every step, the last one stopping (or at the bound).

    Args:
        backbone: The model.
        conditioning: Of one utterance.
        steps: Ids at most.
        window: Full attention by default.
        forbidden: Row id and the step before which it may not be chosen.
    """
    decoder = Decoder(backbone, window or AttentionWindow())
    head = backbone.speech_head()
    hidden, cache = decoder.prefill(make_batch(backbone.conditioner, backbone.layout, [conditioning]))
    logits = head.logits(hidden)
    ids: list[int] = []
    seen = [logits[0, 0]]
    while True:
        choice = logits[0, 0].clone()
        for row, step in (forbidden or {}).items():
            if len(ids) < step:
                choice[row] = -torch.inf
        token = int(choice.argmax())
        if token in backbone.stop_ids or len(ids) == steps:
            return ids, torch.stack(seen)
        ids.append(token)
        logits = head.logits(decoder.step(cache, torch.tensor([[token]])))
        seen.append(logits[0, 0])
