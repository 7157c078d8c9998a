"""How EncodecLM turns text and a reference into prefix columns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

import torch

from wand.codecs.reference import Reference
from wand.model.batch import Conditioning, left_pad
from wand.model.columns import ColumnLayout
from wand.model.text_tokens import TextTokens
from wand.text.characters import EMPTY, RULES
from wand.text.front_end import AMERICAN, FRONT_ENDS, FrontEnd, written_words


@dataclass(frozen=True)
class SymbolConditioner:
    """Turns a reference and a text into prefix columns. A code column holds K codes, a text column one symbol id.

    Args:
        layout: Column layout of the codes.
        front_end: Unit of the text input.
        symbols: Symbols that the front end may produce.
        reference_frames: Maximum number of reference frames.
        language: Language of the phones.
    """

    layout: ColumnLayout
    front_end: FrontEnd
    symbols: str
    reference_frames: int
    language: str = AMERICAN
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {symbol: i for i, symbol in enumerate(self.symbols)})

    @property
    def start_id(self) -> int:
        """Id of the text column after which speech starts."""
        return len(self.symbols)

    @cached_property
    def fingerprint(self) -> str:
        """Short digest of the front end and its rules, its symbols, the layout and the length of the reference."""
        parts = (asdict(self.layout), self.front_end, self.language, RULES, self.symbols, self.reference_frames)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    def __call__(self, text: str, reference: Reference) -> Conditioning:
        """``ids [L, K]`` and ``is_text [L]``, L the prefix columns of this utterance."""
        return self.with_tokens(self._known(text, self._read(text)), reference)

    def tokens(self, text: str, joined: bool = False) -> TextTokens:
        """The symbols of a unit of text, with a blank first if it is joined. A word begins with its blank."""
        spoken = " " * joined + self._read(text)
        words, begins = written_words(text, spoken, self.front_end, self.language)
        places = [(symbol, symbol + 1) for symbol in range(len(spoken))]
        return TextTokens.of(self._known(text, spoken), places, spoken, words, begins)

    def opening(self, reference: Reference) -> str:
        """Nothing: the text comes right after the codes of the reference."""
        return ""

    def with_tokens(self, ids: Sequence[int], reference: Reference) -> Conditioning:
        """``ids [L, K]`` and ``is_text [L]`` for the ids of symbols."""
        frames = reference.codes[:, : self.reference_frames].long()
        if frames.shape[1] == 0:
            raise ValueError("the reference is empty: give a sound of at least half a second")
        codes = self.layout.to_columns(frames)
        spelled = torch.tensor([*ids, self.start_id])
        columns = torch.cat([codes, spelled[:, None].expand(-1, self.layout.num_codebooks)])
        return {"ids": columns, "is_text": torch.arange(len(columns)) >= len(codes)}

    def text_span(self, conditioning: Conditioning) -> tuple[int, int]:
        """The columns between the reference and the start of speech."""
        columns = len(conditioning["ids"])
        return columns - int(conditioning["is_text"].sum()), columns - 1

    def _read(self, text: str) -> str:
        spoken = FRONT_ENDS[self.front_end](text, self.language)
        if not spoken:
            raise ValueError(EMPTY)
        return spoken

    def _known(self, text: str, spoken: str) -> list[int]:
        """The ids of the symbols that were read."""
        if unknown := sorted(set(spoken) - set(self.symbols)):
            raise ValueError(
                f"the text {text!r} has {self.front_end} this model does not know: {' '.join(map(repr, unknown))}; it "
                f"knows {self.symbols!r}" + (" (write numbers as words)" if self.front_end == "letters" else "")
            )
        return [self._ids[symbol] for symbol in spoken]

    def length(self, conditioning: Conditioning) -> int:
        """Number of prefix columns of one conditioning."""
        return len(conditioning["ids"])

    def collate(self, conditionings: Sequence[Conditioning], prefix_length: int) -> Conditioning:
        """``ids [B, P, K]`` and ``is_text [B, P]``, left-padded."""
        return {name: left_pad([c[name] for c in conditionings], prefix_length) for name in ("ids", "is_text")}
