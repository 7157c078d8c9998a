"""Find and read the checkpoints of runs. All files are read with ``weights_only``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from wand.alignment.record import apply_record
from wand.checks import first_line
from wand.codecs import Codec
from wand.files.typed import reading, require
from wand.files.weights import load_exactly
from wand.finite import check_weights
from wand.lora import inject, merge
from wand.model.adapters import build_backbone
from wand.model.backbone import Backbone
from wand.runs.named_code import known_class
from wand.runs.old_names import parse_config, read_config_bytes
from wand.runs.settings import RunSettings
from wand.runs.sharded import is_sharded, read_parts, stored_shapes
from wand.runs.trust import check_checkpoint, check_interpolations, check_setting

RUNS = Path("runs")
LAST = "last"
ABOUT = "wand.json"  # describes an export, in its folder
# What every checkpoint of wand has.
CONTENT: dict[str, Any] = {
    "state_dict": dict[str, Tensor],
    "global_step": int,
    "wand.pretrained_digest": str | None,
    "hyper_parameters.pretrained": str | None,
    "hyper_parameters.window": int | list[int] | None,
    "hyper_parameters.backbone.class_path": str,
    "hyper_parameters.backbone.architecture": dict[str, Any],
}


def find_checkpoint(path: str | Path, runs: Path = RUNS) -> Path:
    """Find the checkpoint file for a path. In a folder, files that are not complete are skipped, with a warning.

    Args:
        path: A checkpoint (a file, or a folder if it is sharded), a run folder (its ``checkpoints/last.ckpt``, or else
            its newest checkpoint), or ``last`` (the newest checkpoint of all runs).
        runs: Folder that contains the run folders.

    Raises:
        ValueError: If there is no checkpoint, so that nothing starts silently from zero.
    """
    if str(path) == LAST:
        found = newest_complete(runs.glob("**/*/checkpoints/*.ckpt"))
        if found is None:
            raise ValueError(f"no checkpoint in any run under {runs}/: start with `wand fit --config quickstart`")
        return found
    path = Path(path)
    if path.is_file() or is_sharded(path):
        return path
    if path.is_dir():
        last = path / "checkpoints" / "last.ckpt"
        found = newest_complete([last]) or newest_complete(path.glob("checkpoints/*.ckpt"))
        if found is not None:
            return found
        if is_export(path):
            raise ValueError(f"{path} is an export, not a run: open it in Python with wand.load({str(path)!r})")
        raise ValueError(f"run folder {path} has no checkpoint yet")
    raise ValueError(f"no checkpoint at {path}: give a run folder, a .ckpt file, or `last`")


def is_export(path: str | Path) -> bool:
    """Whether a path is the folder of an export."""
    return (Path(path) / ABOUT).is_file()


def newest_complete(files: Iterable[Path]) -> Path | None:
    """The newest checkpoint that is complete. Newer ones that were cut off, or are empty, are named in a warning."""
    for file in sorted(filter(Path.exists, files), key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            _check_complete(file)
            return file
        except Exception:  # of the readers of zip files and pickles, which may raise anything for a damaged file
            _warn_of_damage(file)
    return None


def _check_complete(file: Path) -> None:
    if is_sharded(file):
        stored_shapes(file)
    else:
        with ZipFile(file):  # reads the directory, which is the last part of the file
            return


@cache
def _warn_of_damage(file: Path) -> None:
    print(f"wand: warning: {file} is damaged (it is not complete) and was skipped", file=sys.stderr)


def best_checkpoint(run: Path) -> Path | None:
    """The best complete checkpoint of a run folder, by its usual name or as its last one names it; None without one."""
    folder = run / "checkpoints"
    if best := newest_complete([folder / "best.ckpt"]):
        return best
    for state in read_checkpoint(run, whole=False).get("callbacks", {}).values():
        if isinstance(state, dict) and state.get("monitor") and state.get("best_model_path"):
            path = Path(state["best_model_path"])
            moved = folder / path.name  # the run may have moved
            return newest_complete([moved if moved.exists() else path])
    return None


def run_folder(checkpoint: Path) -> Path | None:
    """The run folder that contains a checkpoint file; None if it is in no run folder."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else None


def read_checkpoint(path: str | Path, whole: bool = True) -> dict[str, Any]:
    """Read a checkpoint. The tensors of a file are mapped, so that processes share its pages and no copy is made.

    Args:
        path: See `find_checkpoint`.
        whole: Whether to read the tensors of a sharded checkpoint, which need not fit into the memory of one process.

    Raises:
        ValueError: If the file is damaged, contains code, or is not a checkpoint of wand.
    """
    file = find_checkpoint(path)
    try:
        checkpoint = read_parts(file, whole) if is_sharded(file) else _read_file(file)
    except Exception as error:  # of the readers of zip files and pickles, which may raise anything for a damaged file
        reason = first_line(error)
        raise ValueError(f"{file} is damaged, or not a checkpoint of wand: {reason}") from error
    settings = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    if not isinstance(settings, dict) or "backbone" not in settings:
        raise ValueError(f"{file} is a checkpoint, but not one of wand (it does not describe a backbone)")
    for place, hint in CONTENT.items():
        value = checkpoint
        for name in place.split("."):
            if not isinstance(value, dict) or name not in value:
                raise ValueError(f"{file} is damaged, or not a checkpoint of wand: it has no {place}")
            value = value[name]
        require(value, hint, f"{file}: {place}")
    return checkpoint


def _read_file(file: Path) -> Any:
    with ZipFile(file) as content:
        if (broken := content.testzip()) is not None:  # torch.load compares no checksums
            raise BadZipFile(f"{broken} has changed")
    return torch.load(file, map_location="cpu", mmap=True, weights_only=True)


@dataclass(frozen=True, slots=True, eq=False)
class OpenedRun:
    """A checkpoint, and the model that it describes.

    Args:
        file: The file.
        checkpoint: Its content.
        settings: The settings of the run.
        backbone: The model, with random weights.
        trained: The tensors of the model that the checkpoint holds: all, or with LoRA those of the adapters.
    """

    file: Path
    checkpoint: dict[str, Any]
    settings: RunSettings
    backbone: Backbone
    trained: dict[str, Tensor]


def open_run(path: str | Path) -> OpenedRun:
    """Open a checkpoint.

    Raises:
        ValueError: If the file is no such checkpoint, or names code that it may not start (`wand.runs.trust`).
    """
    file, checkpoint = _open(path)
    with reading(file):
        settings = RunSettings.from_plain(checkpoint["hyper_parameters"])
        backbone = _build(checkpoint)
        trained = {
            key.removeprefix("backbone."): value
            for key, value in checkpoint["state_dict"].items()
            if key.startswith("backbone.")
        }
        check_weights(trained, file)
        backbone.windows(settings.window)  # refuses sizes that do not fit the model
    return OpenedRun(file, checkpoint, settings, backbone, trained)


def load_backbone_and_settings(path: str | Path) -> tuple[Backbone, RunSettings]:
    """Load the student of a run, in eval mode, and the settings of the run.

    The checkpoint of a run with LoRA holds only the adapters. They are merged into the original weights. If ``wand
    align`` has noted alignment heads in the run folder, the student has these.

    Raises:
        ValueError: If the file is no such checkpoint, names code that it may not start (`wand.runs.trust`), or needs
            original weights that are missing or have changed.
    """
    run = open_run(path)
    backbone, lora = run.backbone, run.settings.lora
    with reading(run.file):
        if lora is not None:
            _load_original_weights(backbone, run.checkpoint, path)
            inject(backbone, backbone.decoder, lora)
        load_exactly(backbone, run.trained, run.file)
        if lora is not None:
            merge(backbone.decoder)
            backbone.pretrained = None
    apply_record(run_folder(run.file), backbone)
    return backbone.eval(), run.settings


def load_original(path: str | Path) -> Backbone:
    """Load the model that a run started from, with its original weights, in eval mode.

    Raises:
        ValueError: If the run started from random weights, the original weights are missing or have changed since, or
            the checkpoint names code that it may not start (`wand.runs.trust`).
    """
    file, checkpoint = _open(path)
    with reading(file):
        backbone = _build(checkpoint)
    _load_original_weights(backbone, checkpoint, path)
    return backbone.eval()


def _load_original_weights(backbone: Backbone, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Read the weights that a run started from."""
    original = checkpoint["hyper_parameters"]["pretrained"]
    if original is None:
        raise ValueError(f"the run {path} started from random weights: there is no original model")
    backbone.pretrained = original
    try:
        digest = backbone.pretrained_digest()
    except ValueError as error:
        raise ValueError(f"the run {path} needs the original weights at {original!r}: {error}") from error
    if digest != checkpoint["wand"]["pretrained_digest"]:
        raise ValueError(f"the original weights at {original!r} have changed since the run {path} started")
    backbone.load_pretrained()


def codec_of_run(path: str | Path) -> Codec | None:
    """Build the codec that the config of a run names (``data.codec``); None if it names none.

    Raises:
        ValueError: If the config names code that it may not start (`wand.runs.trust`), or the codec cannot be built.
    """
    spec = setting_of_run(path, "data.codec", Codec)
    return None if spec is None else _build_codec(spec, path)


def setting_of_run(path: str | Path, place: str, hint: Any) -> Any:
    """A setting in the config of a run, as plain values; None if the config, or the setting, is not there.

    Args:
        path: See `find_checkpoint`.
        place: The setting, such as ``data.codec``.
        hint: Its annotation, or the class whose settings it holds.

    Raises:
        ValueError: If the setting names code that it may not start (`wand.runs.trust`), or cannot be read.
    """
    folder = run_folder(find_checkpoint(path))
    if folder is None or not (folder / "config.yaml").is_file():
        return None
    file = folder / "config.yaml"
    content = read_config_bytes(file)
    config = parse_config(content, file)[0]
    check_interpolations(OmegaConf.to_container(config), content, file)
    value = select_setting(config, place, file)
    if value is not None:
        check_setting(value, hint, place, content, file)
    return value


def select_setting(config: DictConfig, place: str, file: str | Path) -> Any:
    """A setting of a config, as plain values; None if it is not there.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        chosen = OmegaConf.select(config, place)
        return OmegaConf.to_container(chosen, resolve=True) if OmegaConf.is_config(chosen) else chosen
    except OmegaConfBaseException as error:
        raise ValueError(f"{file}: {place} cannot be read: {first_line(error)}") from error


def _build_codec(spec: Any, run: str | Path) -> Codec:
    """Build a codec from its class path and settings."""
    given = spec if isinstance(spec, dict) else {"class_path": spec}
    name, settings = str(given.get("class_path")), given.get("init_args") or {}
    try:
        found = known_class(name) or getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
        if not issubclass(found, Codec):
            raise TypeError("it is not a codec")
        codec: Codec = found(**settings)
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"{run}: data.codec {name!r} cannot be built: {error}") from error
    return codec


def _open(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """The file and the content of a checkpoint that may start what it names."""
    file = find_checkpoint(path)
    checkpoint = read_checkpoint(file)
    check_checkpoint(checkpoint["hyper_parameters"], file, run_folder(file))
    return file, checkpoint


def _build(checkpoint: dict[str, Any]) -> Backbone:
    """Build the model that a checkpoint describes, with random weights."""
    files = {name: bytes(content.numpy()) for name, content in checkpoint["wand"].get("files", {}).items()}
    return build_backbone(checkpoint["hyper_parameters"]["backbone"], files)
