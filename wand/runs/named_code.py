"""Find the values of a config that name code: what `wand.runs.trust` decides on. Nothing that is foreign is imported.

A config is read as jsonargparse would read it, against the annotations of the classes that it configures. Where an
annotation holds a class, jsonargparse imports a text as a class path, or opens it as a file with more settings. Where
the annotation is plain (a number, a text, a path), a text is data, whatever it says.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from inspect import isclass, signature, unwrap
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import yaml

from wand.distillation.divergences import DIVERGENCES
from wand.files.plain_values import check_yaml
from wand.recognition.named import class_and_weights
from wand.registry import (
    BACKBONES,
    CODEC_CLASSES,
    CODECS,
    ENTRY_POINT_GROUPS,
    METRICS,
    PARTS,
    SOURCES,
    entry_points_of,
)

PLAIN = (str, bool, int, float, NoneType, PurePath, timedelta)
CONTAINERS = (list, tuple, set, frozenset, dict)
# A word that no import and no file can be meant by.
WORD = re.compile(r"[\w-]*")
INTERPOLATION = "${"
OWN = {name: module for table in (BACKBONES, SOURCES, CODEC_CLASSES, METRICS, PARTS) for name, module in table.items()}


class NamedCode(NamedTuple):
    """A value that names code.

    Args:
        place: The setting, as in ``data.codec.class_path``.
        value: Its value.
    """

    place: str
    value: Any

    def __str__(self) -> str:
        """Setting and value, shortened."""
        value = repr(self.value)
        return f"{self.place} {value if len(value) <= 200 else value[:200] + '...'}"


class Unknown:
    """Stands for the annotation of a setting that is not known. A text there may name code."""


def known_class(path: Any) -> type | None:
    """The class that an artefact may name by this path: one of `wand.registry`, or an installed entry point.

    A class of wand may also be named by a package above its module, as in ``wand.codecs.EncodecCodec``.

    Returns:
        The class; None for any other path, which is not imported.
    """
    if not isinstance(path, str):
        return None
    module, _, name = path.rpartition(".")
    if name in OWN and (module == "" or f"{OWN[name]}.".startswith(f"{module}.")):
        return getattr(importlib.import_module(OWN[name]), name)
    for point in (point for group in ENTRY_POINT_GROUPS for point in entry_points_of(group)):
        named = path in (point.name, f"{point.module}.{point.attr}")
        if named or path.partition(".")[0] == point.module.partition(".")[0]:
            try:
                found = point.load()
            except (ImportError, AttributeError):  # listed, but not installed
                continue
            if isclass(found) and (named or path == f"{found.__module__}.{found.__qualname__}"):
                return found
    return None


def named_in_config(config: Any, sections: Mapping[str, Any]) -> list[NamedCode]:
    """The values of a config that name code which no artefact may name.

    Args:
        config: The config as plain values.
        sections: The annotation of each section, or the class whose settings it holds. Others are unknown.
    """
    if not isinstance(config, Mapping):
        return [NamedCode("the config", config)]
    return [found for name, value in config.items() for found in _walk(value, _hint(name, sections), str(name))]


def named_in_value(value: Any, hint: Any, place: str) -> list[NamedCode]:
    """As `named_in_config`, for the value of one setting."""
    return list(_walk(value, hint, place))


def interpolations_in(config: Any, place: str = "") -> list[NamedCode]:
    """The values of a config that have interpolations, which may become the name of any code."""
    if isinstance(config, Mapping):
        return [found for name, part in config.items() for found in interpolations_in(part, f"{place}.{name}")]
    if isinstance(config, list):
        return [found for i, part in enumerate(config) for found in interpolations_in(part, f"{place}[{i}]")]
    return [NamedCode(place[1:], config)] if isinstance(config, str) and INTERPOLATION in config else []


def named_by_checkpoint(backbone: Any, settings: Mapping[str, Any]) -> list[NamedCode]:
    """The values of a checkpoint or an export that name code which no artefact may name.

    Args:
        backbone: The `Backbone.spec` that it stores.
        settings: The training settings that it stores.
    """
    found = []
    path = backbone.get("class_path") if isinstance(backbone, Mapping) else None
    if isinstance(path, str) and known_class(path) is None:
        found.append(NamedCode("backbone.class_path", path))
    divergence = divergence_of(settings)
    if isinstance(divergence, str) and divergence not in DIVERGENCES:
        found.append(NamedCode("loss.divergence", divergence))
    return found


def divergence_of(settings: Mapping[str, Any]) -> Any:
    """The divergence that stored settings name."""
    loss = settings.get("loss")
    return loss.get("divergence") if isinstance(loss, Mapping) else None


def _walk(value: Any, hint: Any, place: str) -> Iterator[NamedCode]:
    if isinstance(value, Mapping):
        yield from _walk_mapping(value, hint, place)
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from _walk(part, _item_hint(hint), f"{place}[{i}]")
    elif isinstance(value, str) and not _is_data(value, hint, place):
        yield NamedCode(place, value)


def _names_code_as_yaml(text: str, place: str) -> bool:
    """Whether a text names code when it is read as YAML, or may: it cannot be read."""
    try:
        check_yaml(text)
        value = yaml.safe_load(text)
    except (ValueError, TypeError, yaml.YAMLError):
        return True
    return value != text and any(_walk(value, Any, place))


def _walk_mapping(value: Mapping[Any, Any], hint: Any, place: str) -> Iterator[NamedCode]:
    if "class_path" in value:
        found = known_class(value["class_path"])
        if found is None:
            yield NamedCode(f"{place}.class_path", value["class_path"])
            return
        hints = settings_of(found)
        for name in getattr(found, "starts_programs", ()):
            settings = value.get("init_args")
            if isinstance(settings, Mapping) and settings.get(name) not in (None, *CODECS):
                yield NamedCode(f"{place}.init_args.{name}", settings[name])
        for name, part in value.items():
            if name in ("init_args", "dict_kwargs") and isinstance(part, Mapping):
                for inner, setting in part.items():
                    yield from _walk(setting, _hint(inner, hints), f"{place}.{name}.{inner}")
            elif name != "class_path":
                yield from _walk(part, Unknown, f"{place}.{name}")
        return
    data = (Unknown, *PLAIN, *CONTAINERS)
    classes: list[Any] = [one for one in _members(hint) if isclass(one) and not issubclass(one, data)]
    hints = {name: one for found in classes for name, one in settings_of(found).items()}
    values = _item_hint(hint) if not classes else Unknown
    for name, part in value.items():
        inner = _hint(name, hints) if hints else (values if _is_key(name) else Unknown)
        yield from _walk(part, inner, f"{place}.{name}")


def _is_data(text: str, hint: Any, place: str) -> bool:
    if INTERPOLATION in text:  # it may become any text, of any length
        return False
    if place == "model.loss.divergence":
        return text in DIVERGENCES
    if place.rpartition(".")[2].removesuffix("+") == "recogniser" and class_and_weights(text):
        return False
    members = _members(hint)
    if all(_is_plain(member) for member in members):
        return True
    if Any in members:
        return not _names_code_as_yaml(text, place)
    if known_class(text) is not None:
        return True
    takes_text = Unknown in members or any(member is str or get_origin(member) is Literal for member in members)
    return takes_text and WORD.fullmatch(text) is not None and not Path(text).exists()


def _is_plain(hint: Any) -> bool:
    """Whether no value of this annotation is imported or opened."""
    origin = get_origin(hint)
    if origin is Literal:
        return True
    if isclass(origin or hint) and issubclass(origin or hint, CONTAINERS):
        return all(_is_plain(member) for part in get_args(hint) for member in _members(part))
    return isclass(hint) and issubclass(hint, PLAIN)


def _members(hint: Any) -> tuple[Any, ...]:
    """The members of a union; a tuple with any other annotation."""
    if get_origin(hint) is Annotated:
        return _members(get_args(hint)[0])
    if get_origin(hint) not in (Union, UnionType):
        return (hint,)
    return tuple(inner for member in get_args(hint) for inner in _members(member))


def _item_hint(hint: Any) -> Any:
    """The annotation of the items of a list, or of the values of a dict; `Unknown` where there is none."""
    for member in _members(hint):
        if get_args(member) and get_origin(member) is not Literal:
            return next(part for part in reversed(get_args(member)) if part is not Ellipsis)
    return Any if hint is Any else Unknown


def _hint(name: Any, hints: Mapping[str, Any]) -> Any:
    """The annotation of a setting; jsonargparse appends to ``name`` under ``name+``, and nests ``a.b``."""
    return hints.get(name.removesuffix("+"), Unknown) if _is_key(name) else Unknown


def _is_key(name: Any) -> bool:
    return isinstance(name, str) and "." not in name


@cache
def settings_of(owner: type) -> dict[str, Any]:
    """Annotations of the settings of a class: the arguments of its constructor."""
    made = unwrap(owner.__init__)  # type: ignore[misc]
    try:
        hints = get_type_hints(made)
    except NameError:  # an annotation that is imported for type checks only
        return {}
    return {name: hints.get(name, Any) for name in list(signature(made).parameters)[1:]}
