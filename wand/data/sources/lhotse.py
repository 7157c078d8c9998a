"""A corpus that Lhotse's recipes have prepared."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wand.checks import check_shares
from wand.data.sources.source import SPLITS, Utterance, split_by_name
from wand.files.audio import resample
from wand.files.contents import content_digests


class LhotseCorpus:
    """The cuts of a Lhotse CutSet; each must have exactly one supervision.

    Args:
        cuts: Path of a file that ``CutSet.from_file`` opens.
        validation_share: Share of the cuts to validate on.
        test_share: Share of the cuts to test on.

    Raises:
        ValueError: If lhotse is not installed or the file does not exist.
    """

    sample_rate: int = 24_000

    def __init__(self, cuts: str, validation_share: float = 0.01, test_share: float = 0.01) -> None:
        if find_spec("lhotse") is None:
            raise ValueError('LhotseCorpus needs lhotse: pip install "wand-tts[lhotse]"')
        if not Path(cuts).is_file():
            raise ValueError(f"there are no cuts at {cuts}: give a file that CutSet.from_file opens")
        self.path = cuts
        check_shares(validation_share, test_share)
        self.shares = (validation_share, test_share)

    @cached_property
    def cuts(self) -> dict[str, Any]:
        """The cuts by id.

        Raises:
            ValueError: If the file cannot be read as cuts, or a cut does not have exactly one supervision.
        """
        try:
            listed = [*import_module("lhotse").CutSet.from_file(self.path)]
            found = {cut.id: cut for cut in listed}
        except Exception as error:  # lhotse's readers may raise anything
            raise ValueError(f"{self.path} holds no cuts of lhotse: {error}".partition("\n")[0]) from error
        if len(found) < len(listed):
            repeated = next(name for name, count in Counter(cut.id for cut in listed).items() if count > 1)
            raise ValueError(f"{self.path}: two cuts have the id {repeated!r}: ids must be unique")
        if not found:
            raise ValueError(f"{self.path} holds no cuts of lhotse")
        for name, cut in found.items():
            if programs := [source.source for source in _sources(cut) if _starts_program(source)]:
                raise ValueError(f"the cut {name!r} of {self.path} starts a program, {programs[0]!r}: it is not run")
            if (count := len(cut.supervisions)) != 1:
                raise ValueError(
                    f"the cut {name!r} of {self.path} has {count} supervisions, not one: split the cuts with "
                    f"CutSet.trim_to_supervisions"
                )
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the cuts and of the contents of their sound files."""
        cuts = [json.dumps(cut.to_dict(), sort_keys=True, default=repr) for cut in self.cuts.values()]
        files = [file for cut in self.cuts.values() for file in _sound_files(cut)]
        digest = hashlib.sha256(repr((self.shares, [*content_digests(files).values()])).encode())
        for cut in cuts:
            digest.update(cut.encode())
        return digest.hexdigest()[:16]

    def utterances(self, split: str) -> list[Utterance]:
        """The utterances of one split."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return [
            Utterance(name, cut.supervisions[0].text or "", cut.supervisions[0].speaker or "unknown")
            for name, cut in self.cuts.items()
            if split_by_name(name, *self.shares) == split
        ]

    def audio(self, utterance: Utterance) -> Tensor:
        """The audio of one utterance: float32 ``[N]``. Channels are averaged."""
        cut = self.cuts[utterance.id]
        try:
            sound = torch.from_numpy(cut.load_audio()).float().mean(0)
        except Exception as error:  # lhotse's audio backends may raise anything
            raise ValueError(f"the audio of cut {cut.id!r} cannot be read: {error}".partition("\n")[0]) from error
        return resample(sound, cut.sampling_rate, self.sample_rate)

    def seconds(self, utterance: Utterance) -> float | None:
        """The length of one cut, in seconds."""
        return float(self.cuts[utterance.id].duration)


def _sources(cut: Any) -> list[Any]:
    """Where the audio of a cut comes from. A cut may be a mixture of several."""
    parts = [track.cut for track in cut.tracks] if hasattr(cut, "tracks") else [cut]
    recordings = [part.recording for part in parts if getattr(part, "recording", None) is not None]
    return [source for recording in recordings for source in recording.sources]


def _sound_files(cut: Any) -> list[Path]:
    """The sound files of a cut."""
    return [Path(one.source) for one in _sources(cut) if one.type == "file"]


def _starts_program(source: Any) -> bool:
    """Whether lhotse would run the source as a program instead of reading a file."""
    return source.type == "command" or str(source.source).startswith("pipe:")
