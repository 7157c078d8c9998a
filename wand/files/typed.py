"""Plain values of a foreign file as typed objects: a wrong, missing or unknown value is named with its file and key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from wand.checks import is_finite_number

Made = TypeVar("Made")
# Sizes of models, counts of ids: no honest number is larger.
LARGEST = 2**31 - 1
# What Python, torch and transformers raise when values do not make sense together.
MISFITS = (KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RuntimeError, MemoryError, AssertionError)


@contextmanager
def reading(where: str | Path) -> Iterator[None]:
    """Turn any error of code that uses the content of a file into one line that names the file.

    Raises:
        ValueError: Instead of the error.
    """
    try:
        yield
    except ValueError as error:
        if str(where) in str(error):
            raise
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from error
    except (*MISFITS, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{where} cannot be used: {type(error).__name__}: {reason}") from error


def build(kind: type[Made], values: Any, where: str) -> Made:
    """Build a dataclass from plain values, each checked against its annotation.

    Args:
        kind: The dataclass.
        values: A mapping with its fields; fields with a default may be missing.
        where: File and key, for errors.

    Raises:
        ValueError: If a value is missing, unknown, or of another type. The message names file and key.
    """
    assert is_dataclass(kind)
    hints = get_type_hints(kind)
    given = require(values, dict[str, Any], where)
    names = {field.name for field in fields(kind) if field.init}
    needed = {f.name for f in fields(kind) if f.init and f.default is MISSING and f.default_factory is MISSING}
    if wrong := sorted(map(str, (set(given) - names) | (needed - set(given)))):
        raise ValueError(f"{where}: wrong or missing keys {wrong}")
    checked = {name: require(value, hints[name], f"{where}: {name}") for name, value in given.items()}
    with reading(where):
        return kind(**checked)


def require(value: Any, hint: Any, where: str) -> Any:
    """A plain value of an annotation: numbers are finite, whole numbers at most `LARGEST`, lists become tuples.

    Raises:
        ValueError: If the value is of another type. The message names `where`.
    """
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for member in members:
        if _fits(value, member):
            return _inside(value, member, where)
    words = " or ".join(getattr(member, "__name__", str(member)).replace("NoneType", "null") for member in members)
    shown = repr(value)
    raise ValueError(f"{where} is {shown if len(shown) <= 80 else shown[:80] + '...'}, but must be {words}")


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint) or hint
    if hint is Any:
        return True
    if origin is Literal:
        return value in get_args(hint)
    if is_dataclass(hint):
        return isinstance(value, (Mapping, hint))  # type: ignore[arg-type]
    if origin is float:
        return is_finite_number(value)
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
    if origin in (tuple, list):
        return isinstance(value, (list, tuple))
    return isinstance(value, NoneType if origin is None else origin)


def _inside(value: Any, hint: Any, where: str) -> Any:
    """The value with its parts checked."""
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if is_dataclass(hint) and isinstance(value, Mapping):
        return build(hint, value, where)  # type: ignore[arg-type]
    if origin in (tuple, list):
        kind = inner[0] if inner else Any
        return origin(require(part, kind, f"{where}[{i}]") for i, part in enumerate(value))
    if origin is dict and inner:
        return {
            require(k, inner[0], f"{where}, a key,"): require(v, inner[1], f"{where}.{k}") for k, v in value.items()
        }
    return value
