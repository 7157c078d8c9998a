"""A corpus of codes: speech that voices outside this package have spoken, encoded with the embedded codec."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wand.assets import asset_folder
from wand.checks import check_number, check_whole_number
from wand.codecs.encodec import EMBEDDED
from wand.data.sources.source import SPLITS, SpeechCodes, Utterance
from wand.files.contents import content_digests
from wand.files.text import read_lines
from wand.model.backbone import Backbone

CODES, INDEX = "codes.safetensors", "utterances.jsonl"


@dataclass(frozen=True, slots=True)
class CodedUtterance:
    """One utterance of a `CodedCorpus`.

    Args:
        utterance: Id, text and speaker.
        start: Its first frame among the frames of all utterances.
        frames: Number of its frames.
        voiced: First frame of the speech and the frame after its end, from its first frame on; None if no sound was
            heard.
    """

    utterance: Utterance
    start: int
    frames: int
    voiced: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class CodesFile:
    """The codes of a `CodedCorpus`.

    Args:
        codes: Codes of all utterances, uint8 ``[K, F]``.
        codec: Fingerprint of their codec.
        frame_rate: Its frame rate, in Hz.
    """

    codes: Tensor
    codec: str
    frame_rate: float


class CodedCorpus:
    """Speech as codes of one codec, which needs neither a synthesiser nor an encoder.

    A folder has ``codes.safetensors``, with the codes of all utterances one after another (`codes`, uint8 ``[K, F]``),
    the codec's fingerprint and its frame rate, and ``utterances.jsonl``, with `id`, `text`, `speaker`, `split`,
    `frames` and `voiced` in each line.

    Args:
        folder: The folder; ``embedded`` is the speech that comes with this package.
        hours: Use the first hours of the training split; None uses all.
        validation_sentences: Use the first sentences of the validation split; None uses all.
        test_sentences: Use the first sentences of the test split; None uses all.

    Raises:
        ValueError: If a size is not positive.
    """

    coded: bool = True
    sample_rate: int = 16_000

    def __init__(
        self,
        folder: str | Path = EMBEDDED,
        hours: float | None = None,
        validation_sentences: int | None = None,
        test_sentences: int | None = None,
    ) -> None:
        if hours is not None:
            check_number("hours", hours)
            if hours <= 0:
                raise ValueError(f"hours must be positive, got {hours}")
        for name, count in (("validation_sentences", validation_sentences), ("test_sentences", test_sentences)):
            if count is not None:
                check_whole_number(name, count)
                if count < 1:
                    raise ValueError(f"{name} must be at least 1, got {count}")
        self.folder = Path(folder) if str(folder) != EMBEDDED else asset_folder("speech")
        self.hours = hours
        self.sentences = {"validation": validation_sentences, "test": test_sentences}

    @cached_property
    def fingerprint(self) -> str:
        """Short hexadecimal digest of both files and of the part of them that is used."""
        digests = content_digests([self.folder / CODES, self.folder / INDEX]).values()
        return hashlib.sha256(repr([*digests, self.hours, self.sentences]).encode()).hexdigest()[:16]

    @cached_property
    def lines(self) -> dict[str, dict[str, CodedUtterance]]:
        """All utterances of every split, by their ids.

        Raises:
            ValueError: If the index is missing.
        """
        path, start = self.folder / INDEX, 0
        if not path.is_file():
            raise ValueError(f"no coded speech at {self.folder}: {INDEX} is missing")
        found: dict[str, dict[str, CodedUtterance]] = {split: {} for split in SPLITS}
        for _, text in read_lines(path):
            line = json.loads(text)
            utterance = Utterance(line["id"], line["text"], line["speaker"])
            voiced = None if line["voiced"] is None else (line["voiced"][0], line["voiced"][1])
            found[line["split"]][line["id"]] = CodedUtterance(utterance, start, line["frames"], voiced)
            start += line["frames"]
        return found

    def utterances(self, split: str) -> list[Utterance]:
        """The utterances of one split that are used, always in the same order.

        Args:
            split: `train`, `validation` or `test`.

        Raises:
            ValueError: If there is less speech than this corpus should use.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        lines = [*self.lines[split].values()]
        if split == "train":
            return [line.utterance for line in self._first_hours(lines)]
        count = self.sentences[split]
        if count is not None and count > len(lines):
            raise ValueError(f"{self.folder} has {len(lines)} sentences for {split}, not {count}")
        return [line.utterance for line in lines[:count]]

    def _first_hours(self, lines: list[CodedUtterance]) -> list[CodedUtterance]:
        if self.hours is None:
            return lines
        wanted = self.hours * 3600 * self._codes.frame_rate
        ends = list(accumulate(line.frames for line in lines))
        if ends[-1] < wanted:
            there = ends[-1] / self._codes.frame_rate / 3600
            raise ValueError(f"{self.folder} has {there:.2f} hours of training speech, not {self.hours:g}")
        return lines[: bisect_left(ends, wanted) + 1]

    def audio(self, utterance: Utterance) -> Tensor:
        """Refuse: there are only codes.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{self.folder} has the codes of {utterance.id!r}, not its sound: use a model of its codec")

    def codes(self, utterance: Utterance) -> SpeechCodes:
        """The codes of one utterance, ``[K, F]``.

        Args:
            utterance: One of `utterances(...)`.
        """
        line = next(lines[utterance.id] for lines in self.lines.values() if utterance.id in lines)
        codes = self._codes.codes[:, line.start : line.start + line.frames]
        return SpeechCodes(codes.long(), voiced=line.voiced)

    def check_codes(self, backbone: Backbone) -> None:
        """Refuse a model with another codec.

        Raises:
            ValueError: If the codec is another one.
        """
        codec = backbone.find_codec()
        own = "none" if codec is None else codec.fingerprint
        if own != self._codes.codec:
            raise ValueError(
                f"{self.folder} has codes of the codec {self._codes.codec}, but the codec of this model is {own}: use "
                f"another data.source, or encode the speech with the model's codec"
            )

    @cached_property
    def _codes(self) -> CodesFile:
        path = self.folder / CODES
        try:
            with safe_open(path, "pt") as file:
                codes, about = file.get_tensor("codes"), file.metadata() or {}
            found = CodesFile(codes, about["codec"], float(about["frame_rate"]))
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as codes: it is missing or damaged") from error
        frames = sum(line.frames for lines in self.lines.values() for line in lines.values())
        if codes.dtype != torch.uint8 or codes.ndim != 2 or codes.shape[1] != frames:
            raise ValueError(f"{path} does not fit {INDEX} beside it, which has {frames} frames")
        return found
