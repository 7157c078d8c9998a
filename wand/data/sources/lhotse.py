"""A corpus that Lhotse's recipes have prepared."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterator
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
            if programs := [source["source"] for source in _sources(cut.to_dict()) if _starts_program(**source)]:
                raise ValueError(
                    f"the cut {name!r} of {self.path} starts a program, {programs[0]!r}: it is not run; name a sound "
                    f"file, without quotes, blanks and signs of the shell in its path"
                )
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


def _sources(part: Any) -> Iterator[dict[str, Any]]:
    """Every audio source in a cut as plain values: also those of mixtures, impulse responses and custom recordings."""
    if isinstance(part, dict):
        if {"type", "channels", "source"} <= part.keys():
            yield part
        part = [*part.values()]
    if isinstance(part, list | tuple):
        for one in part:
            yield from _sources(one)


def _sound_files(cut: Any) -> list[Path]:
    """The sound files of a cut."""
    return [Path(one["source"]) for one in _sources(cut.to_dict()) if one["type"] == "file"]


def _starts_program(type: str, source: str | bytes, **_: Any) -> bool:
    """Whether lhotse would run a program of the source's choice to read it."""
    if type == "memory":
        return False
    path = str(source)
    if type not in ("file", "url", "shar") or path.startswith("pipe:"):
        return True
    # lhotse puts these paths into a line for the shell: the first as they are, the second in single quotes.
    return (path.lower().endswith(".sph") and shlex.quote(path) != path) or (
        path.lower().endswith(".opus") and "'" in path
    )
