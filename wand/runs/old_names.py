"""Config files as they are read: names that older versions of wand used are translated, the file stays as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from wand.files.plain_values import YAML_BYTES, parse_yaml, read_plain
from wand.moved import MOVED_MODULES
from wand.runs.settings import GROUPED

CLASS = re.compile(r"[A-Z]\w*")


def read_config(file: str | Path) -> tuple[DictConfig, bool]:
    """A config file in today's names, and whether any name in it was an older one.

    Interpolations stay as they are written.

    Raises:
        ValueError: If the file is not YAML, is not a mapping, or gives one setting under its old and its new name.
    """
    return parse_config(read_config_bytes(file), file)


def read_config_bytes(file: str | Path) -> bytes:
    """The bytes of a config file, within the limit of `read_yaml`."""
    return read_plain(Path(file), YAML_BYTES)


def parse_config(content: bytes, file: str | Path) -> tuple[DictConfig, bool]:
    """As `read_config`, from the bytes of the file."""
    values = parse_yaml(content, f"the config {file}")
    if not isinstance(values, dict) or not values:
        raise ValueError(f"the config {file} has no settings: it should hold lines like `name: my-run`")
    current = _current_classes(values)
    if isinstance(model := current.get("model"), dict):
        current["model"] = _current_settings(model, file)
    return OmegaConf.create(current), current != values


def current_class(name: str) -> str:
    """The class path that an older one became; any other text, such as the name of a file, as it is."""
    module, dot, attribute = name.rpartition(".")
    if not CLASS.fullmatch(attribute):
        return name
    return MOVED_MODULES.get(module, module) + dot + attribute


def _current_classes(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _current_classes(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_current_classes(part) for part in value]
    return current_class(value) if isinstance(value, str) else value


def _current_settings(model: dict[str, Any], file: str | Path) -> dict[str, Any]:
    """The section ``model`` with every setting in the group that it belongs to."""
    current = {name: value for name, value in model.items() if name not in GROUPED}
    for name in filter(GROUPED.get, model):
        group = current.get(GROUPED[name]) or {}
        if not isinstance(group, dict) or name in group:
            raise ValueError(
                f"{file}: model.{name} is now model.{GROUPED[name]}.{name}: set it there and remove the old one"
            )
        current[GROUPED[name]] = {**group, name: model[name]}
    return current
