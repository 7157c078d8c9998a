"""Load models of transformers from a folder, or from what ``hf download`` has stored."""

from __future__ import annotations

from typing import Any

import torch

# Nothing is downloaded, and no code of the folder runs: without this, transformers asks whether it may.
OFFLINE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def load_pretrained(kind: Any, name: str, **options: Any) -> tuple[Any, list[str]]:
    """Load a model, and leave the random numbers of PyTorch as they are.

    Args:
        kind: Class or auto class of transformers.
        name: A folder, or the name of a model that was downloaded.
        options: Further options of ``from_pretrained``.

    Returns:
        The model, and the names of the weights that the folder lacks, sorted.

    Raises:
        Exception: Of any kind, for a damaged folder.
    """
    with torch.random.fork_rng(devices=[]):  # a fit that opens it later draws the same numbers
        model, found = kind.from_pretrained(
            name,
            output_loading_info=True,
            # With peft installed, transformers looks for adapters on the hub, unless this forbids it.
            adapter_kwargs={"local_files_only": True},
            **OFFLINE,
            **options,
        )
    return model, sorted(found["missing_keys"])
