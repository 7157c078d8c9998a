"""What goes into IndexTTS 1.5: its shape, how it reads a text, and its conditioner.

Facts read in index-tts/index-tts, ``indextts/utils/front.py``. Upstream first writes numbers, dates and units as words
with WeTextProcessing. That is not done here: texts are given as they are to be spoken.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from wand.backbones.index_tts.conditioning import FFT, LATENTS, SAMPLE_RATE, log_mel
from wand.codecs.reference import Reference
from wand.model.batch import Conditioning, left_pad

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

PIECES = "bpe.model"
# Longer references cost much memory and add nothing to the voice.
REFERENCE_SECONDS = 15
# Marks of many scripts as the few that the model knows; longer ones first.
PUNCTUATION = {
    **dict.fromkeys(("...", ",,,", "……"), "…"),
    **dict.fromkeys("，、；：;:", ","),
    **dict.fromkeys("·—～~", "-"),
    **dict.fromkeys('“”‘’"（）()《》【】[]「」', "'"),
    "。": ".",
    "！": "!",
    "？": "?",
    "\n": " ",
}
_MARK = re.compile("|".join(map(re.escape, PUNCTUATION)))
# Hangul, radicals and kana to Yi, Hangul syllables, and the compatibility and supplementary planes.
_CJK = re.compile(
    "([\u1100-\u11ff\u2e80-\ua4cf\ua840-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff65-\uffdc\U00020000-\U0002ffff])"
)


def clean_text(text: str) -> str:
    """Known marks, every CJK character apart, upper case, single blanks around what was apart.

    Args:
        text: As it is to be spoken: numbers are not written as words here.
    """
    marked = _MARK.sub(lambda found: PUNCTUATION[found.group()], text)
    return " ".join(part.strip().upper() for part in _CJK.split(marked) if part.strip())


class PieceTokenizer:
    """A SentencePiece model from its file: picklable, with a digest; read when the first text comes.

    Args:
        model: Content of ``bpe.model``.
    """

    def __init__(self, model: bytes) -> None:
        self.model = model

    @cached_property
    def digest(self) -> str:
        """Short digest of the model."""
        return hashlib.sha256(self.model).hexdigest()[:12]

    @cached_property
    def _processor(self) -> SentencePieceProcessor:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise ValueError(
                "IndexTTS reads texts with sentencepiece, which is not installed: pip install sentencepiece, or "
                "wand-tts[indextts]"
            ) from error
        try:
            processor = SentencePieceProcessor()
            processor.load_from_serialized_proto(self.model)
            return processor
        except RuntimeError as error:
            raise ValueError(f"{PIECES} is no model of SentencePiece, or damaged: fetch it anew") from error

    def __len__(self) -> int:
        return int(self._processor.get_piece_size())

    def __call__(self, text: str) -> list[int]:
        """Ids of a cleaned text.

        Raises:
            ValueError: If the text holds what the model has no piece for.
        """
        ids: list[int] = self._processor.encode(text)
        unknown = self._processor.unk_id()
        if unknown in ids:
            pieces = self._processor.encode(text, out_type=str)
            strange = sorted({piece for piece, id in zip(pieces, ids, strict=True) if id == unknown})
            raise ValueError(
                f"the text {text!r} has characters that this model does not know: {' '.join(map(repr, strange))} "
                f"(write numbers and signs as words)"
            )
        return ids

    def __getstate__(self) -> dict[str, bytes]:
        return {"model": self.model}


@dataclass(frozen=True)
class IndexTTSArchitecture:
    """Shape of an `IndexTTS`, named as in upstream's ``config.yaml``; the defaults are the released 1.5.

    Args:
        layers: Decoder layers.
        model_dim: D.
        heads: Of the decoder's attention.
        max_text_tokens: Text ids at most.
        max_mel_tokens: Codes at most.
        number_text_tokens: Pieces of the text vocabulary.
        number_mel_codes: V: codes, start and stop.
        start_text_token: Id before the text.
        stop_text_token: Id after it.
        start_mel_token: Row before the speech.
        stop_mel_token: Row that ends it.
        output_size: Width of the conformer.
        linear_units: Of its feed-forward layers.
        attention_heads: Of the conformer and the perceiver.
        num_blocks: Of the conformer.
        perceiver_mult: Width of the perceiver's feed-forward layers, in times D.
        dtype: Of the weights on disk.
    """

    layers: int = 24
    model_dim: int = 1280
    heads: int = 20
    max_text_tokens: int = 600
    max_mel_tokens: int = 800
    number_text_tokens: int = 12_000
    number_mel_codes: int = 8194
    start_text_token: int = 0
    stop_text_token: int = 1
    start_mel_token: int = 8192
    stop_mel_token: int = 8193
    output_size: int = 512
    linear_units: int = 2048
    attention_heads: int = 8
    num_blocks: int = 6
    perceiver_mult: int = 2
    dtype: str = "float16"


@dataclass(frozen=True, eq=False)
class IndexTTSConditioner:
    """The text's ids and the reference's log-mel.

    Texts are cleaned as upstream does, but numbers are not written as words; see `clean_text`.

    Args:
        shape: Of the model.
        tokenizer: Of the text; None before the model's files are there.
    """

    shape: IndexTTSArchitecture
    tokenizer: PieceTokenizer | None = None

    @property
    def fingerprint(self) -> str:
        """Short digest of the tokenizer, its ids and the reference's length."""
        words = "" if self.tokenizer is None else self.tokenizer.digest
        shape = self.shape
        parts = (words, shape.start_text_token, shape.stop_text_token, shape.max_text_tokens, REFERENCE_SECONDS)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    def __call__(self, text: str, reference: Reference) -> Conditioning:
        """``text [n + 2]``, start and stop around it, and ``mel [F, 100]`` of the reference's first 15 seconds.

        Raises:
            ValueError: If the text is empty, too long or has unknown characters, or the reference has no sound.
        """
        ids = self._read(text)
        audio = reference.audio
        if audio is None:
            raise ValueError("IndexTTS hears its reference: give it as a sound at 24 kHz, not as codes alone")
        if len(audio) <= FFT:
            raise ValueError(f"the reference has {len(audio)} samples: give a sound of at least half a second")
        return self.prefix(ids, log_mel(audio[: REFERENCE_SECONDS * SAMPLE_RATE].float()))

    def _read(self, text: str) -> list[int]:
        cleaned = clean_text(text)
        if not cleaned:
            raise ValueError("the text is empty: give at least one word")
        if self.tokenizer is None:
            raise ValueError(f"the file of IndexTTS's tokenizer ({PIECES}) is missing: set backbone.pretrained")
        shape = self.shape
        if len(self.tokenizer) > shape.number_text_tokens:
            raise ValueError(
                f"{PIECES} has {len(self.tokenizer)} pieces, the model has {shape.number_text_tokens}: fetch its own"
            )
        marks = (shape.start_text_token, shape.stop_text_token)
        ids = [id for id in self.tokenizer(cleaned) if id not in marks]
        if len(ids) > shape.max_text_tokens:
            raise ValueError(
                f"the text takes {len(ids)} tokens, the model has positions for {shape.max_text_tokens}: speak it in "
                f"parts (it begins {text[:40]!r})"
            )
        return ids

    def prefix(self, text: Sequence[int], mel: Tensor) -> Conditioning:
        """The conditioning of text ids and of a reference's log-mel ``[F, 100]``."""
        marked = [self.shape.start_text_token, *text, self.shape.stop_text_token]
        return {"text": torch.tensor(marked), "mel": mel}

    def length(self, conditioning: Conditioning) -> int:
        """Prefix columns: latents, text with its marks, start of speech."""
        return LATENTS + len(conditioning["text"]) + 1

    def collate(self, conditionings: Sequence[Conditioning], prefix_length: int) -> Conditioning:
        """``text [B, P - 1]`` left-padded, latents' columns empty; ``mel [B, F, 100]`` right-padded; ``frames [B]``."""
        mels = [c["mel"] for c in conditionings]
        return {
            "text": left_pad([c["text"] for c in conditionings], prefix_length - 1),
            "mel": nn.utils.rnn.pad_sequence(mels, batch_first=True),
            "frames": torch.tensor([len(mel) for mel in mels]),
        }
