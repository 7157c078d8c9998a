"""The report of a preparation: what it made and what it left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from wand.data.example import Refusal
from wand.data.shards import Shard

REFUSED = "refused.jsonl"


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
    refused: list[tuple[str, Refusal]] = []
    for path in shards:
        split = path.name.rsplit("-", 1)[0]
        shard = Shard(path, fingerprint)
        utterances[split] += len(shard)
        frames[split] += int(shard.frames.sum())
        refused += [(split, refusal) for refusal in shard.refusals()]
    lines = [{"split": split, "id": r.id, "why": r.why, "detail": r.detail} for split, r in refused]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / REFUSED).write_text(content, encoding="utf-8", errors="surrogatepass")
    _show(utterances, frames, refused, frame_rate)
    unusable = [split for split, count in utterances.items() if count == 0]
    for path in shards:
        if path.name.rsplit("-", 1)[0] in unusable:
            path.unlink()  # so that it is made again when the corpus has been fixed
    if unusable:
        first = next(refusal for split, refusal in refused if split == unusable[0])
        raise ValueError(
            f"no utterance of {unusable[0]} can be used; the first is {first.id!r}: {first.detail} "
            f"(see {folder / REFUSED} for all)"
        )


def _show(
    utterances: Counter[str],
    frames: Counter[str],
    refused: Sequence[tuple[str, Refusal]],
    frame_rate: float,
) -> None:
    table = Table("split", "utterances", "hours", "left out", "why")
    for split, count in utterances.items():
        reasons = Counter(refusal.why for own, refusal in refused if own == split)
        why = ", ".join(f"{reason}: {times}" for reason, times in reasons.most_common())
        hours = frames[split] / frame_rate / 3600
        table.add_row(split, str(count), f"{hours:.2f}", str(sum(reasons.values())), why)
    Console().print(table)
