"""Training data from the teacher: the original full-attention model speaks given texts.

This needs no corpus of speech. If the prompts contain codes, it needs no codec either.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

from wand.attention import AttentionWindow
from wand.checks import check_shares, check_whole_number
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.data.encoding import Encoder, check_length, is_coded
from wand.data.example import Example, Refusal
from wand.data.sources.source import SPLITS, NamedCodes, SpeechCodes, SpeechSource, Utterance, split_by_name
from wand.data.validate import SpeechLimits, check_text, read_sound
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate
from wand.decoding.stopping import StopReason
from wand.files.sound import Unusable
from wand.files.text import read_lines
from wand.model.adapters import build_backbone
from wand.model.backbone import Backbone
from wand.model.batch import Conditioning, make_batch
from wand.speech.speaking import stop_rules

NO_CODES = SpeechCodes(torch.zeros(1, 0, dtype=torch.long))


class TeacherSamples:
    """Texts that the original model speaks in the voices of prompts.

    Args:
        texts: Path of a file with one text per line.
        prompts: A corpus whose utterances give the voices. All its splits are used.
        validation_share: Share of the texts to validate on.
        test_share: Share of the texts to test on.
        rows: Number of texts that are spoken at once, as rows of a batch.
        seed: Seed for the choice of prompts and for sampling.

    Raises:
        ValueError: If the file does not exist or contains no text, or a share is outside [0, 1].
    """

    def __init__(
        self,
        texts: str,
        prompts: SpeechSource,
        validation_share: float = 0.02,
        test_share: float = 0.02,
        rows: int = 16,
        seed: int = 0,
    ) -> None:
        for name, share in (("validation_share", validation_share), ("test_share", test_share)):
            if not 0 <= share <= 1:
                raise ValueError(f"data.source.{name} {share} is outside [0, 1]: it is a share of the texts")
        if not Path(texts).is_file():
            raise ValueError(f"no file of texts at {texts}")
        self.texts = [line.strip() for _, line in read_lines(Path(texts))]
        if not self.texts:
            raise ValueError(f"no text in {texts}: the file must have one text per line")
        self.prompts = prompts
        check_shares(validation_share, test_share)
        self.shares = (validation_share, test_share)
        check_whole_number("rows", rows, least=1)
        check_whole_number("seed", seed)
        self.rows = rows
        self.seed = seed
        self.sample_rate = prompts.sample_rate

    @cached_property
    def coded(self) -> bool:
        """Whether the prompts contain codes."""
        return is_coded(self.prompts)

    @cached_property
    def voices(self) -> dict[str, Utterance]:
        """The prompts by id."""
        return {utterance.id: utterance for split in SPLITS for utterance in self.prompts.utterances(split)}

    @cached_property
    def fingerprint(self) -> str:
        """Digest of texts, prompts and seed."""
        parts = (self.texts, self.prompts.fingerprint, self.shares, self.seed)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def utterances(self, split: str) -> list[Utterance]:
        """The texts of one split, each with its prompt as reference."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        found = []
        for i, text in enumerate(self.texts):
            if split_by_name(text, *self.shares) == split:
                name = f"text-{i:06d}"
                prompt = random.Random(f"{self.seed}/{name}").choice(list(self.voices.values()))
                found.append(Utterance(name, text, prompt.speaker, prompt.id))
        return found

    def audio(self, utterance: Utterance) -> Tensor:
        """The audio of the prompt. The model's own speech exists only as codes."""
        return self.prompts.audio(self._prompt(utterance))

    def codes(self, utterance: Utterance) -> SpeechCodes:
        """The codes of the prompt."""
        own: SpeechCodes = self.prompts.codes(self._prompt(utterance))  # type: ignore[attr-defined]
        return own

    def check_codes(self, backbone: Backbone) -> None:
        """Refuse prompts whose codes are not those of a model."""
        if isinstance(self.prompts, NamedCodes):
            self.prompts.check_codes(backbone)

    def _prompt(self, utterance: Utterance) -> Utterance:
        return self.voices[utterance.reference or utterance.id]


class TeacherSpeech:
    """Speaks texts with the original model.

    Args:
        source: Texts and prompts.
        backbone: The model to be adapted. Its original weights are loaded into a second model.
        codec: Codec for the prompts; None if they contain codes or the model needs none.
        max_seconds: Longest speech allowed, in seconds.

    Raises:
        ValueError: If the model has no original weights.
    """

    def __init__(self, source: TeacherSamples, backbone: Backbone, codec: Codec | None, max_seconds: float) -> None:
        if backbone.pretrained is None:
            raise ValueError("TeacherSamples needs the original model: set model.backbone.init_args.pretrained")
        self.source = source
        self.max_seconds = max_seconds
        self.codec = codec
        self.encode = lru_cache(maxsize=256)(Encoder(source, codec, SpeechLimits.of(backbone, math.inf, prompts=True)))
        self.model = build_backbone(backbone.spec(), backbone.files)
        self.model.pretrained = backbone.pretrained
        self.model.load_pretrained()
        self.model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def speak(self, part: Sequence[Utterance], on_done: Callable[[int], object]) -> Iterator[Example | Refusal]:
        """Speak the texts of a shard.

        Args:
            part: The texts.
            on_done: Called with the number of texts that have been spoken since the last call.
        """
        for start in range(0, len(part), self.source.rows):
            chosen = part[start : start + self.source.rows]
            conditioned = [(utterance, self._condition(utterance)) for utterance in chosen]
            yield from (made for _, made in conditioned if isinstance(made, Refusal))
            yield from self._speak([(u, made) for u, made in conditioned if not isinstance(made, Refusal)])
            on_done(len(chosen))

    def _condition(self, utterance: Utterance) -> Conditioning | Refusal:
        prompt = self.source.voices[str(utterance.reference)]
        own = self.encode(prompt) if self.source.coded or self.codec is not None else NO_CODES
        if isinstance(own, Refusal):
            return Refusal(utterance.id, "its prompt", own.detail)
        try:
            check_text(utterance.text)
            audio = None
            if self.model.hears_references:
                audio = read_sound(self.source, utterance, self.model.sample_rate)
            reference = Reference(own.codes, audio, prompt.text, own.global_codes, prompt.speaker)
            return self.model.conditioner(utterance.text, reference)
        except Unusable as error:
            return Refusal(utterance.id, error.why, str(error))
        except ValueError as error:
            return Refusal(utterance.id, "its text or prompt", str(error))

    def _speak(self, conditioned: Sequence[tuple[Utterance, Conditioning]]) -> Iterator[Example | Refusal]:
        if not conditioned:
            return
        model = self.model
        spoken = generate(
            Decoder(model, AttentionWindow()),
            make_batch(model.conditioner, model.layout, [conditioning for _, conditioning in conditioned]),
            rules=stop_rules(model, self.codec, self.max_seconds),
            seeds=[crc32(f"{utterance.id}/{self.source.seed}".encode()) for utterance, _ in conditioned],
        )
        for (utterance, conditioning), one in zip(conditioned, spoken, strict=True):
            checked = check_length(utterance, SpeechCodes(one.codes), model, self.max_seconds)
            if one.reason != StopReason.STOP_TOKEN:
                yield Refusal(utterance.id, f"ended by {one.reason}", f"{one.codes.shape[1]} frames without a stop")
            elif isinstance(checked, Refusal):
                yield checked
            else:
                yield Example(
                    utterance.id, utterance.text, utterance.speaker, conditioning, one.codes, utterance.reference
                )
