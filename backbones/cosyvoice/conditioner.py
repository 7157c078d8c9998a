"""How CosyVoice turns text and a reference into prefix ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from wand.backbones.cosyvoice.version_3 import VERSION_3_TOKENS
from wand.codecs.reference import Reference
from wand.model.batch import Conditioning, left_pad
from wand.model.text_tokens import TextTokens, raw_tokens
from wand.model.tokenizers import PromptTokenizer, TextTokenizer
from wand.text.characters import check_not_empty

QWEN = "CosyVoice-BlankEN"
END_OF_PROMPT = "<|endofprompt|>"
# Added to Qwen2's tokenizer, in this order (cosyvoice/tokenizer/tokenizer.py).
SPECIAL_TOKENS = (
    "<|im_start|>", "<|im_end|>", END_OF_PROMPT, "[breath]", "<strong>", "</strong>", "[noise]", "[laughter]",
    "[cough]", "[clucking]", "[accent]", "[quick_breath]", "<laughter>", "</laughter>", "[hissing]", "[sigh]",
    "[vocalized-noise]", "[lipsmack]", "[mn]",
)  # fmt: skip
# By version of the model.
ADDED_TOKENS = {2: SPECIAL_TOKENS, 3: SPECIAL_TOKENS + VERSION_3_TOKENS}
# Upstream documents these for users. They act in a text; the control tokens do not.
TAGS = {
    version: tuple(token for token in tokens if not token.startswith("<|")) for version, tokens in ADDED_TOKENS.items()
}
# Number of control rows after the codes. Version 2: end of speech first. Version 3: start, end, task, fill and others.
CONTROL_ROWS = {2: 3, 3: 200}
# Every instruction of version 3 begins with this sentence.
SYSTEM_SENTENCE = "You are a helpful assistant."
CONTROL, TEXT, SPEECH = 0, 1, 2


@dataclass(frozen=True)
class CosyVoiceArchitecture:
    """Shape of a `CosyVoice2`. The defaults describe the released 0.5B model.

    Args:
        hidden_size: D.
        intermediate_size: Width of the feed-forward layers.
        num_layers: Number of decoder layers.
        num_heads: Number of query heads.
        num_key_value_heads: Number of key/value heads.
        text_vocab_size: Rows of the text embedding.
        speech_tokens: Number of codes of the speech tokenizer.
        version: 2 or 3.
        instruction: An instruction in words for how to speak; null uses only the reference.
        dtype: The dtype of the weights on disk.
        allow_special_tokens: Let all tokens of the tokenizer act in a text, not only upstream's tags.
    """

    hidden_size: int = 896
    intermediate_size: int = 4864
    num_layers: int = 24
    num_heads: int = 14
    num_key_value_heads: int = 2
    text_vocab_size: int = 151_936
    speech_tokens: int = 6561
    version: int = 2
    instruction: str | None = None
    dtype: str = "float32"
    allow_special_tokens: bool = False

    def __post_init__(self) -> None:
        if self.version not in CONTROL_ROWS:
            raise ValueError(f"version {self.version} of CosyVoice is not known: give 2 or 3")

    @property
    def speech_rows(self) -> int:
        """V: codes and control rows."""
        return self.speech_tokens + CONTROL_ROWS[self.version]


def control_rows(shape: CosyVoiceArchitecture) -> tuple[int, int]:
    """The rows of start and task: in a table of their own in version 2, in that of the speech in version 3."""
    return (0, 1) if shape.version == 2 else (shape.speech_tokens, shape.speech_tokens + 2)


@dataclass(frozen=True, eq=False)
class CosyVoiceConditioner:
    """Turns text and prompt speech into prefix ids, and names the embedding table of each id.

    There are three modes, named as upstream names them. Zero-shot: the reference has a transcript, which comes before
    the text, and its codes come after the text. Cross-lingual: the reference has no transcript; the language model does
    not see it, and only the flow uses its voice. Instruct2: there is an instruction, and the codes of the reference are
    left out.

    Args:
        shape: Shape of the model.
        tokenizer: Text tokenizer; None before the files of the model are read.
    """

    shape: CosyVoiceArchitecture
    tokenizer: TextTokenizer | None = None

    @property
    def fingerprint(self) -> str:
        """Short digest of tokenizer, version, instruction and tags."""
        words = "" if self.tokenizer is None else self.tokenizer.digest
        shape = self.shape
        parts = (words, shape.version, shape.instruction, shape.speech_tokens, self._tags)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    @property
    def _tags(self) -> tuple[str, ...] | None:
        return None if self.shape.allow_special_tokens else TAGS[self.shape.version]

    @cached_property
    def _reader(self) -> PromptTokenizer:
        if self.tokenizer is None:
            raise ValueError(
                f"the files of CosyVoice's tokenizer ({QWEN}) are missing: set model.backbone.init_args.pretrained"
            )
        return PromptTokenizer(self.tokenizer, self._tags)

    def __call__(self, text: str, reference: Reference) -> Conditioning:
        """``ids [L]`` and ``table [L]``: 0 control, 1 text, 2 speech."""
        return self.with_tokens(self.tokens(text).ids, reference)

    def tokens(self, text: str, joined: bool = False) -> TextTokens:
        """The tokens of a unit of text."""
        check_not_empty(text)
        plain = self._reader.text(text)
        return raw_tokens(plain, *self._reader.read(plain))

    def opening(self, reference: Reference) -> str:
        """Nothing: the text is read without what stands before it."""
        return ""

    def with_tokens(self, ids: Sequence[int], reference: Reference) -> Conditioning:
        """``ids [L]`` and ``table [L]`` for the ids of a text."""
        reader, spoken = self._reader, list(ids)
        continued = self.shape.instruction is None and bool((reference.text or "").strip())
        before = reader.text(reference.text or "") if continued else ""
        if self.shape.instruction is not None or self.shape.version == 3:
            before = reader.text(self._instruction()) + reader.marks(END_OF_PROMPT) + before
        prompt = reader(before) if before else []
        if self.shape.instruction is None and not continued:
            prompt, spoken = [], prompt + spoken  # upstream's cross-lingual mode: the bounds of the length count both
        speech = reference.codes[0].long() if continued else torch.zeros(0, dtype=torch.long)
        return self.prefix(prompt, spoken, speech)

    def text_span(self, conditioning: Conditioning) -> tuple[int, int]:
        """The columns between the prompt and the task token."""
        written = int((conditioning["table"] == TEXT).sum())
        begin, end = 1 + written - int(conditioning["spoken"]), 1 + written
        if self.shape.version == 3 and begin == 1:  # cross-lingual: the prompt is counted as spoken
            closing = self._reader.tokenizer.token_id(END_OF_PROMPT)
            begin += conditioning["ids"][1:end].tolist().index(closing) + 1
        return begin, end

    def _instruction(self) -> str:
        """The instruction without its end token, which users may have copied from upstream's examples."""
        given = (self.shape.instruction or "").removesuffix(END_OF_PROMPT)
        if self.shape.version == 2 or given.startswith(SYSTEM_SENTENCE):
            return given
        return f"{SYSTEM_SENTENCE} {given}".rstrip()

    def prefix(self, prompt: Sequence[int], text: Sequence[int], speech: Tensor) -> Conditioning:
        """The prefix from prompt ids, text ids and prompt speech ``[R]``; ``spoken [1]`` is the number of text ids."""
        start, task = control_rows(self.shape)
        control = CONTROL if self.shape.version == 2 else SPEECH
        written = [*prompt, *text]
        ids = torch.cat([torch.tensor([start, *written, task]), speech])
        table = torch.tensor([control, *[TEXT] * len(written), control, *[SPEECH] * len(speech)])
        return {"ids": ids, "table": table, "spoken": torch.tensor([len(text)])}

    def length(self, conditioning: Conditioning) -> int:
        """Number of prefix columns of one conditioning."""
        return len(conditioning["ids"])

    def collate(self, conditionings: Sequence[Conditioning], prefix_length: int) -> Conditioning:
        """``ids [B, P]`` and ``table [B, P]``, left-padded; ``spoken [B]``."""
        made = {name: left_pad([c[name] for c in conditionings], prefix_length) for name in ("ids", "table")}
        return {**made, "spoken": torch.cat([c["spoken"] for c in conditionings])}
