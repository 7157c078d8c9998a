"""The systems of a study: models that speak, each under its window."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import torch

from wand.attention import AttentionWindow, Windows
from wand.codecs import Codec
from wand.decoding.decoder import Decoder
from wand.evaluation.systems import RECORDED
from wand.model.backbone import Backbone
from wand.runs.checkpoints import is_export, load_original
from wand.speech.synthesizer import Synthesizer, load

TEACHER: Final = "teacher"
UNTRAINED: Final = "untrained"
STUDENT: Final = "student"
Kind = Literal["recorded", "teacher", "untrained", "student"]


@dataclass(frozen=True, slots=True)
class StudySystem:
    """What is known of a system without its model.

    Args:
        name: Its name in rows and tables.
        kind: ``recorded`` (the recordings, after a round trip through the codec), ``teacher`` (the original weights
            with full attention), ``untrained`` (the original weights under a window) or ``student``.
        path: The run, export or original model; None for recordings.
        window: The sizes of the window; None for full attention and for recordings.
    """

    name: str
    kind: Kind
    path: str | None
    window: int | list[int] | None


@dataclass(frozen=True, eq=False)
class Speaker:
    """A system that speaks.

    Args:
        system: What it is.
        model: Its model, in eval mode.
        window: Its window.
        weights: Digest of its weights.
    """

    system: StudySystem
    model: Backbone
    window: Windows
    weights: str

    @cached_property
    def decoder(self) -> Decoder:
        """The decoder of the model."""
        return Decoder(self.model, self.window)

    @property
    def made_of(self) -> str:
        """What determines its speech, as a text."""
        return f"{self.system.kind}, weights {self.weights}, window {self.system.window or 'full'}"


@dataclass(frozen=True, eq=False)
class Speakers:
    """The systems of a study and their codec.

    Args:
        systems: The systems, the teacher and its windows first.
        codec: Their codec.
    """

    systems: list[Speaker]
    codec: Codec

    @property
    def first(self) -> Backbone:
        """The model that stands for all where only conditioner, codec and frame rate matter."""
        return self.systems[0].model


def open_speakers(
    paths: Sequence[str], device: str | torch.device = "cpu", students_only: bool = False, windows: Sequence[int] = ()
) -> Speakers:
    """Open the students at some paths and, from the first run among them, the teacher.

    Args:
        paths: Runs, checkpoints and exports.
        device: Device of the models.
        students_only: Whether to leave out the teacher and its windows.
        windows: Further windows for the teacher's weights, beside that of the first run.

    Raises:
        ValueError: If a model cannot be opened, there is no teacher, or the models differ in their codec or in how they
            read texts and voices.
    """
    names = student_names(paths)
    opened = {name: load(path, device=device) for name, path in zip(names, paths, strict=True)}
    codec = _common_codec(paths, [*opened.values()])
    speakers = [] if students_only else _teachers(paths, opened, device, windows)
    for (name, model), path in zip(opened.items(), paths, strict=True):
        system = StudySystem(name, STUDENT, str(path), model.window.plain)
        speakers.append(Speaker(system, model.backbone, model.window, weights_digest(model.backbone)))
    return Speakers(speakers, codec)


def student_names(paths: Sequence[str]) -> list[str]:
    """Names of the students: ``student``, or of several the ends of their paths that tell them apart.

    Raises:
        ValueError: If two paths are the same.
    """
    if len(paths) == 1:
        return [STUDENT]
    parts = [Path(path).absolute().parts[1:] for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["-".join(own[-depth:]).removesuffix(".ckpt") for own in parts]
        if len({*names}) == len(names) and not any(name.startswith((RECORDED, TEACHER, UNTRAINED)) for name in names):
            return names
    raise ValueError(f"two of the systems have the same path, or no name that tells them apart: {', '.join(paths)}")


def weights_digest(model: Backbone) -> str:
    """Short digest of the weights of a model."""
    made = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        made.update(f"{name} {tensor.dtype}".encode())
        made.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
    return made.hexdigest()[:16]


def _teachers(
    paths: Sequence[str], opened: dict[str, Synthesizer], device: str | torch.device, windows: Sequence[int]
) -> list[Speaker]:
    runs = [(path, model) for path, model in zip(paths, opened.values(), strict=True) if not is_export(path)]
    if not runs:
        raise ValueError(
            f"{paths[0]} is an export, which does not know its teacher: give a run too, or --students_only"
        )
    path, student = runs[0]
    teacher = load_original(path).to(device)
    weights = weights_digest(teacher)
    known: dict[str, Windows] = {TEACHER: AttentionWindow()}
    if not student.window.is_full:
        known[UNTRAINED] = student.window
    others = sorted({size for size in windows if size != student.window.plain})
    known |= {f"{UNTRAINED}-{size}": AttentionWindow(size) for size in others}
    return [
        Speaker(
            StudySystem(name, TEACHER if name == TEACHER else UNTRAINED, teacher.pretrained, window.plain),
            teacher,
            window,
            weights,
        )
        for name, window in known.items()
    ]


def _common_codec(paths: Sequence[str], models: Sequence[Synthesizer]) -> Codec:
    """The codec of all models, which must also read texts and voices in the same way."""
    codecs = [model.codec or model.backbone.load_codec() for model in models]
    first = models[0].backbone
    for path, model, codec in zip(paths, models, codecs, strict=True):
        for what, own, other in (
            ("another codec", codec.fingerprint, codecs[0].fingerprint),
            ("another conditioner", model.backbone.conditioner.fingerprint, first.conditioner.fingerprint),
        ):
            if own != other:
                raise ValueError(f"{path} has {what} ({own}) than {paths[0]} ({other}): evaluate them one by one")
    return codecs[0]
