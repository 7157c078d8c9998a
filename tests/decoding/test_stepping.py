"""Column by column through the ring equals one forward under the mask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from wand.attention import AttentionContext, AttentionWindow
from wand.kv_cache.full import FullCache
from wand.kv_cache.prefix_window import PrefixWindowCache

PREFIX, WINDOW, STEPS = 6, 5, 42


class Episode:
    """One row's prefix and speech as embeddings, and what a full forward makes of its speech."""

    def __init__(self, body: PreTrainedModel, start: int, window: AttentionWindow) -> None:
        self.start = start
        self.embeds = torch.randn(1, PREFIX + STEPS, body.config.hidden_size)
        starts = torch.tensor([start])
        context = AttentionContext(window, PREFIX, starts)
        positions = (torch.arange(PREFIX + STEPS) - start).clamp(min=0)[None]
        self.expected = body(
            inputs_embeds=self.embeds, position_ids=positions, use_cache=False, attention_context=context
        ).last_hidden_state[0]

    @property
    def prefix(self) -> Tensor:
        return self.embeds[:, :PREFIX]


def prefill(body: PreTrainedModel, episodes: list[Episode]) -> PrefixWindowCache:
    starts = torch.tensor([episode.start for episode in episodes])
    cache = PrefixWindowCache(body.config, prefix_length=PREFIX, window=WINDOW, batch_size=len(episodes), starts=starts)
    fill(body, cache, episodes, starts)
    return cache


def fill(body: PreTrainedModel, cache: PrefixWindowCache | FullCache, rows: list[Episode], starts: Tensor) -> None:
    body(
        inputs_embeds=torch.cat([episode.prefix for episode in rows]),
        position_ids=(torch.arange(PREFIX) - starts[:, None]).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        attention_context=AttentionContext(AttentionWindow(), PREFIX, starts),
    )


def step(body: PreTrainedModel, cache: PrefixWindowCache | FullCache, rows: list[Episode], starts: Tensor) -> Tensor:
    """Feed every row the column it is at; hidden states ``[B, D]``."""
    positions = cache.positions.expand(len(rows)).clone()
    output = body(
        inputs_embeds=torch.stack([row.embeds[0, p] for row, p in zip(rows, positions.tolist(), strict=True)])[:, None],
        position_ids=(positions - starts)[:, None],
        past_key_values=cache,
        use_cache=True,
        attention_context=cache.step_context(),
    )
    return output.last_hidden_state[:, 0]


def check(rows: list[Episode], columns: list[int], hidden: Tensor) -> None:
    expected = torch.stack([row.expected[column] for row, column in zip(rows, columns, strict=True)])
    torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_ring_with_rows_out_of_step(body):
    rows = [Episode(body, start, AttentionWindow(WINDOW)) for start in (0, 4, 2)]
    cache = prefill(body, rows)
    for t in range(STEPS):
        if t == 17:
            rows[1] = Episode(body, 1, AttentionWindow(WINDOW))
            cache.restart(torch.tensor([1]), prefill(body, [rows[1]]))
        columns = cache.positions.tolist()
        assert columns == [PREFIX + t, PREFIX + t - 17 if t >= 17 else PREFIX + t, PREFIX + t]
        check(rows, columns, step(body, cache, rows, cache.starts))
    assert cache.nbytes == prefill(body, rows).nbytes


@torch.no_grad()
def test_full_cache(body):
    starts = torch.tensor([0, 4, 2])
    rows = [Episode(body, start, AttentionWindow()) for start in starts.tolist()]
    cache = FullCache(PREFIX, starts)
    fill(body, cache, rows, starts)
    for t in range(STEPS):
        check(rows, [PREFIX + t] * 3, step(body, cache, rows, starts))


@torch.no_grad()
def test_the_window_matters(body):
    """Else the tests above would compare two ways of full attention."""
    full = Episode(body, 0, AttentionWindow())
    context = AttentionContext(AttentionWindow(WINDOW), PREFIX)
    windowed = body(inputs_embeds=full.embeds, use_cache=False, attention_context=context).last_hidden_state[0]
    torch.testing.assert_close(windowed[: PREFIX + WINDOW], full.expected[: PREFIX + WINDOW], atol=1e-4, rtol=1e-4)
    assert (windowed[-1] - full.expected[-1]).abs().max() > 0.1


def test_steps_refuse_a_missing_context(body):
    cache = PrefixWindowCache(body.config, prefix_length=PREFIX, window=WINDOW)
    with pytest.raises(ValueError, match="attention_context"):
        body(
            inputs_embeds=torch.randn(1, PREFIX, body.config.hidden_size),
            past_key_values=cache,
            use_cache=True,
        )
