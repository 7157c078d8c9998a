"""The definition of the window, by brute force: transformers and a mask over all columns, without a cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM


class Reference:
    """A model of transformers.

    Args:
        folder: Its files.
        window: W in columns; None is full attention.
    """

    def __init__(self, folder: Path, window: int | None) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.window = window

    @torch.no_grad()
    def logits(self, prompt: Sequence[int], speech: Sequence[int]) -> Tensor:
        """The logits ``[T, V]`` from which each column of a speech is drawn."""
        ids = torch.tensor([*prompt, *speech[:-1]])
        query, key = torch.arange(len(ids))[:, None], torch.arange(len(ids))
        seen = key <= query
        if self.window is not None:
            seen &= (key < len(prompt)) | (key > query - self.window)
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        logits: Tensor = self.model(input_ids=ids[None], attention_mask=mask[None, None]).logits
        return logits[0, len(prompt) - 1 :]

    def first_error(self, prompt: Sequence[int], speech: Sequence[int]) -> int | None:
        """The first column of a greedy speech that is not the most likely one; None if all are."""
        wrong = (self.logits(prompt, speech).argmax(-1) != torch.tensor(list(speech))).nonzero()
        return int(wrong[0]) if len(wrong) else None
