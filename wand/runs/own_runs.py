"""Which runs this user's own ``wand fit`` wrote: a record in the user's state folder, which no artefact can bring."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from wand.files.writing import write_text


def state_folder() -> Path:
    """``$WAND_STATE``, else ``wand`` in the user's state folder (``$XDG_STATE_HOME``, or ``~/.local/state``)."""
    if named := os.environ.get("WAND_STATE"):
        return Path(named)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "wand"


def digest_of(value: Any) -> str:
    """SHA-256 of bytes, or of plain values written as JSON."""
    content = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, default=repr).encode()
    return hashlib.sha256(content).hexdigest()


def record(folder: Path, digests: set[str]) -> None:
    """Add digests to the record of a run folder: of its config, and of what its checkpoints name.

    Raises:
        ValueError: If the state folder cannot be written.
    """
    about = {"folder": str(folder.resolve()), "digests": sorted(_digests(folder) | digests)}
    write_text(_file(folder), json.dumps(about, indent=2) + "\n")


def is_recorded(folder: Path | None, value: Any) -> bool:
    """Whether this user's own fit wrote a run folder, with this config or with checkpoints that name this."""
    return folder is not None and digest_of(value) in _digests(folder)


def _file(folder: Path) -> Path:
    return state_folder() / "runs" / f"{digest_of(str(folder.resolve()))[:32]}.json"


def _digests(folder: Path) -> set[str]:
    try:
        about = json.loads(_file(folder).read_text())
        return set(about["digests"]) if about["folder"] == str(folder.resolve()) else set()
    except (OSError, ValueError, KeyError, TypeError):  # there is no record, or none that can be read
        return set()
