"""Inputs of IndexTTS 1.5: the shape, the text tokenizer and the conditioner.

Facts read in index-tts/index-tts, ``indextts/utils/front.py``, at tag v1.5.0 (commit 9098497). Upstream also runs
WeTextProcessing, which writes numbers, dates and units as words and, in Chinese texts, traditional letters as
simplified ones. This module does not: write texts as they should be spoken.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from wand.backbones.index_tts.conditioning import FFT, LATENTS, SAMPLE_RATE, log_mel
from wand.codecs.reference import Reference
from wand.files.sound import check_audible
from wand.model.batch import Conditioning, left_pad
from wand.model.text_tokens import TextTokens
from wand.text.characters import EMPTY, RULES, compose
from wand.text.words import place_words, split_words

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

PIECES = "bpe.model"
# Longer references are cut: they cost much memory and do not improve the voice.
REFERENCE_SECONDS = 15
# Number of the rules of `clean_text`. It is part of the fingerprint.
TEXT_RULES = 2
# Maps punctuation of many scripts to the few marks that the model knows. Longer marks come first.
PUNCTUATION = {
    **dict.fromkeys(("...", ",,,", "，，，", "……"), "…"),
    **dict.fromkeys("，、；：;:", ","),
    **dict.fromkeys("·—～~", "-"),
    **dict.fromkeys('“”‘’"（）()《》【】[]「」', "'"),
    "。": ".",
    "！": "!",
    "？": "?",
    "\n": " ",
}
# Rare letters of interjections, and more frequent ones that sound alike.
_HOMOPHONES = str.maketrans({"嗯": "恩", "呣": "母"})
# The closed list of words whose 's is read as "is". After other words it may be a genitive.
_IS = re.compile(r"\b(what|where|who|which|how|there|here|it|she|he|that|this)['’]s\b", re.IGNORECASE)
# After j, q and x, pinyin writes u for the vowel ü. The model knows this vowel as v.
_UMLAUT = re.compile(r"(?<![a-z])([jqx])[uü](?=(?:e|n|an)?[1-5])", re.IGNORECASE)
_MARK = re.compile("|".join(map(re.escape, PUNCTUATION)))
# Hangul, radicals and kana to Yi, Hangul syllables, and the compatibility and supplementary planes.
_CJK = re.compile(
    "([\u1100-\u11ff\u2e80-\ua4cf\ua840-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff65-\uffdc\U00020000-\U0002ffff])"
)


def clean_text(text: str) -> str:
    """Normalise a text as upstream does, apart from WeTextProcessing.

    It writes ``it's`` and its like as ``it is`` and the pinyin ``ju4`` as ``JV4``, maps punctuation to known marks,
    splits CJK characters with spaces, and converts to upper case. Unlike upstream, it also knows the apostrophe ``’``,
    leaves words that only end like those of the list (``spirit's``), and does not read ``$`` as a full stop.

    Args:
        text: The text, with numbers written as words. Pinyin ends with its tone, 1 to 5.
    """
    spoken = _UMLAUT.sub(r"\1v", _IS.sub(r"\1 is", compose(text).translate(_HOMOPHONES)))
    marked = _MARK.sub(lambda found: PUNCTUATION[found.group()], spoken)
    return " ".join(part.strip().upper() for part in _CJK.split(marked) if part.strip())


class PieceTokenizer:
    """A picklable SentencePiece tokenizer with a digest. The model is loaded on first use.

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
                "the tokenizer of IndexTTS needs sentencepiece, which is not installed: pip install sentencepiece, or "
                "wand-tts[indextts]"
            ) from error
        try:
            processor = SentencePieceProcessor()
            processor.load_from_serialized_proto(self.model)
            return processor
        except RuntimeError as error:
            raise ValueError(f"{PIECES} is not a SentencePiece model, or is damaged: download it again") from error

    def __len__(self) -> int:
        return int(self._processor.get_piece_size())

    def __call__(self, text: str) -> list[int]:
        """Ids of a cleaned text.

        Raises:
            ValueError: If the text has characters that the model does not know.
        """
        ids: list[int] = self._processor.encode(text)
        unknown = self._processor.unk_id()
        if unknown in ids:
            strange = sorted({piece for piece, id in zip(self.pieces(text), ids, strict=True) if id == unknown})
            raise ValueError(
                f"the text {text!r} has characters that this model does not know: {' '.join(map(repr, strange))} "
                f"(write numbers and signs as words)"
            )
        return ids

    def pieces(self, text: str) -> list[str]:
        """The texts of the ids of a cleaned text. Blanks are written as ``▁``."""
        pieces: list[str] = self._processor.encode(text, out_type=str)
        return pieces

    def __getstate__(self) -> dict[str, bytes]:
        return {"model": self.model}


@dataclass(frozen=True)
class IndexTTSArchitecture:
    """Shape of an `IndexTTS`, with the names of upstream's ``config.yaml``. The defaults describe the released 1.5.

    Args:
        layers: Number of decoder layers.
        model_dim: D.
        heads: Number of attention heads of the decoder.
        max_text_tokens: Maximum number of text ids.
        max_mel_tokens: Maximum number of codes.
        number_text_tokens: Size of the text vocabulary.
        number_mel_codes: V: codes, start and stop.
        start_text_token: Id before the text.
        stop_text_token: Id after the text.
        start_mel_token: Row before the speech.
        stop_mel_token: Row after the speech.
        output_size: Width of the conformer.
        linear_units: Width of the conformer's feed-forward layers.
        attention_heads: Number of attention heads of the conformer and the perceiver.
        num_blocks: Number of blocks of the conformer.
        perceiver_mult: Width of the perceiver's feed-forward layers, as a multiple of D.
        dtype: The dtype of the weights on disk.
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
    """Turns a text into ids and a reference into a log-mel.

    Texts are normalised as upstream does, except for what WeTextProcessing does there: numbers, dates and units are not
    written as words. See `clean_text`.

    Args:
        shape: Shape of the model.
        tokenizer: Text tokenizer; None before the files of the model are read.
    """

    shape: IndexTTSArchitecture
    tokenizer: PieceTokenizer | None = None

    @property
    def fingerprint(self) -> str:
        """Short digest of the tokenizer, its ids, the rules for texts and the length of the reference."""
        words = "" if self.tokenizer is None else self.tokenizer.digest
        shape = self.shape
        marks = (shape.start_text_token, shape.stop_text_token)
        parts = (words, RULES, TEXT_RULES, *marks, shape.max_text_tokens, REFERENCE_SECONDS)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    def __call__(self, text: str, reference: Reference) -> Conditioning:
        """``text [n + 2]``, with start and stop, and ``mel [F, 100]`` of the first 15 seconds of the reference.

        Raises:
            ValueError: If the text is empty, too long or has unknown characters, or the reference has no audio.
        """
        return self.with_tokens(self.tokens(text).ids, reference)

    def tokens(self, text: str, joined: bool = False) -> TextTokens:
        """The tokens of a unit of text. The tokenizer reads a blank before every text, so all units begin alike."""
        cleaned = clean_text(text)
        if not cleaned:
            raise ValueError(EMPTY)
        if self.tokenizer is None:
            raise ValueError(
                f"the tokenizer file of IndexTTS ({PIECES}) is missing: set model.backbone.init_args.pretrained"
            )
        shape = self.shape
        if len(self.tokenizer) > shape.number_text_tokens:
            raise ValueError(
                f"{PIECES} has {len(self.tokenizer)} pieces, the model has {shape.number_text_tokens}: use its own file"
            )
        marks = (shape.start_text_token, shape.stop_text_token)
        ids = [id for id in self.tokenizer(cleaned) if id not in marks]
        pieces = self.tokenizer.pieces(cleaned)
        ends = list(accumulate(map(len, pieces)))
        words = split_words(text)
        readings = [f" {clean_text(word)}".replace(" ", "▁") for word in words]
        read = "".join(pieces)
        begins = place_words(readings, read)
        return TextTokens.of(ids, list(pairwise([0, *ends])), read.replace("▁", " "), words, begins)

    def opening(self, reference: Reference) -> str:
        """Nothing: marks of the model stand around the text."""
        return ""

    def with_tokens(self, ids: Sequence[int], reference: Reference) -> Conditioning:
        """The conditioning of `__call__` for the ids of a text."""
        if len(ids) > self.shape.max_text_tokens:
            raise ValueError(
                f"the text takes {len(ids)} tokens, the model has positions for {self.shape.max_text_tokens}: split "
                f"the text"
            )
        audio = reference.audio
        if audio is None:
            raise ValueError("IndexTTS needs the audio of the reference, at 24 kHz: codes are not enough")
        if len(audio) <= FFT:
            raise ValueError(f"the reference has {len(audio)} samples: give a sound of at least half a second")
        heard = audio[: REFERENCE_SECONDS * SAMPLE_RATE].float()
        check_audible(heard, SAMPLE_RATE, f"the first {len(heard) / SAMPLE_RATE:.1f} s of the reference")
        return self.prefix(ids, log_mel(heard))

    def text_span(self, conditioning: Conditioning) -> tuple[int, int]:
        """The columns between the two marks of the text."""
        begin = LATENTS + 1
        return begin, begin + len(conditioning["text"]) - 2

    def prefix(self, text: Sequence[int], mel: Tensor) -> Conditioning:
        """The conditioning for text ids and the log-mel ``[F, 100]`` of a reference."""
        marked = [self.shape.start_text_token, *text, self.shape.stop_text_token]
        return {"text": torch.tensor(marked), "mel": mel}

    def length(self, conditioning: Conditioning) -> int:
        """Number of prefix columns: latents, text with start and stop, start of speech."""
        return LATENTS + len(conditioning["text"]) + 1

    def collate(self, conditionings: Sequence[Conditioning], prefix_length: int) -> Conditioning:
        """``text [B, P - 1]``, left-padded (0 at the latents); ``mel [B, F, 100]``, right-padded; ``frames [B]``."""
        mels = [c["mel"] for c in conditionings]
        return {
            "text": left_pad([c["text"] for c in conditionings], prefix_length - 1),
            "mel": nn.utils.rnn.pad_sequence(mels, batch_first=True),
            "frames": torch.tensor([len(mel) for mel in mels]),
        }
