"""The engine speaks many requests at the same time, one per row. A row that has ended starts the next request.

`wand.decoding.generate` and servers are loops over `submit` and `step`.

Shapes: B rows, K codebooks, F frames, T speech columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wand.checks import check_whole_number
from wand.decoding.decoder import Decoder
from wand.decoding.rows import BROKEN, Rows, cannot_be_spoken
from wand.decoding.stopping import StopReason, StopRules
from wand.model.batch import ConditionedBatch, Conditioning, make_batch
from wand.model.sampling import Sampling

# Columns of a row between two checks for loops and silence.
CHECK_EVERY = 16
# Drop old columns of the history once there are at least this many.
FORGET_AFTER = 256
# How often to check for finished rows, in columns. On a GPU every check is a device sync, so check less often; must not
# exceed CHECK_EVERY.
LOOK_EVERY = {"cpu": 1}
LOOK_EVERY_ELSEWHERE = 8


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A request for one speech.

    Args:
        conditioning: The conditioning of one utterance, from the adapter's conditioner.
        seed: Random seed. The speech depends on this seed and not on other requests.
        max_columns: Maximum number of speech columns; that of the engine's rules by default.
        parts: Frames of the first part and of every other part of a stream; None returns the speech as a whole.
        name: Names the request in messages, such as its text.
    """

    conditioning: Conditioning
    seed: int = 0
    max_columns: int | None = None
    parts: tuple[int, int] | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """A finished speech.

    Args:
        codes: ``[K, F]``, complete frames.
        columns: ``[T, K]``, the columns that were fed back to the model.
        reason: Why the speech ended.
    """

    codes: Tensor
    columns: Tensor
    reason: StopReason


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The newest frames of a streamed speech.

    Args:
        ticket: Ticket of the request.
        codes: ``[K, n]``, complete frames.
    """

    ticket: int
    codes: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """The end of a speech.

    Args:
        ticket: Ticket of the request.
        generation: The whole speech.
    """

    ticket: int
    generation: Generation


@dataclass(slots=True)
class _Speech:
    """The speech that a row is speaking."""

    ticket: int
    limit: int
    """Maximum number of columns."""
    begin: int
    """Index of its first column in the history."""
    parts: tuple[int, int] | None
    name: str
    given: int = 0
    """Frames that were returned as parts."""

    @property
    def wanted(self) -> int | None:
        """Number of frames at which the next part is due."""
        return None if self.parts is None else self.given + self.parts[1 if self.given else 0]


class Engine:
    """Speaks requests in a fixed number of rows. An engine starts empty.

    Under a window, a free row starts the next request while the other rows speak. Under full attention all rows start
    together, so requests are spoken in groups.

    Args:
        decoder: Decoder of a model in eval mode.
        rows: B, the number of requests that are spoken at the same time.
        prefix_length: P, the maximum number of prefix columns of a request.
        rules: When to end a speech that has no stop token.
        sampling: Sampling settings; those of the backbone by default.

    Raises:
        ValueError: If `rows` is not positive.
    """

    def __init__(
        self, decoder: Decoder, *, rows: int, prefix_length: int, rules: StopRules, sampling: Sampling | None = None
    ) -> None:
        check_whole_number("rows", rows, least=1, hint="the engine needs at least one row")
        self.decoder = decoder
        self.rows = rows
        self.prefix_length = prefix_length
        self.rules = rules
        self.sampling = sampling
        self._layout = decoder.backbone.layout
        self._queue: deque[tuple[int, Request]] = deque()
        self._tickets = 0
        self._state: Rows | None = None
        self._speeches: list[_Speech | None] = []
        self._history: list[Tensor] = []
        self._errors: deque[str] = deque()
        self._looked = 0  # columns of the history at the last check for finished rows

    # -- requests ------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> int:
        """Add a request. It starts at the next step that has a free row.

        Returns:
            The ticket of the request; its events carry this ticket.

        Raises:
            ValueError: If its prefix is longer than `prefix_length`.
        """
        length = self.decoder.backbone.conditioner.length(request.conditioning)
        if length > self.prefix_length:
            raise ValueError(
                f"the prefix of a request takes {length} columns, the engine has {self.prefix_length}: "
                f"shorten the text or the reference, or increase prefix_length of the engine"
            )
        self._tickets += 1
        self._queue.append((self._tickets - 1, request))
        return self._tickets - 1

    def cancel(self, ticket: int) -> None:
        """Drop a request, whether it is waiting or being spoken. Its row is free at once."""
        self._queue = deque(waiting for waiting in self._queue if waiting[0] != ticket)
        self._speeches = [None if s is not None and s.ticket == ticket else s for s in self._speeches]
        if self._state is not None:
            self._state.park(self._free)

    def begin(self, batch: ConditionedBatch, seeds: Sequence[int], limits: Sequence[int]) -> list[int]:
        """Start a batch that fills all rows of an idle engine.

        Args:
            batch: Conditioning of B rows.
            seeds: Random seed of each row.
            limits: Maximum number of speech columns of each row.

        Returns:
            One ticket for each row.
        """
        assert not self.busy
        assert len(batch) == self.rows
        tickets = [self._tickets + row for row in range(len(batch))]
        self._tickets += len(batch)
        requests = [Request({}, seed, limit) for seed, limit in zip(seeds, limits, strict=True)]
        self._open(batch, list(zip(tickets, requests, strict=True)))
        return tickets

    @property
    def busy(self) -> bool:
        """Whether a request is waiting or being spoken, or its error is to be raised."""
        return bool(self._queue or self._speaking or self._errors)

    @property
    def waiting(self) -> int:
        """Number of requests that have not started."""
        return len(self._queue)

    # -- steps ---------------------------------------------------------------------------------------------------

    def step(self) -> list[Part | Done]:
        """Start waiting requests in free rows, speak one column in every row, and return the new events.

        Raises:
            ValueError: If the logits of a request were not finite. It is dropped; further steps speak the others.
        """
        if self._errors:
            raise ValueError(self._errors.popleft())
        self._admit()
        if self._state is None or not self._speaking:
            return []
        self._history.append(self._state.draw())
        due = self._parts_due()
        events: list[Part | Done] = list(self._ended()) if due or self._may_have_ended else []
        # `_ended` runs before any part is returned, so that no part contains frames after the end of a speech.
        events += [self._part(row) for row in due if self._speeches[row] is not None]
        if self._speaking:
            self._state.feed()
        return events

    def shrink(self) -> None:
        """Remove free rows for good, if at most half of the rows speak. Does nothing if steps are CUDA graphs."""
        speaking = self._speaking
        if self._state is None or self._state.captured or not speaking or 2 * len(speaking) > len(self._speeches):
            return
        self._state.keep(speaking)
        self._history = [column[speaking] for column in self._history]
        self._speeches = [self._speeches[row] for row in speaking]
        self.rows = len(speaking)

    @property
    def _speaking(self) -> list[int]:
        return [row for row, speech in enumerate(self._speeches) if speech is not None]

    @property
    def _free(self) -> list[int]:
        return [row for row, speech in enumerate(self._speeches) if speech is None]

    # -- starting requests ---------------------------------------------------------------------------------------

    def _admit(self) -> None:
        if not self._queue:
            return
        in_step = self.decoder.window.is_full
        if self._state is None or (in_step and not self._speaking):
            chosen = self._take(self.rows)
            # These rows fill the cache, so pad their prefixes to its length now.
            whole = len(chosen) == self.rows and not in_step
            self._open(self._batch(chosen, self.prefix_length if whole else None), chosen)
        elif not in_step and (free := self._free):
            chosen = self._take(len(free))
            batch = self._batch(chosen)
            rows = free[: len(chosen)]
            most = self._state.restart(rows, batch, [request.seed for _, request in chosen])
            for row, speech in zip(rows, self._begun(chosen, most), strict=True):
                self._speeches[row] = speech

    def _take(self, count: int) -> list[tuple[int, Request]]:
        return [self._queue.popleft() for _ in range(min(count, len(self._queue)))]

    def _batch(self, chosen: Sequence[tuple[int, Request]], prefix_length: int | None = None) -> ConditionedBatch:
        backbone = self.decoder.backbone
        given = [request.conditioning for _, request in chosen]
        return make_batch(backbone.conditioner, backbone.layout, given, prefix_length=prefix_length)

    def _open(self, batch: ConditionedBatch, chosen: Sequence[tuple[int, Request]]) -> None:
        """Start with new rows."""
        self._history, self._looked = [], 0
        rows = None if self.decoder.window.is_full else self.rows
        seeds = [request.seed for _, request in chosen]
        self._state = Rows(self.decoder, batch, seeds, self.sampling, rows, self.prefix_length)
        free = 0 if rows is None else rows - len(batch)
        self._speeches = [*self._begun(chosen, self._state.most), *[None] * free]

    def _begun(self, chosen: Sequence[tuple[int, Request]], most: list[int] | None) -> list[_Speech]:
        backbone = self.decoder.backbone
        limits = [request.max_columns or self.rules.max_columns for _, request in chosen]
        limits = [min(limit, backbone.max_speech_tokens or limit) for limit in limits]
        if most is not None:
            limits = [min(limit, own) for limit, own in zip(limits, most, strict=True)]
        begin = len(self._history)
        return [
            _Speech(ticket, limit, begin, request.parts, request.name)
            for (ticket, request), limit in zip(chosen, limits, strict=True)
        ]

    # -- parts ---------------------------------------------------------------------------------------------------

    def _parts_due(self) -> list[int]:
        """Rows whose next part is complete. A row in this list may have ended."""
        now = len(self._history)
        return [
            row
            for row, speech in enumerate(self._speeches)
            if speech is not None
            and speech.wanted is not None
            and self._layout.frames_of(now - speech.begin) >= speech.wanted
        ]

    def _part(self, row: int) -> Part:
        speech = self._speeches[row]
        assert speech is not None
        first = speech.begin + speech.given * self._layout.columns_per_frame
        columns = torch.stack([column[row] for column in self._history[first:]]).cpu()
        codes = self._layout.from_columns(columns)
        speech.given += codes.shape[1]
        return Part(speech.ticket, codes)

    # -- finished rows -------------------------------------------------------------------------------------------

    @property
    def _may_have_ended(self) -> bool:
        """Whether to check for finished rows now. A check waits for the device, so it is rarer on a GPU."""
        assert self._state is not None
        spoken = len(self._history)
        at_bound = any(s is not None and spoken - s.begin >= s.limit for s in self._speeches)
        return spoken % LOOK_EVERY.get(self._state.device.type, LOOK_EVERY_ELSEWHERE) == 0 or at_bound

    def _ended(self) -> list[Done]:
        """Find the speeches that have ended since the last check, and free their rows."""
        assert self._state is not None
        frames = self._state.frames.tolist()
        self._drop_broken(frames)
        broken = self._broken_rules(frames)
        found: list[Done] = []
        for row, speech in enumerate(self._speeches):
            if speech is None:
                continue
            spoken = len(self._history) - speech.begin
            # After the stop token, delayed codebooks continue for the length of their delay.
            end = frames[row] + self._layout.flush_columns
            if row in broken:
                length, reason = broken[row]
            elif end < min(spoken, speech.limit):
                length, reason = end, StopReason.STOP_TOKEN
            elif spoken >= speech.limit:
                length, reason = speech.limit, StopReason.LENGTH
            else:
                continue
            found.append(Done(speech.ticket, self._spoken(row, speech.begin, length, reason)))
            self._speeches[row] = None
        self._looked = len(self._history)
        self._state.park(self._free)
        self._forget()
        return found

    def _drop_broken(self, frames: list[int]) -> None:
        """Drop the speeches whose logits are not finite; the next step raises."""
        assert self._state is not None
        for row, speech in enumerate(self._speeches):
            if speech is not None and frames[row] == BROKEN:
                column = len(self._history) - speech.begin
                self._errors.append(cannot_be_spoken(f"request {speech.ticket} {speech.name!r}", column))
                self._speeches[row] = None
                self._state.clear(row)

    def _spoken(self, row: int, begin: int, length: int, reason: StopReason) -> Generation:
        columns = [column[row] for column in self._history[begin : begin + length]]
        own = torch.stack(columns).cpu() if columns else torch.zeros(0, self._layout.num_codebooks, dtype=torch.long)
        return Generation(self._layout.from_columns(own), own, reason)

    def _broken_rules(self, frames: list[int]) -> dict[int, tuple[int, StopReason]]:
        """Rows that a stop rule ends before their stop token or limit does: row to (length, reason).

        A row is judged at every multiple of `CHECK_EVERY` of its own columns. If this method runs later than that, it
        still judges the columns that the row had then.
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
        """Drop the columns of the history that no current speech needs."""
        first = min((speech.begin for speech in self._speeches if speech is not None), default=0)
        if first >= FORGET_AFTER:
            del self._history[:first]
            self._looked -= first
            self._speeches = [s if s is None else replace(s, begin=s.begin - first) for s in self._speeches]
