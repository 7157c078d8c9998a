"""Find and read the checkpoints of runs. All files are read with ``weights_only``."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from omegaconf import OmegaConf

from wand.codecs import Codec
from wand.finite import check_weights
from wand.model.adapters import build_backbone
from wand.model.backbone import Backbone
from wand.runs.old_names import read_config
from wand.runs.settings import RunSettings

RUNS = Path("runs")
LAST = "last"
ABOUT = "wand.json"  # describes an export, in its folder


def find_checkpoint(path: str | Path, runs: Path = RUNS) -> Path:
    """Find the checkpoint file for a path. In a folder, files that are not complete are skipped, with a warning.

    Args:
        path: A checkpoint file, a run folder (its ``checkpoints/last.ckpt``, or else its newest checkpoint), or
            ``last`` (the newest checkpoint of all runs).
        runs: Folder that contains the run folders.

    Raises:
        ValueError: If there is no checkpoint, so that nothing starts silently from zero.
    """
    if str(path) == LAST:
        found = newest_complete(runs.glob("*/checkpoints/*.ckpt"))
        if found is None:
            raise ValueError(f"no checkpoint in any run under {runs}/: start with `wand fit --config quickstart`")
        return found
    path = Path(path)
    if path.is_file():
        return path
    if path.is_dir():
        last = path / "checkpoints" / "last.ckpt"
        found = newest_complete([last]) or newest_complete(path.glob("checkpoints/*.ckpt"))
        if found is not None:
            return found
        if (path / ABOUT).is_file():
            raise ValueError(f"{path} is an export, not a run: open it in Python with wand.load({str(path)!r})")
        raise ValueError(f"run folder {path} has no checkpoint yet")
    raise ValueError(f"no checkpoint at {path}: give a run folder, a .ckpt file, or `last`")


def newest_complete(files: Iterable[Path]) -> Path | None:
    """The newest checkpoint that is complete. Newer ones that were cut off, or are empty, are named in a warning."""
    for file in sorted(filter(Path.is_file, files), key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            with ZipFile(file):  # reads the directory, which is the last part of the file
                return file
        except (BadZipFile, OSError):
            _warn_of_damage(file)
    return None


@cache
def _warn_of_damage(file: Path) -> None:
    print(f"wand: warning: {file} is damaged (it is not complete) and was skipped", file=sys.stderr)


def run_folder(checkpoint: Path) -> Path | None:
    """The run folder that contains a checkpoint file; None if it is in no run folder."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        ValueError: If the file is damaged, contains code, or is not a checkpoint of wand.
    """
    file = find_checkpoint(path)
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, BadZipFile, RuntimeError) as error:
        raise ValueError(f"{file} is damaged, or not a checkpoint of wand: {str(error).splitlines()[0]}") from error
    if not isinstance(checkpoint, dict) or "backbone" not in checkpoint.get("hyper_parameters", {}):
        raise ValueError(f"{file} is a checkpoint, but not one of wand (it does not describe a backbone)")
    return checkpoint


def load_backbone_and_settings(path: str | Path) -> tuple[Backbone, RunSettings]:
    """Load the student of a run, in eval mode, and the settings of the run."""
    checkpoint = read_checkpoint(path)
    backbone = _build(checkpoint)
    weights = {
        key.removeprefix("backbone."): value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith("backbone.")
    }
    check_weights(weights, path)
    backbone.load_state_dict(weights)
    return backbone.eval(), RunSettings.from_plain(checkpoint["hyper_parameters"])


def load_original(path: str | Path) -> Backbone:
    """Load the model that a run started from, with its original weights, in eval mode.

    Raises:
        ValueError: If the run started from random weights, or the original weights have changed since.
    """
    checkpoint = read_checkpoint(path)
    original = checkpoint["hyper_parameters"]["pretrained"]
    if original is None:
        raise ValueError(f"the run {path} started from random weights: there is no original model")
    backbone = _build(checkpoint)
    backbone.pretrained = original
    if backbone.pretrained_digest() != checkpoint["wand"]["pretrained_digest"]:
        raise ValueError(f"the original weights at {original!r} have changed since the run {path} started")
    backbone.load_pretrained()
    return backbone.eval()


def codec_of_run(path: str | Path) -> Codec | None:
    """Build the codec that the config of a run names (``data.codec``); None if it names none."""
    folder = run_folder(find_checkpoint(path))
    if folder is None or not (folder / "config.yaml").is_file():
        return None
    config, _ = read_config(folder / "config.yaml")
    spec = OmegaConf.select(config, "data.codec")
    if spec is None:
        return None
    module, name = spec.class_path.rsplit(".", 1)
    codec: Codec = getattr(importlib.import_module(module), name)(**spec.get("init_args", {}))
    return codec


def _build(checkpoint: dict[str, Any]) -> Backbone:
    """Build the model that a checkpoint describes, with random weights."""
    files = {name: bytes(content.numpy()) for name, content in checkpoint["wand"].get("files", {}).items()}
    return build_backbone(checkpoint["hyper_parameters"]["backbone"], files)
