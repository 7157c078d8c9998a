"""A corpus of codes: speech that voices outside this package have spoken, encoded with the embedded codec."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wand.assets import asset_folder
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


class CodedCorpus:
    """Speech as codes of one codec, which needs neither a synthesiser nor an encoder.

    A folder has ``codes.safetensors``, with the codes of all utterances one after another (`codes`, uint8 ``[K, F]``)
    and the codec's fingerprint, and ``utterances.jsonl``, with `id`, `text`, `speaker`, `split`, `frames` and `voiced`
    in each line.

    Args:
        folder: The folder; ``embedded`` is the speech that comes with this package.
    """

    coded: bool = True
    sample_rate: int = 16_000

    def __init__(self, folder: str | Path = EMBEDDED) -> None:
        self.folder = Path(folder) if str(folder) != EMBEDDED else asset_folder("speech")

    @cached_property
    def fingerprint(self) -> str:
        """Short hexadecimal digest of both files."""
        digests = content_digests([self.folder / CODES, self.folder / INDEX]).values()
        return hashlib.sha256(repr([*digests]).encode()).hexdigest()[:16]

    @cached_property
    def lines(self) -> dict[str, dict[str, CodedUtterance]]:
        """The utterances of every split, by their ids.

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
        """The utterances of one split, always in the same order.

        Args:
            split: `train`, `validation` or `test`.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return [line.utterance for line in self.lines[split].values()]

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
        codes = self._codes[0][:, line.start : line.start + line.frames]
        return SpeechCodes(codes.long(), voiced=line.voiced)

    def check_codes(self, backbone: Backbone) -> None:
        """Refuse a model with another codec.

        Raises:
            ValueError: If the codec is another one.
        """
        codec = backbone.find_codec()
        own = "none" if codec is None else codec.fingerprint
        if own != self._codes[1]:
            raise ValueError(
                f"{self.folder} has codes of the codec {self._codes[1]}, but the codec of this model is {own}: use "
                f"another data.source, or encode the speech with the model's codec"
            )

    @cached_property
    def _codes(self) -> tuple[Tensor, str]:
        """All codes, uint8 ``[K, F]``, and the codec's fingerprint."""
        path = self.folder / CODES
        try:
            with safe_open(path, "pt") as file:
                codes, codec = file.get_tensor("codes"), (file.metadata() or {}).get("codec", "")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read as codes: it is missing or damaged") from error
        if codes.dtype != torch.uint8 or codes.ndim != 2 or codes.shape[1] != self._frames:
            raise ValueError(f"{path} does not fit {INDEX} beside it, which has {self._frames} frames")
        return codes, codec

    @property
    def _frames(self) -> int:
        return sum(line.frames for lines in self.lines.values() for line in lines.values())
