"""``speech.json`` in an export: the token ids of the speech and all else that a serving engine must know of a model.

docs/serving.md describes the file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from wand.attention import Windows
from wand.files.plain_values import read_json
from wand.files.typed import build
from wand.files.writing import write_text
from wand.model.backbone import Backbone
from wand.model.causal_lm import CausalLM, PromptIds
from wand.model.columns import FlattenedLayout
from wand.model.sampling import Sampling

NAME = "speech.json"


@dataclass(frozen=True, slots=True)
class Slot:
    """The ids that a column of the speech may have.

    Args:
        codebook: Codebook of the codes.
        codes: Ids in the order of the code values, as runs ``[first, count]``.
        stops: Ids that end the speech.

    Raises:
        ValueError: If a run is not a first id and a count.
    """

    codebook: int
    codes: list[list[int]]
    stops: list[int]

    def __post_init__(self) -> None:
        if wrong := [run for run in self.codes if len(run) != 2 or run[0] < 0 or run[1] < 1]:
            raise ValueError(f"codes {wrong[0]} is no run: it should be a first id and a count")

    @property
    def code_ids(self) -> list[int]:
        """The ids in the order of the code values."""
        return [first + i for first, count in self.codes for i in range(count)]


@dataclass(frozen=True, slots=True)
class BiasRun:
    """Values to add to the logits of the ids from `first` on."""

    first: int
    values: list[float]


@dataclass(frozen=True, slots=True)
class LengthFacts:
    """Bounds of the length of a speech.

    Args:
        least: Minimum number of columns for each id of the text.
        most: Maximum number of columns for each id of the text.
        held: Stops that are not drawn before the minimum.
    """

    least: int
    most: int
    held: list[int]


@dataclass(frozen=True)
class SamplingFacts(Sampling):
    """The default sampling of a model. `already_spoken` holds ids.

    Args:
        repetition_penalty_over: What the penalty counts: ids of the speech, not those of the prompt.
    """

    repetition_penalty_over: Literal["speech"] = "speech"


@dataclass(frozen=True, slots=True)
class SpeechFacts:
    """The content of ``speech.json``.

    Args:
        format: Version of the file.
        model: Folder of the model, relative to the file.
        prefix: What the prefix is: every id of the prompt.
        window: W in columns, or one for each layer; None is full attention.
        frame_rate: Frames per second, in Hz.
        sample_rate: Sample rate of the speech, in Hz.
        columns_per_frame: Number of ids of one frame.
        slots: Column c of the speech has the ids of slot ``c % len(slots)``.
        bias: What to add to the logits; None adds nothing.
        sampling: The default sampling; None if plain values do not describe it.
        length: Bounds of the length; None if the model has none.
        prompt: How the prompt is made; None if the tokenizer in the folder reads the whole prompt.
        licence: What the licence of the original weights requires.

    Raises:
        ValueError: If the model is outside the folder of the file, or a column of a frame has no slot.
    """

    format: Literal[1]
    model: str
    prefix: Literal["prompt"]
    window: int | list[int] | None
    frame_rate: float
    sample_rate: int
    columns_per_frame: int
    slots: list[Slot]
    bias: list[BiasRun] | None
    sampling: SamplingFacts | None
    length: LengthFacts | None
    prompt: PromptIds | None
    licence: str

    def __post_init__(self) -> None:
        if Path(self.model).is_absolute() or ".." in Path(self.model).parts:
            raise ValueError(f"the folder {self.model!r} of the model is not inside the export")
        if not len(self.slots) == self.columns_per_frame > 0:
            raise ValueError(f"it has {len(self.slots)} slots for {self.columns_per_frame} columns of a frame")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the facts of an export.

        Raises:
            ValueError: If there is no such file, or a value is missing, unknown or of another type.
        """
        path = folder / NAME
        if not path.is_file():
            raise ValueError(f"{folder} has no {NAME}: give an export of a model whose speech is token ids")
        return build(cls, read_json(path), str(path))

    def write(self, folder: Path) -> None:
        """Write the facts into the folder of an export, one key in each line."""
        lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in asdict(self).items())
        write_text(folder / NAME, "{\n" + ",\n".join(lines) + "\n}\n")

    @property
    def stop_ids(self) -> list[int]:
        """The ids that end the speech in any slot."""
        return list(dict.fromkeys(id for slot in self.slots for id in slot.stops))


def speech_facts(backbone: Backbone, model: CausalLM, window: Windows, dtype: torch.dtype | None = None) -> SpeechFacts:
    """The facts about the speech of a model.

    Args:
        backbone: The model.
        model: The same as a causal language model, from `Backbone.causal_lm`.
        window: Its window.
        dtype: The dtype of the exported weights; that of the original weights by default.
    """
    assert backbone.forbidden_tokens() is None, "all codes of a slot are spoken: their order gives their values"
    return SpeechFacts(
        format=1,
        model=model.folder,
        prefix="prompt",
        window=window.plain,
        frame_rate=backbone.frame_rate,
        sample_rate=backbone.sample_rate,
        columns_per_frame=backbone.layout.columns_per_frame,
        slots=_slots(backbone, model.row_ids.tolist()),
        bias=None if model.bias is None else _bias_runs(model.row_ids, model.bias.to(dtype or backbone.stored_dtype)),
        sampling=_sampling(backbone.sampling, model.row_ids.tolist()),
        length=_length(backbone, model),
        prompt=model.prompt,
        licence=backbone.licence,
    )


def write_for_engines(
    backbone: Backbone, model: CausalLM, window: Windows, out: Path, dtype: torch.dtype | None = None
) -> None:
    """Write into an export what engines need: the model if it is not there yet, ``speech.json``, and what they read.

    Args:
        backbone: The model, whose `save_pretrained` has written it to `out`.
        model: The same as a causal language model.
        window: Its window.
        out: Folder of the export.
        dtype: The dtype of the weights; that of the original weights by default.
    """
    if model.write is not None:
        model.write(out / model.folder, dtype or backbone.stored_dtype)
    facts = speech_facts(backbone, model, window, dtype)
    config, generation = (out / facts.model / name for name in ("config.json", "generation_config.json"))
    if isinstance(facts.window, int):  # the name of prefix and window in vLLM, which knows no windows by layer
        _add(config, {"rswa_window": facts.window})
    _add(generation, {"eos_token_id": facts.stop_ids, **_generation_sampling(facts.sampling)})
    facts.write(out)


def runs(ids: Sequence[int]) -> list[list[int]]:
    """Ids as runs ``[first, count]`` of ids that follow each other, in the same order."""
    made: list[list[int]] = []
    for id in ids:
        if made and id == made[-1][0] + made[-1][1]:
            made[-1][1] += 1
        else:
            made.append([id, 1])
    return made


def _slots(backbone: Backbone, ids: list[int]) -> list[Slot]:
    layout, stops = backbone.layout, set(backbone.stop_ids)
    allowed = layout.allowed_rows(len(ids))
    rows_of_slots = [range(len(ids))] if allowed is None else [slot.nonzero()[:, 0].tolist() for slot in allowed]
    codebooks = layout.codebooks if isinstance(layout, FlattenedLayout) else (0,)
    return [
        Slot(
            codebook,
            runs([ids[row] for row in rows if row not in stops]),
            [ids[row] for row in rows if row in stops],
        )
        for codebook, rows in zip(codebooks, rows_of_slots, strict=True)
    ]


def _bias_runs(row_ids: Tensor, bias: Tensor) -> list[BiasRun]:
    values, place, made = bias.float().tolist(), 0, []
    for first, count in runs(row_ids.tolist()):
        made.append(BiasRun(first, values[place : place + count]))
        place += count
    return made


def _sampling(sampling: Sampling, ids: list[int]) -> SamplingFacts | None:
    if type(sampling) is not Sampling:  # it has a rule of its own
        return None
    values = {field.name: getattr(sampling, field.name) for field in fields(Sampling)}
    return SamplingFacts(**{**values, "already_spoken": [ids[row] for row in sampling.already_spoken]})


def _length(backbone: Backbone, model: CausalLM) -> LengthFacts | None:
    if model.columns_per_text_id is None:
        return None
    return LengthFacts(*model.columns_per_text_id, held=[int(model.row_ids[backbone.layout.stop_id])])


def _generation_sampling(sampling: SamplingFacts | None) -> dict[str, Any]:
    if sampling is None:
        return {}
    names = ("temperature", "top_k", "top_p", "repetition_penalty")
    return {"do_sample": not sampling.greedy, **{name: getattr(sampling, name) for name in names}}


def _add(path: Path, values: dict[str, Any]) -> None:
    """Add values to a JSON file, which need not exist."""
    known = read_json(path) if path.is_file() else {}
    write_text(path, json.dumps({**known, **values}, indent=2) + "\n")
