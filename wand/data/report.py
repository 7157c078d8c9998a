"""The report of a preparation: what it made and what it left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wand.data.example import Refusal
from wand.data.shards import Shard
from wand.files.writing import write_bytes

REFUSED = "refused.jsonl"
# A warning says so if more than this share of a split is left out, or is its own reference.
MANY = 0.2


def write_report(folder: Path, shards: Sequence[Path], fingerprint: str, frame_rate: float) -> None:
    """Print utterances and hours by split, and list the utterances left out in ``refused.jsonl`` beside the shards.

    Args:
        folder: Folder of the cache.
        shards: All files of the cache, ``<split>-00000.safetensors`` ...
        fingerprint: Fingerprint of the cache.
        frame_rate: Frames of codes per second.

    Raises:
        ValueError: If no utterance of a split could be used.
    """
    utterances: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    own: Counter[str] = Counter()
    refused: list[tuple[str, Refusal]] = []
    for path in shards:
        split = path.name.rsplit("-", 1)[0]
        shard = Shard(path, fingerprint)
        utterances[split] += len(shard)
        frames[split] += int(shard.sizes[:, 1].sum())
        own[split] += shard.own_references()
        refused += [(split, refusal) for refusal in shard.refusals()]
    lines = [{"split": split, "id": r.id, "why": r.why, "detail": r.detail} for split, r in refused]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_bytes(folder / REFUSED, content.encode("utf-8", "surrogatepass"))
    show_report(utterances, {split: count / frame_rate for split, count in frames.items()}, refused)
    for split, count in utterances.items():
        if own[split] > MANY * count:
            _warn(
                f"{own[split]} of {count} utterances of {split} are their own reference, because their shard has no "
                f"other one of their speaker: sort the corpus by speaker"
            )
        elif own[split]:
            print(f"{own[split]} of {count} utterances of {split} are their own reference", flush=True)
    unusable = [split for split, count in utterances.items() if count == 0]
    for path in shards:
        if path.name.rsplit("-", 1)[0] in unusable:
            path.unlink()  # so that it is made again when the corpus has been fixed
    if unusable:
        first = next(refusal for split, refusal in refused if split == unusable[0])
        raise ValueError(
            f"no utterance of {unusable[0]} can be used ({_reasons(refused, unusable[0])}); the first is {first.id!r}: "
            f"{first.detail} (see {folder / REFUSED} for all)"
        )


def show_report(
    utterances: Mapping[str, int], seconds: Mapping[str, float], refused: Sequence[tuple[str, Refusal]]
) -> None:
    """Print a table of the utterances of every split, and a warning if many of a split are left out.

    Args:
        utterances: Number of usable utterances of every split.
        seconds: Their duration in seconds.
        refused: The split of every utterance that is left out, and the reason.
    """
    table = Table("split", "utterances", "hours", "left out", "why")
    left_out = Counter(split for split, _ in refused)
    for split, count in utterances.items():
        hours = f"{seconds[split] / 3600:.2f}"
        table.add_row(split, str(count), hours, str(left_out[split]), _reasons(refused, split))
    Console(markup=False, emoji=False).print(table)
    for split, count in utterances.items():
        total = count + left_out[split]
        if left_out[split] > MANY * total:
            _warn(f"{left_out[split]} of {total} utterances of {split} are left out ({_reasons(refused, split)})")


def _warn(said: str) -> None:
    Console(stderr=True, emoji=False).print(f"[yellow]warning:[/] {escape(said)}", highlight=False, soft_wrap=True)


def _reasons(refused: Sequence[tuple[str, Refusal]], split: str) -> str:
    """The reasons of one split with their counts, the most frequent first."""
    reasons = Counter(refusal.why for own, refusal in refused if own == split)
    return ", ".join(f"{reason}: {times}" for reason, times in reasons.most_common())
