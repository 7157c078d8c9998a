"""The trust boundary: whether an artefact may start the code that it names. See docs/security.md.

An artefact (a run, a checkpoint, an export) may name adapters, sources and codecs of wand and of installed entry
points. Anything else that starts code must come from the command line, from a config given there, or from a run folder
that this user's own ``wand fit`` wrote. `check` decides; the functions that open artefacts call it before any import.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from wand.runs.named_code import (
    NamedCode,
    divergence_of,
    interpolations_in,
    named_by_checkpoint,
    named_in_config,
    named_in_value,
)
from wand.runs.own_runs import digest_of, is_recorded, record

SHOWN = 3
_trusted: ContextVar[bool] = ContextVar("_trusted", default=False)


@contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """Trust all artefacts that are opened inside the ``with`` block, as ``--trust`` does."""
    token = _trusted.set(trust or _trusted.get())
    try:
        yield
    finally:
        _trusted.reset(token)


def check(named: Sequence[NamedCode], file: Path, own: bool) -> None:
    """Decide whether an artefact may start the code that it names.

    Args:
        named: The values that name code which no artefact may name.
        file: The file that holds them.
        own: Whether this user's own ``wand fit`` wrote the file.

    Raises:
        ValueError: If it may not. The message names the values and the flag.
    """
    if not named:
        return
    if own or _trusted.get():
        search_current_folder()
        return
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    raise ValueError(
        f"{file} would start code that belongs neither to wand nor to an installed adapter: "
        f"{', '.join(map(str, named[:SHOWN]))}{more}. Your own `wand fit` has no record of it: it is from somebody "
        f"else, a copy, edited, or older than the record. If you trust it, add --trust (in Python: trust=True)"
    )


def check_config(config: Any, content: bytes, file: Path, sections: Mapping[str, Any]) -> None:
    """Check the config of a run before anything in it is imported.

    Args:
        config: Its values.
        content: The bytes of the file.
        file: The file.
        sections: The annotation of each section.

    Raises:
        ValueError: If it may not start the code that it names.
    """
    check(named_in_config(config, sections), file, is_recorded(file.parent, content))


def check_interpolations(config: Any, content: bytes, file: Path) -> None:
    """Check the config of a run, of which only a setting is used, before its interpolations are replaced.

    Raises:
        ValueError: If it has interpolations and is from somebody else. They can grow without limit.
    """
    check(interpolations_in(config), file, is_recorded(file.parent, content))


def check_setting(value: Any, hint: Any, place: str, content: bytes, file: Path) -> None:
    """As `check_config`, for the only setting of a config that is used."""
    check(named_in_value(value, hint, place), file, is_recorded(file.parent, content))


def check_checkpoint(hyper_parameters: Mapping[str, Any], file: Path, run: Path | None) -> None:
    """Check what a checkpoint names, before anything of it is imported.

    Args:
        hyper_parameters: What the checkpoint stores about its model and settings.
        file: The file.
        run: The run folder that contains the file, if any.

    Raises:
        ValueError: If it may not start the code that it names.
    """
    backbone = hyper_parameters.get("backbone")
    named = named_by_checkpoint(backbone, hyper_parameters)
    check(named, file, is_recorded(run, named_code_of(hyper_parameters)))


def check_export(about: Mapping[str, Any], file: Path) -> None:
    """Check what an export names, before anything of it is imported. An export is a copy: it is never recorded.

    Raises:
        ValueError: If it may not start the code that it names.
    """
    check(named_by_checkpoint(about.get("backbone"), {}), file, own=False)


def named_code_of(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a checkpoint that names code."""
    backbone = hyper_parameters.get("backbone")
    path = backbone.get("class_path") if isinstance(backbone, Mapping) else None
    return {"backbone": path, "divergence": divergence_of(hyper_parameters)}


def record_run(folder: Path, config: str, hyper_parameters: Mapping[str, Any]) -> None:
    """Record that this user's own fit writes a run folder: its config, and what its checkpoints name.

    Args:
        folder: The run folder.
        config: The text of its config.
        hyper_parameters: What the checkpoints of the run will store.

    Raises:
        OSError: If the state folder cannot be written.
    """
    record(folder, {digest_of(config.encode()), digest_of(named_code_of(hyper_parameters))})


def flag_for(run: Path) -> str:
    """What a printed command for a run of this fit needs: nothing, or `` --trust`` if the run could not be recorded."""
    config = run / "config.yaml"
    return "" if config.is_file() and is_recorded(run, config.read_bytes()) else " --trust"


def command_for(command: str, run: Path) -> str:
    """A command for a run of this fit, as the user types it."""
    return f"wand {command} --ckpt_path {shlex.quote(os.path.relpath(run))}{flag_for(run)}"


def search_current_folder() -> None:
    """Import from the current folder, for the user's own adapters. It comes last, so that it replaces no package."""
    if "" not in sys.path:
        sys.path.append("")
