"""Moves the text windows of the rows of an engine that speak passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wand.decoding.decoder import Decoder
from wand.decoding.rows import Rows
from wand.decoding.speeches import History, Speech
from wand.decoding.stopping import StopReason
from wand.model.alignment import read_heads
from wand.model.batch import Conditioning, make_batch
from wand.passages.follower import Follower, TextWindow, Trouble
from wand.passages.passage import Passage
from wand.passages.rules import FOLLOW_EVERY, PassageRules, check_passages


class Mover:
    """Moves text windows, and saves speeches whose text has not arrived.

    Args:
        decoder: Decoder of the model.
        rules: Sizes of text windows, and when they move.

    Raises:
        ValueError: If the model cannot speak passages.
    """

    def __init__(self, decoder: Decoder, rules: PassageRules) -> None:
        backbone = decoder.backbone
        check_passages(backbone, decoder.window)
        read_heads([[*head] for head in backbone.alignment_heads], backbone.decoder.config, "alignment_heads")
        self.backbone = backbone
        self.rules = rules
        self.looks = History()

    # -- beginnings ----------------------------------------------------------------------------------------------

    def is_ready(self, given: Conditioning | Passage) -> bool:
        """Whether the text of the first window has arrived."""
        return not isinstance(given, Passage) or self._first_window(given) is not None

    def first(self, passage: Passage) -> Conditioning:
        """The conditioning of the first window."""
        window = self._first_window(passage)
        assert window is not None
        return passage.conditioning(window.begin, window.end)

    def _first_window(self, passage: Passage) -> TextWindow | None:
        return Follower(passage, self.rules).next_window(0)

    def begin(self, rows: Rows, row: int, speech: Speech, passage: Passage) -> None:
        """Note the beginning of a passage in a row, whose prefix has its first window."""
        window = self._first_window(passage)
        assert window is not None
        speech.follower = Follower(passage, self.rules)
        self._enter(rows, row, speech.follower, window, passage.conditioning(window.begin, window.end))

    def can_go_on(self, speech: Speech) -> bool:
        """Whether a parked speech has the text of its next window."""
        assert speech.follower is not None
        return speech.follower.next_window(speech.base) is not None

    # -- looks and moves -----------------------------------------------------------------------------------------

    def look(self, rows: Rows) -> None:
        """Note where the heads looked in a step."""
        assert rows.watch is not None
        self.looks.append(rows.watch.seen.clone())

    def move(self, rows: Rows, speeches: Sequence[Speech | None], history: History) -> dict[int, Exception]:
        """Move the windows that are due, between two steps. A speech whose text has not arrived is saved in `parked`.

        Returns:
            The errors of rows whose text cannot be read.
        """
        moves: dict[int, tuple[TextWindow, Conditioning, Tensor, int]] = {}
        errors: dict[int, Exception] = {}
        for row, speech in enumerate(speeches):
            if speech is None or (follower := speech.follower) is None:
                continue
            spoken = speech.spoken(len(history))
            if not speech.parked:
                if spoken % FOLLOW_EVERY or spoken == speech.looked:
                    continue
                self._see(rows, row, speech, spoken)
                self._end(rows, row, speech, spoken)
                spoken = self._repair(rows, row, speech, history)
            if not (follower.is_due or speech.goes_back) or spoken >= speech.limit:
                continue
            try:
                window = follower.next_window(spoken)
            except Exception as error:  # whatever an iterator of the user raises; other rows go on
                errors[row] = error
                continue
            if window is not None:
                moves[row] = window, *self._rebuilt(row, speech, history, window, spoken)
            elif not speech.parked:
                self._fold(row, speech, history)
                speech.parked = rows.save(row)
        self._exchange(rows, speeches, history, moves)
        self.looks.forget(len(self.looks) - FOLLOW_EVERY, 16 * FOLLOW_EVERY)
        return errors

    def _see(self, rows: Rows, row: int, speech: Speech, spoken: int) -> None:
        """Show the follower the looks of the newest columns. The query of column i looks at the token of i + 1."""
        follower = speech.follower
        assert follower is not None
        assert follower.window is not None
        new, end = spoken - speech.looked, len(self.looks)
        first = rows.first_text_column(row)
        for i, column in enumerate(self.looks.of(row, end - new, end).tolist()):
            follower.see(speech.looked + i + 1, follower.window.begin + column - first)
        speech.looked = spoken

    def _end(self, rows: Rows, row: int, speech: Speech, spoken: int) -> None:
        """Allow the stop token near the end of the text, and end a speech that does not end."""
        follower = speech.follower
        assert follower is not None
        if follower.may_stop:
            rows.hold(row, False)
        if follower.must_stop(spoken):
            speech.limit, speech.bound = spoken, StopReason.TEXT_END

    def _repair(self, rows: Rows, row: int, speech: Speech, history: History) -> int:
        """Go back to before a fault, once, so that its text is spoken again. Returns the number of columns then."""
        follower, spoken = speech.follower, speech.spoken(len(history))
        assert follower is not None
        if (fault := follower.fault(spoken)) is None or rows.has_stopped(row):
            return spoken
        if not follower.can_repair(fault):
            follower.accept(fault, spoken)
            if fault.trouble == Trouble.STUCK:
                speech.limit, speech.bound = spoken, StopReason.LOOP
            return spoken
        back = max(self._whole_frames(fault.column), self._given(speech))
        follower.go_back(fault, back)
        self._fold(row, speech, history)
        speech.go_back(back)
        rows.set_steps(row, back)
        return back

    def _rebuilt(
        self, row: int, speech: Speech, history: History, window: TextWindow, spoken: int
    ) -> tuple[Conditioning, Tensor, int]:
        """The new conditioning of a row, the columns to compute again, and the offset of the first one."""
        follower = speech.follower
        assert follower is not None
        begun = self._whole_frames(follower.begun(window))
        first = max(spoken - self.rules.reread, begun)
        columns = speech.columns(history, row, first, spoken)
        return follower.passage.conditioning(window.begin, window.end), columns, first - begun

    def _exchange(
        self,
        rows: Rows,
        speeches: Sequence[Speech | None],
        history: History,
        moves: dict[int, tuple[TextWindow, Conditioning, Tensor, int]],
    ) -> None:
        """Exchange the prefixes of rows. Rows with the same number of columns go together."""
        for count in sorted({len(columns) for _, _, columns, _ in moves.values()}):
            chosen = [row for row, (_, _, columns, _) in moves.items() if len(columns) == count]
            conditionings = [moves[row][1] for row in chosen]
            columns = torch.stack([moves[row][2] for row in chosen])
            offsets = torch.tensor([moves[row][3] for row in chosen])
            batch = make_batch(self.backbone.conditioner, self.backbone.layout, conditionings)
            rows.exchange(chosen, replace(batch, columns=columns, offsets=offsets))
        for row, (window, conditioning, _, _) in moves.items():
            speech = speeches[row]
            assert speech is not None
            assert speech.follower is not None
            if speech.parked:
                rows.load(row, speech.parked)
                speech.parked, speech.begin = [], len(history)
            else:
                self._fold(row, speech, history)
            speech.goes_back = False
            self._enter(rows, row, speech.follower, window, conditioning)

    def _enter(self, rows: Rows, row: int, follower: Follower, window: TextWindow, conditioning: Conditioning) -> None:
        """Note the window that the prefix of a row has now."""
        conditioner = follower.passage.conditioner
        begin, end = conditioner.text_span(conditioning)
        rows.set_text(row, conditioner.length(conditioning), begin, end)
        follower.move(window)
        rows.hold(row, not follower.may_stop)

    def _fold(self, row: int, speech: Speech, history: History) -> None:
        """Free the columns of a speech that are not needed, wherever it may go back to."""
        speech.fold(history, row, max(0, self._given(speech) - self.rules.reread))

    def _given(self, speech: Speech) -> int:
        """Number of columns that the parts of a stream were made of: they stay."""
        return self.backbone.layout.columns_of(speech.given) if speech.given else 0

    def _whole_frames(self, column: int) -> int:
        """The first column of the frame that a column belongs to."""
        return column - column % self.backbone.layout.columns_per_frame
