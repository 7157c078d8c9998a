"""The state of B rows that speak at the same time. A step is `draw` (sample a column), then `feed` (run the model).

Shapes: B rows, K codebooks, D width of the hidden states that the head takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wand.decoding.decoder import Decoder
from wand.decoding.graph import capture
from wand.decoding.sampler import Sampler
from wand.decoding.watch import AlignmentWatch
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.model.batch import ConditionedBatch
from wand.model.sampling import MASKED, Sampling

# Number of frames of a row that has not stopped: larger than any length.
SPEAKING = torch.iinfo(torch.int32).max
# Number of frames of a row whose logits were not finite. Its columns are filler from then on.
BROKEN = torch.iinfo(torch.int32).min


def cannot_be_spoken(name: str, column: int) -> str:
    """The error of a row whose logits were not finite at a column, or at one before it."""
    return (
        f"{name} cannot be spoken: its logits are not finite (column {column} or before): check the weights and the "
        f"sampling settings, or compute in bfloat16 or float32"
    )


class Rows:
    """The state of a decode, on the device of the model.

    A step changes tensors only in place. On a GPU, steps of the lean body are replayed as CUDA graphs.

    Args:
        decoder: The model and its window.
        batch: Conditioning of the first rows.
        seeds: Random seed of each row of the batch.
        sampling: Sampling settings; those of the backbone by default.
        rows: B, if larger than the batch. The additional rows are free. Needs a window.
        prefix_length: P, if larger than that of the batch.
        follows: Whether to watch the alignment heads of the model, and to hold back the stop token (`hold`).

    Attributes:
        most: The most speech columns of each row of the first batch; None if the model has no rule for that.
        watch: Where the alignment heads look; None if they are not watched.
    """

    @torch.inference_mode()
    def __init__(
        self,
        decoder: Decoder,
        batch: ConditionedBatch,
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        rows: int | None = None,
        prefix_length: int | None = None,
        follows: bool = False,
    ) -> None:
        backbone = decoder.backbone
        self.decoder = decoder
        self.layout = backbone.layout
        self.device = backbone.device
        self._stop_ids = torch.tensor(backbone.stop_ids, device=self.device)
        allowed = self.layout.allowed_rows(backbone.speech_vocab_size)
        self._not_allowed = None if allowed is None else ~allowed.to(self.device)
        batch = batch.to(self.device)
        bounds = backbone.speech_bounds(batch)
        self._least = None if bounds is None else bounds[0].to(self.device)
        self.most = None if bounds is None else bounds[1].tolist()
        self.hidden, self.cache = decoder.prefill(batch)
        free = 0 if rows is None else rows - len(batch)
        if free:
            self._make_room(len(batch), free, prefix_length or batch.prefix_length)
        count = len(self.hidden)
        self.watch: AlignmentWatch | None = None
        self._held: Tensor | None = None
        if follows:
            assert isinstance(self.cache, PrefixWindowCache), "the alignment heads are watched under a window"
            self.watch = AlignmentWatch(backbone.alignment_heads, count, self.cache.prefix_length, self.device)
            self._held = torch.zeros(count, dtype=torch.bool, device=self.device)
        self._sampler = Sampler(
            sampling or backbone.sampling, [*seeds, *[0] * free], backbone.forbidden_tokens(), self.device
        )
        self._sampler.prepare(backbone.num_codebooks, backbone.speech_vocab_size)
        self.columns = torch.zeros(count, backbone.num_codebooks, dtype=torch.long, device=self.device)
        self.steps = torch.zeros(count, dtype=torch.long, device=self.device)
        self.frames = torch.full_like(self.steps, SPEAKING)
        # None without graphs: storing bound methods here would create a reference circle that keeps the cache alive.
        self._graphs = capture(self._draw, self._feed, self.state) if decoder.can_be_captured else None

    def _make_room(self, taken: int, free: int, prefix_length: int) -> None:
        """Move the prefilled rows into the first rows of a larger cache."""
        assert isinstance(self.cache, PrefixWindowCache), "under full attention all rows must start together"
        prefilled = self.cache
        self.cache = prefilled.empty(taken + free, prefix_length)
        self.cache.restart(torch.arange(taken, device=self.device), prefilled)
        # Free rows stay at one position and see only themselves.
        self.cache.positions[taken:] = self.cache.starts[taken:] = self.cache.prefix_length
        self.hidden = torch.cat([self.hidden, self.hidden.new_zeros(free, self.hidden.shape[1])])
        if self._least is not None:
            self._least = torch.cat([self._least, self._least.new_zeros(free)])

    @property
    def captured(self) -> bool:
        """Whether steps are replayed as CUDA graphs. The number of rows is then fixed."""
        return self._graphs is not None

    @torch.inference_mode()
    def draw(self) -> Tensor:
        """Sample the next column of every row. Returns ``[B, K]``."""
        self._draw() if self._graphs is None else self._graphs[0]()
        return self.columns.clone()

    @torch.inference_mode()
    def feed(self) -> None:
        """Run the model on the column that was sampled."""
        self._feed() if self._graphs is None else self._graphs[1]()

    def _draw(self) -> None:
        steps = self.steps
        tokens = self.decoder.backbone.speech_head().draw(self.hidden, self._pick)
        # Do not use torch.isin: with many ids it sorts and waits for the host.
        stopping = (tokens[:, :1] == self._stop_ids).any(-1) & (self.frames == SPEAKING)
        frames = torch.where(stopping, steps, self.frames)
        # What a row says after its end does not count.
        fine = self._sampler.finite | (steps >= self.frames + self.layout.flush_columns)
        self.frames.copy_(torch.where(fine, frames, BROKEN))
        self.columns.copy_(self.layout.settle(tokens, steps, self.frames))
        self._sampler.remember(self.columns)
        steps += 1

    def _pick(self, logits: Tensor, first: int = 0) -> Tensor:
        """Sample tokens of the codebooks from `first` on, from those that each row may speak at its step."""
        logits = logits.float()  # `MASKED` is out of the range of float16
        if self._not_allowed is not None:
            logits = logits.masked_fill(self._not_allowed[self.steps % len(self._not_allowed)][:, None], MASKED)
        if self._least is not None and first == 0:
            logits = logits.clone()
            stop = logits[:, 0, self.layout.stop_id]
            stop.copy_(torch.where(self.steps < self._least, MASKED, stop))
        if self._held is not None and first == 0:
            logits = logits.clone()
            logits[:, 0, self._stop_ids] = logits[:, 0, self._stop_ids].masked_fill(self._held[:, None], MASKED)
        return self._sampler(logits, first)

    def _feed(self) -> None:
        self.hidden.copy_(self.decoder.step(self.cache, self.columns, self.watch))

    def state(self) -> list[Tensor]:
        """The tensors that a step changes, except keys and values: a repeated step writes the same ones."""
        return [self.hidden, self.columns, self.steps, self.frames, self.cache.positions, *self._sampler.state()]

    @torch.inference_mode()
    def restart(self, rows: Sequence[int], batch: ConditionedBatch, seeds: Sequence[int]) -> list[int] | None:
        """Start new speeches in free rows. Other rows do not change.

        Args:
            rows: Indices of free rows, one for each row of the batch.
            batch: Conditioning. Its prefix must not be longer than that of the cache.
            seeds: Random seed of each row of the batch.

        Returns:
            The most speech columns of each row of the batch; None if the model has no rule for that.
        """
        assert isinstance(self.cache, PrefixWindowCache), "under full attention all rows must start together"
        batch, places = batch.to(self.device), torch.tensor(rows, device=self.device)
        self.hidden[places], prefilled = self.decoder.prefill(batch)
        assert isinstance(prefilled, PrefixWindowCache)
        self.cache.restart(places, prefilled)
        self._sampler.restart(places, seeds)
        self.steps[places], self.frames[places] = 0, SPEAKING
        bounds = self.decoder.backbone.speech_bounds(batch)
        if bounds is None or self._least is None:
            return None
        self._least[places] = bounds[0].to(self.device)
        most: list[int] = bounds[1].tolist()
        return most

    @torch.inference_mode()
    def exchange(self, rows: Sequence[int], batch: ConditionedBatch) -> None:
        """Exchange the prefixes of rows in the middle of their speeches. Everything else of the rows stays.

        Args:
            rows: Indices of rows, one for each row of the batch.
            batch: The new conditioning, and the newest columns of the speeches; see `Decoder.go_on`.
        """
        assert isinstance(self.cache, PrefixWindowCache)
        places = torch.tensor(rows, device=self.device)
        self.hidden[places], begun = self.decoder.go_on(batch.to(self.device))
        assert isinstance(begun, PrefixWindowCache)
        self.cache.restart(places, begun)

    @torch.inference_mode()
    def set_text(self, row: int, length: int, begin: int, end: int) -> None:
        """Tell the watch where the text of a row is.

        Args:
            row: The row.
            length: Number of its real prefix columns.
            begin: First column of the text, counted from the first real column.
            end: The column after the last one of the text.
        """
        assert self.watch is not None
        first = self.cache.prefix_length - length
        self.watch.set_text(row, first + begin, first + end)

    def first_text_column(self, row: int) -> int:
        """The prefix column of the first text token of a row."""
        assert self.watch is not None
        return self.watch.first[row]

    @torch.inference_mode()
    def hold(self, row: int, held: bool) -> None:
        """Hold back the stop tokens of a row, or no longer."""
        assert self._held is not None
        self._held[row] = held

    def has_stopped(self, row: int) -> bool:
        """Whether a row has drawn a stop token, or logits that are not finite. Waits for the device."""
        return int(self.frames[row]) != SPEAKING

    @torch.inference_mode()
    def set_steps(self, row: int, steps: int) -> None:
        """Let a row go on from an earlier column. Its cache must be exchanged too."""
        self.steps[row], self.frames[row] = steps, SPEAKING

    @torch.inference_mode()
    def save(self, row: int) -> list[Tensor]:
        """The state of a speech that is to be parked, for `load` into any row; without its cache."""
        least = self.steps.new_zeros(()) if self._least is None else self._least[row].clone()
        return [self.steps[row].clone(), self.frames[row].clone(), least, *self._sampler.save(row)]

    @torch.inference_mode()
    def load(self, row: int, saved: Sequence[Tensor]) -> None:
        """Let a row go on with a parked speech. Its cache must be exchanged too."""
        self.steps[row], self.frames[row] = saved[0], saved[1]
        if self._least is not None:
            self._least[row] = saved[2]
        self._sampler.load(row, saved[3:])

    @torch.inference_mode()
    def park(self, rows: Sequence[int]) -> None:
        """Hold ended rows at one position, so that they do not run out of learned positions."""
        if rows and isinstance(self.cache, PrefixWindowCache):
            self.cache.positions[rows] = self.cache.prefix_length
            self.steps[rows] = 0

    @torch.inference_mode()
    def clear(self, row: int) -> None:
        """Remove all numbers of a row. NaN in a hidden slot would reach its next speech, because 0 * NaN is NaN."""
        if isinstance(self.cache, PrefixWindowCache):
            self.cache.clear(row)
        self.hidden[row] = 0
        self._sampler.finite[row] = True

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Keep only the given rows."""
        assert not self.captured
        kept = torch.tensor(rows, device=self.device)
        self.cache.keep(kept)
        self._sampler.keep(kept)
        self.hidden, self.columns = self.hidden[kept], self.columns[kept]
        self.steps, self.frames = self.steps[kept], self.frames[kept]
        self._least = None if self._least is None else self._least[kept]
        self._held = None if self._held is None else self._held[kept]
        if self.watch is not None:
            self.watch.keep(kept)
