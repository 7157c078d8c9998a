"""``speech.json`` of an export: what a serving engine must know of a model's speech."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

NAME = "speech.json"
FORMAT = 1


@dataclass(frozen=True)
class SpeechFacts:
    """The facts that the plugin uses.

    Args:
        window: W in columns, or one for each layer; None is full attention.
        slots: Ids that column c of the speech may have, in slot ``c % len(slots)``: codes and stops.
        bias: Runs ``(first id, values)`` to add to the logits.
        repetition_penalty: The default of the model; 1 is no penalty.
        already_spoken: Ids that count as spoken from the first column on.
        redraws: Whether the model's default sampling draws again when an id repeats, which this plugin does not do.
    """

    window: int | list[int] | None
    slots: tuple[tuple[int, ...], ...]
    bias: tuple[tuple[int, tuple[float, ...]], ...]
    repetition_penalty: float
    already_spoken: tuple[int, ...]
    redraws: bool

    @classmethod
    def of(cls, values: dict[str, Any]) -> SpeechFacts:
        """The facts in the values of a ``speech.json``."""
        sampling = values["sampling"] or {}
        return cls(
            window=values["window"],
            slots=tuple((*_ids(slot["codes"]), *slot["stops"]) for slot in values["slots"]),
            bias=tuple((run["first"], tuple(run["values"])) for run in values["bias"] or ()),
            repetition_penalty=sampling.get("repetition_penalty", 1.0),
            already_spoken=tuple(sampling.get("already_spoken", ())),
            redraws=sampling.get("repetition") is not None,
        )


@lru_cache
def read_facts(model: str) -> SpeechFacts | None:
    """Read the ``speech.json`` of a model, which lies in its folder or, if it names that folder, in the parent.

    Args:
        model: The folder that vLLM opens. The name of a model on a hub has no such file.

    Returns:
        None if the model has none.

    Raises:
        ValueError: If the file cannot be used.
    """
    for folder in (Path(model), Path(model).parent):
        path = folder / NAME
        if not Path(model).is_dir() or not path.is_file():
            continue
        try:
            values = json.loads(path.read_text())
            if (folder / values["model"]).resolve() != Path(model).resolve():
                continue
            if values["format"] == FORMAT:
                return SpeechFacts.of(values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} lacks or misspells {error}: export the model again") from error
        raise ValueError(
            f"{path} has format {values['format']!r}, this plugin reads {FORMAT}: export the model again, or install "
            "the wand-vllm of its wand"
        )
    return None


def _ids(runs: list[list[int]]) -> list[int]:
    return [first + place for first, count in runs for place in range(count)]
