"""B rows that speak side by side, each at a place of its own; a row that has ended can begin another speech.

Shapes: B rows, K codebooks, T speech columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wand.conditioning import ConditionedBatch
from wand.decoding.cache import PrefixWindowCache
from wand.decoding.decoder import Decoder
from wand.decoding.graph import capture
from wand.decoding.sampling import MASKED, Sampler, Sampling
from wand.decoding.stopping import StopReason, StopRules

# Frames of a row that has not stopped yet: beyond any length.
SPEAKING = torch.iinfo(torch.int32).max
# A row's columns between two looks at the slower stop rules.
CHECK_EVERY = 16
# Columns that are worth letting go of.
FORGET_AFTER = 256
# Columns between two looks at what has ended, no more than the other: elsewhere a look waits for the device.
LOOK_EVERY = {"cpu": 1}
LOOK_EVERY_ELSEWHERE = 8


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """What one row spoke.

    Args:
        codes: ``[K, F]``, complete frames.
        columns: ``[T, K]`` as they were fed back.
        reason: Why it ended.
    """

    codes: Tensor
    columns: Tensor
    reason: StopReason


@dataclass(frozen=True, slots=True)
class _Speech:
    """What one slot is speaking: its bound, and where in the history it began."""

    limit: int
    begin: int


class Slots:
    """The state of a decode: `draw` the next column of every row, `feed` it to the model, and so on.

    All that a step changes are tensors in place: on a GPU, a step of the lean decoder is replayed as CUDA graphs.

    Args:
        decoder: The model and its window.
        batch: The first speech of every slot.
        seeds: One per row.
        limits: Columns that a row speaks at most, one per row.
        rules: When to end beside that and the stop token.
        sampling: How tokens are drawn; the backbone's own way by default.
    """

    @torch.inference_mode()
    def __init__(
        self,
        decoder: Decoder,
        batch: ConditionedBatch,
        *,
        seeds: Sequence[int],
        limits: Sequence[int],
        rules: StopRules,
        sampling: Sampling | None = None,
    ) -> None:
        backbone = decoder.backbone
        self.decoder = decoder
        self.rules = rules
        self.layout = backbone.layout
        self.device = next(backbone.parameters()).device
        self._stop_ids = torch.tensor(backbone.stop_ids, device=self.device)
        allowed = self.layout.allowed_rows(backbone.speech_vocab_size)
        self._not_allowed = None if allowed is None else ~allowed.to(self.device)
        self._sampler = Sampler(sampling or backbone.sampling, seeds, backbone.forbidden_tokens(), self.device)
        batch = batch.to(self.device)
        self._hidden, self._cache = decoder.prefill(batch)
        self._sampler.prepare(backbone.num_codebooks, backbone.speech_vocab_size)
        self._columns = torch.zeros(len(batch), backbone.num_codebooks, dtype=torch.long, device=self.device)
        self._steps = torch.zeros(len(batch), dtype=torch.long, device=self.device)
        self._frames = torch.full_like(self._steps, SPEAKING)
        self._least, most = self._bounds(batch, limits)
        self._speeches: list[_Speech | None] = [_Speech(limit, 0) for limit in most]
        self._history: list[Tensor] = []
        self._looked = 0  # columns of the history at the last look
        # Without graphs the halves are called by name: kept here, bound methods would keep the cache alive in a circle.
        self._graphs = capture(self._draw, self._feed, self._state) if decoder.can_be_captured else None

    @property
    def speaking(self) -> list[int]:
        """Rows that have not ended."""
        return [row for row, speech in enumerate(self._speeches) if speech is not None]

    @property
    def free(self) -> list[int]:
        """Rows that have."""
        return [row for row, speech in enumerate(self._speeches) if speech is None]

    @property
    def newest(self) -> Tensor:
        """The column ``[B, K]`` that was drawn last."""
        return self._history[-1]

    @property
    def captured(self) -> bool:
        """Whether steps are replayed: the slots are then those of the beginning for ever."""
        return self._graphs is not None

    # -- one step ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def draw(self) -> None:
        """Draw the next column of every row."""
        self._draw() if self._graphs is None else self._graphs[0]()
        self._history.append(self._columns.clone())

    @torch.inference_mode()
    def feed(self) -> None:
        """Let the model see the column that was drawn."""
        self._feed() if self._graphs is None else self._graphs[1]()

    def _draw(self) -> None:
        steps = self._steps
        tokens = self.decoder.backbone.speech_head().draw(self._hidden, self._pick)
        # Not torch.isin, which sorts where there are many ids, and then waits for the host.
        stopping = (tokens[:, :1] == self._stop_ids).any(-1) & (self._frames == SPEAKING)
        self._frames.copy_(torch.where(stopping, steps, self._frames))
        self._columns.copy_(self.layout.settle(tokens, steps, self._frames))
        self._sampler.remember(self._columns)
        steps += 1

    def _pick(self, logits: Tensor, first: int = 0) -> Tensor:
        """Draw tokens of the codebooks from `first` on, among those that may come at each row's step."""
        if self._not_allowed is not None:
            logits = logits.masked_fill(self._not_allowed[self._steps % len(self._not_allowed)][:, None], MASKED)
        if self._least is not None and first == 0:
            logits = logits.clone()
            stop = logits[:, 0, self.layout.stop_id]
            stop.copy_(torch.where(self._steps < self._least, MASKED, stop))
        return self._sampler(logits, first)

    def _feed(self) -> None:
        self._hidden.copy_(self.decoder.step(self._cache, self._columns))

    def _state(self) -> list[Tensor]:
        """What a step changes; keys and values aside, since a step that is done again writes the same ones."""
        own = [self._hidden, self._columns, self._steps, self._frames, self._cache.positions]
        return [*own, *self._sampler.state()]

    # -- ends ----------------------------------------------------------------------------------------------------

    @property
    def may_have_ended(self) -> bool:
        """Whether it is time for a look at the rows: it waits for the device, so on a GPU not after every column."""
        spoken = len(self._history)
        at_bound = any(s is not None and spoken - s.begin >= s.limit for s in self._speeches)
        return spoken % LOOK_EVERY.get(self.device.type, LOOK_EVERY_ELSEWHERE) == 0 or at_bound

    @torch.inference_mode()
    def ended(self) -> dict[int, Generation]:
        """What rows have spoken that have come to their end since the last look; their slots are free."""
        frames = self._frames.tolist()
        broken = self._broken_rules(frames)
        found: dict[int, Generation] = {}
        for row, speech in enumerate(self._speeches):
            if speech is None:
                continue
            spoken = len(self._history) - speech.begin
            # A delayed codebook speaks on for its delay after the stop.
            end = frames[row] + self.layout.flush_columns
            if row in broken:
                found[row] = self._spoken(row, *broken[row])
            elif end < min(spoken, speech.limit):
                found[row] = self._spoken(row, end, StopReason.STOP_TOKEN)
            elif spoken >= speech.limit:
                found[row] = self._spoken(row, speech.limit, StopReason.LENGTH)
        for row in found:
            self._speeches[row] = None
        self._looked = len(self._history)
        self._park()
        self._forget()
        return found

    def _spoken(self, row: int, length: int, reason: StopReason) -> Generation:
        speech = self._speeches[row]
        assert speech is not None
        columns = [column[row] for column in self._history[speech.begin : speech.begin + length]]
        own = torch.stack(columns).cpu() if columns else torch.zeros(0, self.layout.num_codebooks, dtype=torch.long)
        return Generation(self.layout.from_columns(own), own, reason)

    def _broken_rules(self, frames: list[int]) -> dict[int, tuple[int, StopReason]]:
        """Rows that broke a rule before anything else ended them: at what length, and which rule.

        A row's turn comes every `CHECK_EVERY` columns of its own; it is judged as it was then, however late the look.
        """
        reach, now = max(self.rules.loop_columns, self.rules.silence_columns), len(self._history)
        due: dict[int, tuple[int, int]] = {}
        for row, speech in enumerate(self._speeches):
            if speech is None:
                continue
            late = (now - speech.begin) % CHECK_EVERY
            length = now - speech.begin - late
            if late < now - self._looked and length <= frames[row] and length < speech.limit:
                due[row] = length, late
        if not (due and reach):
            return {}
        newest = torch.stack(self._history[-reach - CHECK_EVERY :], dim=1).cpu()
        checked = {}
        for row, (length, late) in due.items():
            until = newest.shape[1] - late
            checked[row] = length, self.rules.check(newest[row, until - min(length, reach) : until])
        return {row: (length, reason) for row, (length, reason) in checked.items() if reason is not None}

    def _forget(self) -> None:
        """Let go of the columns before the first that a row still speaks."""
        first = min((speech.begin for speech in self._speeches if speech is not None), default=0)
        if first >= FORGET_AFTER:
            del self._history[:first]
            self._looked -= first
            self._speeches = [s if s is None else _Speech(s.limit, s.begin - first) for s in self._speeches]

    def _park(self) -> None:
        """Rows that have ended step in place, so that none runs out of learned positions."""
        if isinstance(self._cache, PrefixWindowCache) and (free := self.free):
            self._cache.positions[free] = self._cache.prefix_length
            self._steps[free] = 0

    # -- beginnings ----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def admit(self, rows: Sequence[int], batch: ConditionedBatch, seeds: Sequence[int], limits: Sequence[int]) -> None:
        """Let free slots begin other speeches; the others go on undisturbed.

        Args:
            rows: Free slots, one per row of the batch.
            batch: Conditioning; its prefix is no longer than that of the first one.
            seeds: One per row.
            limits: One per row.
        """
        assert isinstance(self._cache, PrefixWindowCache), "rows under full attention are in step"
        assert not set(rows) & set(self.speaking)
        batch, places = batch.to(self.device), torch.tensor(rows, device=self.device)
        self._hidden[places], prefilled = self.decoder.prefill(batch)
        assert isinstance(prefilled, PrefixWindowCache)
        self._cache.restart(places, prefilled)
        self._sampler.restart(places, seeds)
        self._steps[places], self._frames[places] = 0, SPEAKING
        least, most = self._bounds(batch, limits)
        if least is not None and self._least is not None:
            self._least[places] = least
        for row, limit in zip(rows, most, strict=True):
            self._speeches[row] = _Speech(limit, len(self._history))

    @torch.inference_mode()
    def shrink(self) -> None:
        """Give up the slots that are free; the others go on undisturbed."""
        assert not self.captured
        rows = torch.tensor(self.speaking, device=self.device)
        self._cache.keep(rows)
        self._sampler.keep(rows)
        self._hidden, self._columns = self._hidden[rows], self._columns[rows]
        self._steps, self._frames = self._steps[rows], self._frames[rows]
        self._least = None if self._least is None else self._least[rows]
        self._history = [column[rows] for column in self._history]
        self._speeches = [speech for speech in self._speeches if speech is not None]

    def _bounds(self, batch: ConditionedBatch, limits: Sequence[int]) -> tuple[Tensor | None, list[int]]:
        """Least columns ``[B]`` before the stop, and most of every row."""
        backbone = self.decoder.backbone
        most = [min(limit, backbone.max_speech_tokens or limit) for limit in limits]
        bounds = backbone.speech_bounds(batch)
        if bounds is None:
            return None, most
        return bounds[0], [min(limit, own) for limit, own in zip(most, bounds[1].tolist(), strict=True)]
