"""Prepared utterances on disk: one safetensors file a shard, written whole or not at all.

A shard holds, for N utterances, every tensor of their conditioning and their codes, concatenated along the first
(for codes: the last) dimension with offsets beside it, and in the header what they are and for whom they were made.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wand.conditioning import Conditioning

FORMAT = "2"


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One prepared utterance.

    Args:
        id: Of the utterance.
        text: What is said.
        speaker: Who says it.
        conditioning: The adapter's tensors.
        codes: ``[K, F]``.
        reference: Id of the utterance that its reference is taken from.
    """

    id: str
    text: str
    speaker: str
    conditioning: Conditioning
    codes: Tensor
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An utterance that was left out.

    Args:
        id: Of the utterance.
        why: In a few words, the same for all of a kind.
        detail: The whole reason.
    """

    id: str
    why: str
    detail: str


def write_shard(path: Path, examples: Sequence[Example], fingerprint: str, refused: Sequence[Refusal] = ()) -> None:
    """Write a shard beside its final name, then move it there: no half-written shard is ever read.

    Args:
        path: The shard's final name.
        examples: The utterances; perhaps none, where all were refused.
        fingerprint: Of source, conditioner and codec; `read_shard` refuses another's.
        refused: What was left out.

    Raises:
        ValueError: If the disk is full.
    """
    tensors: dict[str, Tensor] = {}
    fields: dict[str, list[Tensor]] = {}
    if examples:
        names = examples[0].conditioning
        fields = {f"conditioning.{name}": [e.conditioning[name] for e in examples] for name in names}
        fields["codes"] = [e.codes.T for e in examples]
    for name, values in fields.items():
        tensors[f"{name}.values"] = _compact(torch.cat(values).contiguous())
        tensors[f"{name}.lengths"] = torch.tensor([len(value) for value in values])
    about = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "utterances": json.dumps([[e.id, e.text, e.speaker, e.reference] for e in examples]),
        "refused": json.dumps([[r.id, r.why, r.detail] for r in refused]),
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(tensors, partial, metadata=about)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise ValueError(f"no space left for {path}: free some, or set --data.cache_dir to another disk") from error
        raise


def read_shard(path: Path, fingerprint: str) -> list[Example]:
    """The utterances of a shard.

    Raises:
        ValueError: If it is damaged, or was made for another source, conditioner or codec.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise ValueError(f"shard {path} is damaged ({error}): delete it and run again") from error
    if (about.get("format"), about.get("fingerprint")) != (FORMAT, fingerprint):
        raise ValueError(
            f"shard {path} was prepared for another corpus, conditioner or codec "
            f"({about.get('fingerprint')}, not {fingerprint})"
        )
    names = [name.removesuffix(".values") for name in tensors if name.endswith(".values")]
    split = {n: tensors[f"{n}.values"].split(tensors[f"{n}.lengths"].tolist()) for n in names}
    inner = {n.removeprefix("conditioning."): values for n, values in split.items() if n.startswith("conditioning.")}
    return [
        Example(
            id,
            text,
            speaker,
            {name: _expand(values[i]) for name, values in inner.items()},
            _expand(split["codes"][i]).T,
            reference,
        )
        for i, (id, text, speaker, reference) in enumerate(json.loads(about["utterances"]))
    ]


def read_refusals(path: Path) -> list[Refusal]:
    """What was left out when a shard was made."""
    try:
        with safe_open(path, framework="pt") as file:
            return [Refusal(*parts) for parts in json.loads((file.metadata() or {})["refused"])]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"shard {path} is damaged ({error}): delete it and run again") from error


def _compact(values: Tensor) -> Tensor:
    """Integers as int16 where they fit; they are codes and characters."""
    fits = values.dtype == torch.long and (values.numel() == 0 or int(values.abs().max()) < 2**15)
    return values.to(torch.int16) if fits else values


def _expand(values: Tensor) -> Tensor:
    return values.long() if values.dtype == torch.int16 else values
