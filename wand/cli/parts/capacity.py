"""`wand benchmark --capacity`: its options, and models that are opened for their sizes, without weights."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from wand.attention import Windows, resolve_windows
from wand.attention.body import check_body
from wand.benchmark.capacity import ModelSize
from wand.benchmark.shapes import SHAPES
from wand.checks import first_line
from wand.files.pretrained import OFFLINE
from wand.model.backbone import Backbone

# The options that one of the two kinds of benchmark does not use.
ONLY_CAPACITY = ("config", "memory", "share", "block", "columns_per_second")
ONLY_MEASURED = ("int8", "threads", "batch", "repeats")
# Defaults if neither model nor user sets them. The prefix is about two seconds of reference and a sentence.
PREFIX, WINDOW = 192, 32


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``--capacity``."""
    parser.add_argument(
        "--capacity",
        action="store_true",
        help="measure nothing: count the streams that fit into the memory of a card (docs/serving.md)",
    )
    parser.add_argument("--memory", type=float, help="with --capacity: GiB of the card (default: those of --device)")
    parser.add_argument(
        "--share",
        type=float,
        default=0.9,
        help="with --capacity: share of the memory for weights and caches (default: 0.9)",
    )
    parser.add_argument(
        "--block",
        type=int,
        default=16,
        help="with --capacity: columns in a block of an engine with a paged cache (default: 16, vLLM's on a GPU)",
    )
    parser.add_argument(
        "--columns_per_second",
        type=float,
        help="with --capacity and a config.json: speech tokens per second, which that file does not name",
    )


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options without an effect.

    Raises:
        ValueError: If there is one.
    """
    others = ONLY_MEASURED if options.capacity else ONLY_CAPACITY
    for name in others:
        if getattr(options, name) != parser.get_default(name):
            remedy = "has no effect with --capacity" if options.capacity else "needs --capacity"
            raise ValueError(f"--{name} {remedy}: leave one of them out")
    if options.capacity and options.paper:
        raise ValueError("--capacity needs a model: give --shape, --ckpt_path or --config instead of --paper")
    for name, value in vars(options).items():
        if options.paper and name != "paper" and value != parser.get_default(name):
            raise ValueError(f"--{name} has no effect with --paper: leave one of them out")


def open_size(options: argparse.Namespace) -> tuple[ModelSize, int, Windows]:
    """The size of a model, P and the windows. No weights are read, and none are allocated.

    Raises:
        ValueError: If the model cannot be opened.
    """
    dtype = getattr(torch, options.dtype)
    if options.config is not None and Path(options.config).suffix == ".json":
        size = _size_of_transformers(Path(options.config), dtype, options.columns_per_second)
        return size, options.prefix or PREFIX, resolve_windows(options.window or WINDOW, size.shape.layers)
    if options.columns_per_second is not None:
        raise ValueError("--columns_per_second needs --config with a config.json: other models name their own")
    title, backbone, window = _open_without_weights(options)
    prefix = PREFIX if options.shape is None else SHAPES[options.shape].prefix
    return (
        ModelSize.of(title, backbone.to(dtype)),
        options.prefix or prefix,
        backbone.windows(options.window or window or WINDOW),
    )


def _open_without_weights(options: argparse.Namespace) -> tuple[str, Backbone, int | list[int] | None]:
    """The model of a shape, a run, an export or a config of wand, on the meta device: its title, it, and its window."""
    if options.shape is not None:
        shape = SHAPES[options.shape]
        return shape.title, shape.build("meta"), shape.window
    # Imported here because --shape must work with only torch and transformers.
    from wand.cli.configs import build_section, section_of_config
    from wand.model.adapters import find_backbone
    from wand.registry import known_backbones
    from wand.runs.checkpoints import is_export, open_run
    from wand.speech.synthesizer import open_export

    for name in known_backbones():
        find_backbone(name)  # imported first, so that no tensor of a module is on the meta device
    with torch.device("meta"):
        if options.config is not None:
            module = build_section("model", section_of_config(options.config, "model"))
            return f"{type(module.backbone).__name__} of {options.config}", module.backbone, module.settings.window
        if is_export(options.ckpt_path):
            _, backbone, windows = open_export(Path(options.ckpt_path))
            return f"{type(backbone).__name__} of {options.ckpt_path}", backbone, windows.plain
        run = open_run(options.ckpt_path)
        return f"{type(run.backbone).__name__} of {run.file}", run.backbone, run.settings.window


def _size_of_transformers(path: Path, dtype: torch.dtype, columns_per_second: float | None) -> ModelSize:
    """The size of a causal language model from its ``config.json``."""
    if columns_per_second is None:
        raise ValueError(f"{path} does not say how fast the model speaks: give --columns_per_second")
    if not path.is_file():  # transformers would look for a model of this name on its hub
        raise ValueError(f"{path} is not there: give the config.json of a causal language model")
    try:
        config = AutoConfig.from_pretrained(path, **OFFLINE)
        with torch.device("meta"):  # there, the experts of transformers run in bfloat16 only
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    except Exception as error:  # transformers checks each entry, or divides by it, in its own way
        raise ValueError(f"{path} is not the config of a causal language model: {first_line(error)}") from error
    shape = check_body(model.base_model).shape
    model.to(dtype)
    if shape is None:
        raise ValueError(f"{path}: {type(model).__name__} needs a cache of its own kind: a window has none")
    return ModelSize(
        title=f"{type(model).__name__} of {path}",
        dtype=str(dtype).removeprefix("torch."),
        shape=shape,
        itemsize=dtype.itemsize,
        weight_bytes=sum(weight.nbytes for weight in model.parameters()),
        columns_per_second=columns_per_second,
    )
