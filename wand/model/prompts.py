"""What a causal language model that speaks is given and answers: prompts, and the names of its speech tokens."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self

import torch
from torch import Tensor

from wand.codecs.reference import Reference
from wand.model.batch import Conditioning, left_pad
from wand.model.columns import ColumnLayout, FlattenedLayout
from wand.model.sampling import RepetitionAware, Sampling
from wand.model.tokenizers import TextTokenizer
from wand.text.front_end import phones

# What a prompt may hold beside its own words; the first three are texts, the others tokens.
TEXTS = ("text", "reference_text", "speaker")
CODES = ("reference", "global_codes")
# Prompts of models that clone nobody hold nothing of a reference.
NOBODY = Reference(codes=torch.zeros(1, 0, dtype=torch.long))
_MARKS = re.compile(r"<[^<>{}\s]+>")
_CODE_PLACES = re.compile(r"(\{(?:reference|global_codes)\})")


@dataclass(frozen=True)
class SpeechTokens:
    """Names of the tokens that stand for the codes of one slot of a frame.

    Args:
        pattern: Name of a token, its number as ``{}``: ``<|s_{}|>``.
        count: Codes; as many as the tokenizer has by default.
        first: Number of the first code.
        codebook: Codebook of the codec that the slot speaks.
    """

    pattern: str
    count: int | None = None
    first: int = 0
    codebook: int = 0

    def __post_init__(self) -> None:
        if self.pattern.count("{}") != 1:
            raise ValueError(f"the pattern {self.pattern!r} of speech tokens must hold the number's place once: {{}}")

    def counted(self, tokenizer: TextTokenizer) -> SpeechTokens:
        """The same, its codes counted in the tokenizer where that is left to it."""
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
        """Codes, known."""
        assert self.count is not None, "the tokenizer counts them first"
        return self.count

    def ids(self, tokenizer: TextTokenizer) -> list[int]:
        """Their ids.

        Raises:
            ValueError: If the tokenizer lacks one.
        """
        return [tokenizer.token_id(self.pattern.format(self.first + code)) for code in range(self.size)]


@dataclass(frozen=True)
class SpeechFormat:
    """How a causal language model speaks.

    Args:
        speech_tokens: Of every slot of a frame; one slot where a frame is one token.
        stop_tokens: Names of the tokens that end the speech; the first is what training teaches.
        prompt: The prefix, with ``{text}`` and perhaps ``{speaker}`` and ``{global_codes}``.
        frame_rate: Frames a second, in Hz.
        sample_rate: Of the speech, in Hz.
        prompt_with_reference: The prefix where the words of the reference are known, with ``{reference_text}`` and,
            at its end, the speech itself: ``{reference}``. By default references are cloned as `prompt` says.
        global_tokens: Names of the tokens of ``{global_codes}``.
        front_end: How texts are written: ``raw``, or ``phones`` (needs espeak-ng).
        sampling: How the model is meant to be sampled.
    """

    speech_tokens: list[SpeechTokens]
    stop_tokens: list[str]
    prompt: str
    frame_rate: float
    sample_rate: int
    prompt_with_reference: str | None = None
    global_tokens: SpeechTokens | None = None
    front_end: Literal["raw", "phones"] = "raw"
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if not self.speech_tokens or not self.stop_tokens:
            raise ValueError("a speech format needs speech_tokens and stop_tokens: at least one of each")
        for name, prompt in (("prompt", self.prompt), ("prompt_with_reference", self.prompt_with_reference)):
            places = re.findall(r"\{(\w*)\}", prompt or "{text}")
            if "text" not in places or set(places) - {*TEXTS, *CODES}:
                known = ", ".join(f"{{{place}}}" for place in (*TEXTS, *CODES))
                raise ValueError(f"{name} {prompt!r} must hold {{text}}, and of {known} what it needs")
            if "global_codes" in places and self.global_tokens is None:
                raise ValueError(f"{name} {prompt!r} holds {{global_codes}}: say in global_tokens what they are called")

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """The format of its plain values."""
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
        """The same, with all codes counted."""
        return replace(
            self,
            speech_tokens=[slot.counted(tokenizer) for slot in self.speech_tokens],
            global_tokens=None if self.global_tokens is None else self.global_tokens.counted(tokenizer),
        )

    def check(self, tokenizer: TextTokenizer) -> None:
        """Refuse a tokenizer that would spell out a mark of the prompts.

        Raises:
            ValueError: Names the mark.
        """
        for prompt in (self.prompt, self.prompt_with_reference or ""):
            for mark in _MARKS.findall(prompt):
                tokenizer.token_id(mark)

    @property
    def rows(self) -> int:
        """V: codes of all slots, then the stop tokens."""
        return sum(slot.size for slot in self.speech_tokens) + len(self.stop_tokens)

    def layout(self) -> ColumnLayout:
        """One column for every slot of a frame."""
        sizes = tuple(slot.size for slot in self.speech_tokens)
        stop = sum(sizes)
        if len(sizes) == 1:
            return ColumnLayout(1, stop, stop)
        return FlattenedLayout(1, stop, stop, sizes, tuple(slot.codebook for slot in self.speech_tokens))

    def row_ids(self, tokenizer: TextTokenizer) -> list[int]:
        """Id of every row of the speech vocabulary."""
        codes = [id for slot in self.speech_tokens for id in slot.ids(tokenizer)]
        return [*codes, *map(tokenizer.token_id, self.stop_tokens)]


@dataclass(frozen=True, eq=False)
class PromptConditioner:
    """Text and reference as the ids of a prompt.

    Args:
        format: The prompts.
        tokenizer: Of the model; None before its files are there.
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

    @property
    def known_tokenizer(self) -> TextTokenizer:
        """The tokenizer.

        Raises:
            ValueError: If its files are missing.
        """
        if self.tokenizer is None:
            raise ValueError("the files of the model's tokenizer are missing: set backbone.pretrained")
        return self.tokenizer

    def __call__(self, text: str, reference: Reference) -> Conditioning:
        """``ids [L]``: ids of the prompt."""
        if not text.strip():
            raise ValueError("the text is empty: give at least one word")
        words = (reference.text or "").strip()
        template = self.format.prompt
        if words and self.format.prompt_with_reference is not None:
            template = self.format.prompt_with_reference
        return self.fill(template, text, reference)

    def fill(self, template: str, text: str, reference: Reference = NOBODY) -> Conditioning:
        """The ids of a prompt's template.

        Raises:
            ValueError: If the reference lacks what the template holds.
        """
        texts = {"text": self._written(text), "reference_text": self._written(reference.text or "")}
        if "{speaker}" in template:
            if not reference.speaker:
                raise ValueError(f"the prompt {template!r} names a voice: the reference must say which speaker it is")
            texts["speaker"] = reference.speaker
        ids = [self._part_ids(part, texts, reference) for part in _CODE_PLACES.split(template)]
        return {"ids": torch.cat(ids)}

    def global_codes(self, ids: Tensor) -> Tensor:
        """The global codes among ids ``[L]`` of a prompt."""
        return torch.stack([(self._global_ids == token).nonzero()[0, 0] for token in ids if token in self._global_ids])

    def _written(self, text: str) -> str:
        return phones(text) if self.format.front_end == "phones" and text.strip() else text

    def _part_ids(self, part: str, texts: dict[str, str], reference: Reference) -> Tensor:
        if part == "{reference}":
            return self._speech_ids[self.format.layout().to_columns(reference.codes.long())[:, 0]]
        if part == "{global_codes}":
            if reference.global_codes is None:
                raise ValueError("the reference has no global codes: they are what this model knows of a voice")
            return self._global_ids[reference.global_codes.long()]
        return torch.tensor(self.known_tokenizer(part.format(**texts)), dtype=torch.long)

    def length(self, conditioning: Conditioning) -> int:
        """Prefix columns of one conditioning."""
        return len(conditioning["ids"])

    def collate(self, conditionings: Sequence[Conditioning], prefix_length: int) -> Conditioning:
        """``ids [B, P]``, left-padded."""
        return {"ids": left_pad([c["ids"] for c in conditionings], prefix_length)}
