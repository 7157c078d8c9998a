"""The engine speaks many requests at the same time, one per row. A row that has ended starts the next request.

`wand.decoding.generate` and servers are loops over `submit` and `step`.

Shapes: B rows, K codebooks, F frames, T speech columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

import torch

from wand.checks import check_whole_number
from wand.decoding.decoder import Decoder
from wand.decoding.moves import Mover
from wand.decoding.requests import Done, Generation, Part, Request, RequestError
from wand.decoding.rows import BROKEN, Rows, cannot_be_spoken
from wand.decoding.speeches import History, Speech, broken_rules
from wand.decoding.stopping import StopReason, StopRules
from wand.model.batch import ConditionedBatch, Conditioning, make_batch
from wand.model.sampling import Sampling
from wand.passages.passage import Passage
from wand.passages.rules import PassageRules

# The limit of a passage: none.
ENDLESS = 2**62
# Drop old columns of the history once there are at least this many.
FORGET_AFTER = 256
# How often to check for finished rows, in columns. On a GPU every check is a device sync, so check less often; must not
# exceed CHECK_EVERY.
LOOK_EVERY = {"cpu": 1}
LOOK_EVERY_ELSEWHERE = 8


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
        passages: How to speak passages; None refuses them.

    Raises:
        ValueError: If `rows` is not positive, or the model cannot speak passages.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        rows: int,
        prefix_length: int,
        rules: StopRules,
        sampling: Sampling | None = None,
        passages: PassageRules | None = None,
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
        self._speeches: list[Speech | None] = []
        self._parked: list[Speech] = []  # speeches that wait for text, in no row
        self._history = History()
        self._mover = None if passages is None else Mover(decoder, passages)
        self._errors: deque[Exception] = deque()
        self._looked = 0  # columns of the history at the last check for finished rows

    # -- requests ------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> int:
        """Add a request. It starts at the next step that has a free row.

        Returns:
            The ticket of the request; its events carry this ticket.

        Raises:
            ValueError: If its prefix is longer than `prefix_length`, or its passage is already that of another request.
        """
        if isinstance(request.conditioning, Passage):
            if self._mover is None:
                raise ValueError("this engine speaks no passages: give it the rules of passages")
            length = self._mover.rules.prefix_length(request.conditioning)
        else:
            length = self.decoder.backbone.conditioner.length(request.conditioning)
        if length > self.prefix_length:
            raise ValueError(
                f"the prefix of a request takes {length} columns, the engine has {self.prefix_length}: "
                f"shorten the text or the reference, or increase prefix_length of the engine"
            )
        if isinstance(request.conditioning, Passage):
            request.conditioning.take()
        self._tickets += 1
        self._queue.append((self._tickets - 1, request))
        return self._tickets - 1

    def cancel(self, ticket: int) -> None:
        """Drop a request, whether it is waiting or being spoken. Its row is free at once."""
        self._queue = deque(waiting for waiting in self._queue if waiting[0] != ticket)
        self._parked = [speech for speech in self._parked if speech.ticket != ticket]
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
        return bool(self._queue or self._speaking or self._parked or self._errors)

    @property
    def waits(self) -> bool:
        """Whether all speeches wait for text. Then `step` does nothing, until some text or a request is added."""
        if self._speaking or not self.busy or self._mover is None:
            return False
        ready = self._can_go_on() or any(self._is_ready(*one) for one in list(self._queue))
        return not ready and not self._errors

    @property
    def waiting(self) -> int:
        """Number of requests that have not started."""
        return len(self._queue)

    # -- steps ---------------------------------------------------------------------------------------------------

    def step(self) -> list[Part | Done]:
        """Start waiting requests in free rows, speak one column in every row, and return the new events.

        Raises:
            RequestError: If the logits of a request were not finite, or its text cannot be read. It is dropped; further
                steps speak the others.
        """
        if self._errors:
            raise self._errors.popleft()
        self._resume()
        self._admit()
        self._move()
        if self._state is None or not self._speaking:
            return []
        self._history.append(self._state.draw())
        due = self._parts_due()
        events: list[Part | Done] = list(self._ended()) if due or self._may_have_ended else []
        # `_ended` runs before any part is returned, so that no part contains frames after the end of a speech.
        events += [self._part(row) for row in due if self._speeches[row] is not None]
        if self._speaking:
            self._state.feed()
            if self._mover is not None:
                self._mover.look(self._state)
        return events

    def _note(self, error: Exception, ticket: int, name: str) -> None:
        """Note the error of a request, which a step raises. An error of the user's iterator stays as it is."""
        named = RequestError(ticket, f"request {ticket} {name!r} cannot be spoken: {error}", error)
        self._errors.append(named if isinstance(error, ValueError) else error)

    def shrink(self) -> None:
        """Remove free rows for good, if at most half of the rows speak. Does nothing if steps are CUDA graphs."""
        speaking = self._speaking
        if self._state is None or self._state.captured or self._parked:
            return
        if not speaking or 2 * len(speaking) > len(self._speeches):
            return
        self._state.keep(speaking)
        self._history.keep(speaking)
        if self._mover is not None:
            self._mover.looks.keep(speaking)
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
            if chosen := self._take(self.rows):
                # These rows fill the cache, so pad their prefixes to its length now.
                whole = len(chosen) == self.rows and not in_step
                self._open(self._batch(chosen, self.prefix_length if whole else None), chosen)
        elif not in_step and (free := self._free) and (chosen := self._take(len(free))):
            rows = free[: len(chosen)]
            seeds = [request.seed for _, request in chosen]
            most = self._state.restart(rows, self._batch(chosen), seeds)
            self._begin(rows, chosen, most)

    def _take(self, count: int) -> list[tuple[int, Request]]:
        """The next requests. A passage whose first text has not arrived waits, and holds up no others."""
        taken = list(islice((waiting for waiting in list(self._queue) if self._is_ready(*waiting)), count))
        for one in taken:
            self._queue.remove(one)
        return taken

    def _is_ready(self, ticket: int, request: Request) -> bool:
        """Whether a request can start. One whose text cannot be read is dropped."""
        try:
            return self._mover is None or self._mover.is_ready(request.conditioning)
        except Exception as error:  # whatever an iterator of the user raises; other requests go on
            self._note(error, ticket, request.name)
            self.cancel(ticket)
            return False

    def _batch(self, chosen: Sequence[tuple[int, Request]], prefix_length: int | None = None) -> ConditionedBatch:
        backbone = self.decoder.backbone
        given = [self._conditioning(request.conditioning) for _, request in chosen]
        return make_batch(backbone.conditioner, backbone.layout, given, prefix_length=prefix_length)

    def _conditioning(self, given: Conditioning | Passage) -> Conditioning:
        if not isinstance(given, Passage):
            return given
        assert self._mover is not None
        return self._mover.first(given)

    def _open(self, batch: ConditionedBatch, chosen: Sequence[tuple[int, Request]]) -> None:
        """Start with new rows."""
        self._history, self._looked = History(), 0
        rows = None if self.decoder.window.is_full else self.rows
        seeds = [request.seed for _, request in chosen]
        follows = self._mover is not None
        self._state = Rows(self.decoder, batch, seeds, self.sampling, rows, self.prefix_length, follows)
        self._speeches = [None] * (len(batch) if rows is None else rows)
        self._begin(range(len(batch)), chosen, self._state.most)

    def _begin(self, rows: Sequence[int], chosen: Sequence[tuple[int, Request]], most: list[int] | None) -> None:
        """Note the speeches that begin in some rows."""
        assert self._state is not None
        positions = self.decoder.backbone.max_speech_tokens
        for i, (row, (ticket, request)) in enumerate(zip(rows, chosen, strict=True)):
            kept = torch.zeros(0, self._layout.num_codebooks, dtype=torch.long)
            speech = Speech(ticket, 0, len(self._history), kept, request.parts, request.name)
            if isinstance(request.conditioning, Passage):
                assert self._mover is not None
                speech.limit = request.max_columns or ENDLESS
                self._mover.begin(self._state, row, speech, request.conditioning)
            else:
                limits = [request.max_columns or self.rules.max_columns, positions, None if most is None else most[i]]
                speech.limit = min(limit for limit in limits if limit is not None)
                if self._mover is not None:
                    self._state.hold(row, False)
            self._speeches[row] = speech

    # -- passages ------------------------------------------------------------------------------------------------

    def _can_go_on(self) -> list[Speech]:
        """The parked speeches whose text has arrived. One whose text cannot be read is dropped."""
        ready = []
        for speech in self._parked:
            assert self._mover is not None
            try:
                if self._mover.can_go_on(speech):
                    ready.append(speech)
            except Exception as error:  # whatever an iterator of the user raises; other requests go on
                self._note(error, speech.ticket, speech.name)
                self.cancel(speech.ticket)
        return ready

    def _resume(self) -> None:
        """Put parked speeches whose text has arrived into free rows."""
        if self._parked and (free := self._free):
            for row, speech in zip(free, self._can_go_on(), strict=False):
                self._speeches[row] = speech
                self._parked.remove(speech)

    def _move(self) -> None:
        """Move the text windows that are due. A speech whose text has not arrived is parked, and its row is free."""
        if self._state is None or self._mover is None:
            return
        for row, error in self._mover.move(self._state, self._speeches, self._history).items():
            speech = self._speeches[row]
            assert speech is not None
            self._note(error, speech.ticket, speech.name)
            self.cancel(speech.ticket)
        for row, speech in enumerate(self._speeches):
            if speech is not None and speech.parked:
                self._parked.append(speech)
                self._speeches[row] = None
                self._state.park([row])

    # -- parts ---------------------------------------------------------------------------------------------------

    def _parts_due(self) -> list[int]:
        """Rows whose next part is complete. A row in this list may have ended."""
        return [row for row in self._speaking if self._is_due(self._speeches[row])]

    def _is_due(self, speech: Speech | None) -> bool:
        assert speech is not None
        return speech.wanted is not None and self._layout.frames_of(self._spoken(speech)) >= speech.wanted

    def _spoken(self, speech: Speech) -> int:
        return speech.spoken(len(self._history))

    def _part(self, row: int) -> Part:
        speech = self._speeches[row]
        assert speech is not None
        first = speech.given * self._layout.columns_per_frame
        codes = self._layout.from_columns(speech.columns(self._history, row, first, self._spoken(speech)))
        speech.given += codes.shape[1]
        return Part(speech.ticket, codes)

    # -- finished rows -------------------------------------------------------------------------------------------

    @property
    def _may_have_ended(self) -> bool:
        """Whether to check for finished rows now. A check waits for the device, so it is rarer on a GPU."""
        assert self._state is not None
        at_bound = any(s is not None and self._spoken(s) >= s.limit for s in self._speeches)
        return len(self._history) % LOOK_EVERY.get(self._state.device.type, LOOK_EVERY_ELSEWHERE) == 0 or at_bound

    def _ended(self) -> list[Done]:
        """Find the speeches that have ended since the last check, and free their rows."""
        assert self._state is not None
        frames = self._state.frames.tolist()
        self._drop_broken(frames)
        broken = broken_rules(self.rules, self._speeches, self._history, frames, self._looked)
        found: list[Done] = []
        for row in self._speaking:
            speech = self._speeches[row]
            assert speech is not None
            spoken = self._spoken(speech)
            # After the stop token, delayed codebooks continue for the length of their delay.
            end = frames[row] + self._layout.flush_columns
            if row in broken:
                length, reason = broken[row]
            elif end < min(spoken, speech.limit):
                length, reason = end, StopReason.STOP_TOKEN
            elif spoken >= speech.limit:
                length, reason = speech.limit, speech.bound
            else:
                continue
            found.append(Done(speech.ticket, self._generation(row, speech, length, reason)))
            self._speeches[row] = None
        self._looked = len(self._history)
        self._state.park(self._free)
        self._forget()
        return found

    def _drop_broken(self, frames: list[int]) -> None:
        """Drop the speeches whose logits are not finite; the next step raises."""
        assert self._state is not None
        for row in self._speaking:
            speech = self._speeches[row]
            if speech is not None and frames[row] == BROKEN:
                name = f"request {speech.ticket} {speech.name!r}"
                self._errors.append(RequestError(speech.ticket, cannot_be_spoken(name, self._spoken(speech))))
                self._speeches[row] = None
                self._state.clear(row)

    def _generation(self, row: int, speech: Speech, length: int, reason: StopReason) -> Generation:
        first = min(speech.given * self._layout.columns_per_frame, length)
        columns = speech.columns(self._history, row, first, length)
        codes = self._layout.from_columns(columns)
        if speech.follower is None:
            return Generation(codes, columns, reason)
        speech.follower.finish(self._layout.frames_of(length) * self._layout.columns_per_frame)
        return Generation(codes, columns, reason, tuple(speech.follower.words), tuple(speech.follower.faults))

    def _forget(self) -> None:
        """Free the columns of the history that no current speech needs."""
        needed = [s.begin for s in self._speeches if s is not None]
        self._history.forget(min(needed, default=len(self._history)), FORGET_AFTER)
