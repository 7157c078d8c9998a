"""Prompts and speech tokens of causal language models."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Literal, Self

import torch
from torch import Tensor

from wand.codecs.reference import Reference
from wand.model.batch import Conditioning, left_pad
from wand.model.columns import ColumnLayout, FlattenedLayout
from wand.model.sampling import RepetitionAware, Sampling
from wand.model.text_tokens import TextTokens, raw_tokens
from wand.model.tokenizers import PromptTokenizer, TextTokenizer
from wand.text.characters import check_not_empty
from wand.text.front_end import AMERICAN, phones, written_words

# Placeholders of a prompt, filled with text and with tokens.
TEXTS = ("text", "reference_text", "speaker")
CODES = ("reference", "global_codes")
# The reference for prompts that use none.
NOBODY = Reference(codes=torch.zeros(1, 0, dtype=torch.long))
_MARKS = re.compile(r"<[^<>{}\s]+>")
_TEXT_PLACES = re.compile(r"\{(text|reference_text|speaker)\}")
_CODE_PLACES = re.compile(r"(\{(?:reference|global_codes)\})")


@dataclass(frozen=True)
class SpeechTokens:
    """The tokens for the codes of one slot of a frame.

    Args:
        pattern: Name of a token, with ``{}`` for its number, such as ``<|s_{}|>``.
        count: Number of codes; by default as many as the tokenizer has.
        first: Number of the token of code 0.
        codebook: Codebook of the slot.
    """

    pattern: str
    count: int | None = None
    first: int = 0
    codebook: int = 0

    def __post_init__(self) -> None:
        if self.pattern.count("{}") != 1:
            raise ValueError(f"the pattern {self.pattern!r} of speech tokens must hold {{}} once, for the number")

    def counted(self, tokenizer: TextTokenizer) -> SpeechTokens:
        """A copy whose `count` is known: counted in the tokenizer if it was not given."""
        if self.count is not None:
            return self
        numbers = itertools.takewhile(lambda n: self.pattern.format(n) in tokenizer, itertools.count(self.first))
        count = sum(1 for _ in numbers)
        if count == 0:
            raise ValueError(
                f"the tokenizer has no token {self.pattern.format(self.first)!r}: is this the right model?"
            )
        return replace(self, count=count)

    @property
    def size(self) -> int:
        """Number of codes. `count` must be known."""
        assert self.count is not None, "call `counted` first"
        return self.count

    def ids(self, tokenizer: TextTokenizer) -> list[int]:
        """Ids of the tokens.

        Raises:
            ValueError: If the tokenizer does not have one of them.
        """
        return [tokenizer.token_id(self.pattern.format(self.first + code)) for code in range(self.size)]


@dataclass(frozen=True)
class SpeechFormat:
    """Prompts and speech tokens of a causal language model.

    Args:
        speech_tokens: The tokens of each slot of a frame. A model with one token per frame has one slot.
        stop_tokens: Names of the tokens that end the speech. Training uses the first.
        prompt: The prefix, with ``{text}`` and, if needed, ``{speaker}`` and ``{global_codes}``.
        frame_rate: Frames per second, in Hz.
        sample_rate: Sample rate of the speech, in Hz.
        prompt_with_reference: The prefix for a reference with a transcript, with ``{reference_text}`` and, at the end,
            its speech ``{reference}``. By default, `prompt` is used for all references.
        global_tokens: The tokens of ``{global_codes}``.
        front_end: Form of the text: ``raw``, or ``phones`` (needs espeak-ng).
        language: Language of the phones, by its name in espeak-ng: ``en-us``, ``de``, ``cmn``.
        sampling: The sampling settings recommended for the model.
        tags: Tokens that users may write in a text, such as ``[laughter]``. All other tokens in a text, such as
            ``<|end|>``, are read as plain text.
        allow_special_tokens: Let all tokens of the model act in a text. Use it only for texts that you trust.
    """

    speech_tokens: list[SpeechTokens]
    stop_tokens: list[str]
    prompt: str
    frame_rate: float
    sample_rate: int
    prompt_with_reference: str | None = None
    global_tokens: SpeechTokens | None = None
    front_end: Literal["raw", "phones"] = "raw"
    language: str = AMERICAN
    sampling: Sampling = field(default_factory=Sampling)
    tags: list[str] = field(default_factory=list)
    allow_special_tokens: bool = False

    def __post_init__(self) -> None:
        if not self.speech_tokens or not self.stop_tokens:
            raise ValueError("a speech format needs speech_tokens and stop_tokens: at least one of each")
        for name, prompt in (("prompt", self.prompt), ("prompt_with_reference", self.prompt_with_reference)):
            places = re.findall(r"\{(\w*)\}", prompt or "{text}")
            if "text" not in places or set(places) - {*TEXTS, *CODES}:
                known = ", ".join(f"{{{place}}}" for place in (*TEXTS, *CODES))
                raise ValueError(f"{name} {prompt!r} must contain {{text}} and no other placeholders than {known}")
            if "global_codes" in places and self.global_tokens is None:
                raise ValueError(f"{name} {prompt!r} contains {{global_codes}}: name their tokens in global_tokens")

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Build a format from plain values."""
        sampling = dict(values["sampling"])
        if sampling.get("repetition") is not None:
            sampling["repetition"] = RepetitionAware(**sampling["repetition"])
        tokens = values["global_tokens"]
        return cls(
            **{
                **values,
                "speech_tokens": [SpeechTokens(**slot) for slot in values["speech_tokens"]],
                "global_tokens": None if tokens is None else SpeechTokens(**tokens),
                "sampling": Sampling(**sampling),
            }
        )

    def counted(self, tokenizer: TextTokenizer) -> SpeechFormat:
        """A copy in which the number of codes of all tokens is known."""
        return replace(
            self,
            speech_tokens=[slot.counted(tokenizer) for slot in self.speech_tokens],
            global_tokens=None if self.global_tokens is None else self.global_tokens.counted(tokenizer),
        )

    def check(self, tokenizer: TextTokenizer) -> None:
        """Check that the tokenizer has a token for each tag and for each mark of the prompts, such as ``<|start|>``.

        Raises:
            ValueError: If it does not. The message names the mark.
        """
        for prompt in (self.prompt, self.prompt_with_reference or ""):
            for mark in (*_MARKS.findall(prompt), *self.tags):
                tokenizer.token_id(mark)

    @property
    def rows(self) -> int:
        """V: the codes of all slots and the stop tokens."""
        return sum(slot.size for slot in self.speech_tokens) + len(self.stop_tokens)

    def layout(self) -> ColumnLayout:
        """The column layout: one column for each slot of a frame."""
        sizes = tuple(slot.size for slot in self.speech_tokens)
        stop = sum(sizes)
        if len(sizes) == 1:
            return ColumnLayout(1, stop, stop)
        return FlattenedLayout(1, stop, stop, sizes, tuple(slot.codebook for slot in self.speech_tokens))

    def row_ids(self, tokenizer: TextTokenizer) -> list[int]:
        """Tokenizer id of each row of the speech vocabulary."""
        codes = [id for slot in self.speech_tokens for id in slot.ids(tokenizer)]
        return [*codes, *map(tokenizer.token_id, self.stop_tokens)]


@dataclass(frozen=True, eq=False)
class PromptConditioner:
    """Turns text and reference into the ids of a prompt.

    Args:
        format: Prompts and speech tokens.
        tokenizer: Tokenizer of the model; None before its files are read.
    """

    format: SpeechFormat
    tokenizer: TextTokenizer | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Short digest of prompts and tokenizer."""
        words = "" if self.tokenizer is None else self.tokenizer.digest
        return hashlib.sha256(repr((self.format, words)).encode()).hexdigest()[:12]

    @cached_property
    def _speech_ids(self) -> Tensor:
        return torch.tensor(self.format.row_ids(self.known_tokenizer))

    @cached_property
    def _global_ids(self) -> Tensor:
        assert self.format.global_tokens is not None
        return torch.tensor(self.format.global_tokens.ids(self.known_tokenizer))

    @cached_property
    def _reader(self) -> PromptTokenizer:
        return PromptTokenizer(self.known_tokenizer, None if self.format.allow_special_tokens else self.format.tags)

    @property
    def known_tokenizer(self) -> TextTokenizer:
        """The tokenizer.

        Raises:
            ValueError: If its files are missing.
        """
        if self.tokenizer is None:
            raise ValueError("the tokenizer files of the model are missing: set model.backbone.init_args.pretrained")
        return self.tokenizer

    def __call__(self, text: str, reference: Reference) -> Conditioning:
        """``ids [L]``: ids of the prompt; ``text [2]``: begin and end of the text in them."""
        return self.fill(self._template(reference), text, reference)

    def fill(self, template: str, text: str, reference: Reference = NOBODY) -> Conditioning:
        """Fill a prompt template, whose texts are read together. Returns its ids and the place of the text.

        Raises:
            ValueError: If the text has nothing that is read, or the reference lacks something that the template needs.
        """
        return self._filled(template, {"text": self._aloud(text), **self._texts(template, reference)}, reference)

    def tokens(self, text: str, joined: bool = False) -> TextTokens:
        """The tokens of a unit of text, read without the rest of the prompt."""
        aloud = self._aloud(text)
        reader = self._reader
        if self.format.front_end == "raw":
            plain = reader.text(aloud)
            return raw_tokens(plain, *reader.read(plain))
        spoken = " " * (joined or text[0].isspace()) + aloud
        return TextTokens.of(*reader.read(spoken), spoken, *written_words(text, spoken, "phones", self.format.language))

    def opening(self, reference: Reference) -> str:
        """The blank before the text in the prompt, if there is one."""
        return " " if " {text}" in self._template(reference) else ""

    def with_tokens(self, ids: Sequence[int], reference: Reference) -> Conditioning:
        """The conditioning of `__call__` for the ids of a text, which are kept as they are.

        `__call__` reads the texts of a prompt together. It may join the end of a transcript and the text in one token
        if no blank is between them; here they stay apart.

        Raises:
            ValueError: If the prompt names the text more than once.
        """
        template = self._template(reference)
        before, *after = template.split("{text}")
        if len(after) > 1:
            raise ValueError(f"the prompt {template!r} names the text more than once: no part of a text can replace it")
        if self.known_tokenizer.begins_with_blank(ids[0]):
            before = before.removesuffix(" ")
        texts = self._texts(template, reference)
        opening, ending = (self._filled(part, texts, reference)["ids"] for part in (before, *after))
        begin = len(opening)
        return {"ids": torch.cat([opening, torch.tensor(ids), ending]), "text": torch.tensor([begin, begin + len(ids)])}

    def text_span(self, conditioning: Conditioning) -> tuple[int, int]:
        """The columns of the text in the prompt."""
        begin, end = conditioning["text"].tolist()
        return begin, end

    def global_codes(self, ids: Tensor) -> Tensor:
        """The global codes in the ids ``[L]`` of a prompt."""
        found = [(self._global_ids == token).nonzero()[0, 0] for token in ids if token in self._global_ids]
        if not found:
            raise ValueError("the prompt has no global codes: the voice is missing, try another seed")
        return torch.stack(found)

    def _template(self, reference: Reference) -> str:
        continued = (reference.text or "").strip() and self.format.prompt_with_reference
        return continued or self.format.prompt

    def _texts(self, template: str, reference: Reference) -> dict[str, str]:
        """The texts of a prompt, without the one that is spoken."""
        texts = {"reference_text": self._written(reference.text or "")}
        if "{speaker}" in template:
            if not reference.speaker:
                raise ValueError(f"the prompt {template!r} names a speaker: the reference must say which speaker it is")
            texts["speaker"] = reference.speaker
        return texts

    def _aloud(self, text: str) -> str:
        """The text to speak, as `_written`, which must not be empty."""
        check_not_empty(text)
        written = self._written(text)
        if not written.strip():
            raise ValueError(f"the text {text!r} is empty when it is read aloud: give at least one word")
        return written

    def _written(self, text: str) -> str:
        if self.format.front_end == "raw" or not text.strip():
            return text
        return _phones(text, self.format.language)

    def _filled(self, template: str, texts: Mapping[str, str], reference: Reference) -> Conditioning:
        ids: list[int] = []
        place = (0, 0)
        for part in _CODE_PLACES.split(template):
            if _CODE_PLACES.fullmatch(part):
                ids += self._code_ids(part, reference)
                continue
            # Every second piece names the text that belongs there.
            pieces = _TEXT_PLACES.split(part)
            reader = self._reader
            prompt = [reader.text(texts[piece]) if i % 2 else reader.marks(piece) for i, piece in enumerate(pieces)]
            read, places = reader.read("".join(prompt))
            if "text" in pieces[1::2]:
                number = pieces.index("text", 1)
                begin = len("".join(prompt[:number]))
                end = begin + len(prompt[number])
                begin -= prompt[number - 1].endswith(" ")
                inside = [len(ids) + i for i, (first, after) in enumerate(places) if after > begin and first < end]
                place = (inside[0], inside[-1] + 1) if inside else (len(ids), len(ids))
            ids += read
        return {"ids": torch.tensor(ids, dtype=torch.long), "text": torch.tensor(place)}

    def _code_ids(self, part: str, reference: Reference) -> list[int]:
        if part == "{reference}":
            columns = self.format.layout().to_columns(reference.codes.long())[:, 0]
            spoken: list[int] = self._speech_ids[columns].tolist()
            return spoken
        if reference.global_codes is None:
            raise ValueError("the reference has no global codes, which this model needs for the voice")
        voice = reference.global_codes.long()
        if len(voice) and not 0 <= int(voice.min()) <= int(voice.max()) < len(self._global_ids):
            raise ValueError(
                f"the reference has global codes from {int(voice.min())} to {int(voice.max())}, but the model has "
                f"0 to {len(self._global_ids) - 1}"
            )
        named: list[int] = self._global_ids[voice].tolist()
        return named

    def length(self, conditioning: Conditioning) -> int:
        """Number of prefix columns of one conditioning."""
        return len(conditioning["ids"])

    def collate(self, conditionings: Sequence[Conditioning], prefix_length: int) -> Conditioning:
        """``ids [B, P]``, left-padded."""
        return {"ids": left_pad([c["ids"] for c in conditionings], prefix_length)}


@lru_cache(maxsize=64)  # a passage writes the transcript of its reference again and again
def _phones(text: str, language: str) -> str:
    return phones(text, language)
