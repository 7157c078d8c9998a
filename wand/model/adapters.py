"""Find adapters by name, and build models from their specs."""

from __future__ import annotations

import importlib
from typing import Any

from wand.files.typed import require
from wand.model.alignment import read_heads
from wand.model.backbone import Backbone
from wand.model.tokenizers import Files
from wand.moved import say_where
from wand.registry import known_backbones


def find_backbone(name: str) -> type[Backbone]:
    """Find an adapter by its name or class path.

    Raises:
        ValueError: If there is no such adapter. The message lists the known ones.
    """
    known = known_backbones()
    if name in known:
        module, attribute = known[name], name
    elif "." in name and not name.startswith("."):
        module, attribute = name.rsplit(".", 1)
    else:
        raise ValueError(f"unknown backbone {name!r}: known are {', '.join(sorted(known))}, or give a class path")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"backbone {name!r} cannot be imported ({say_where(str(error))}): known are {', '.join(sorted(known))}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Backbone)):
        raise ValueError(f"{name!r} is not a Backbone: known are {', '.join(sorted(known))}")
    return found


def build_backbone(spec: dict[str, Any], files: Files | None = None) -> Backbone:
    """Build a model with random weights from a `Backbone.spec` and `Backbone.files`."""
    made = find_backbone(spec["class_path"]).from_architecture(spec["architecture"])
    if files:
        made.use_files(files)
    if "alignment_heads" in spec:  # older specs do not have them
        made.alignment_heads = read_heads(spec["alignment_heads"], made.decoder.config, "alignment_heads")
    for fact in ("longest_prefix", "longest_text"):
        setattr(made, fact, require(spec.get(fact), int | None, fact))
    return made
