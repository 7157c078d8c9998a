"""Checks of values that users give: numbers, switches, devices. Every error is one line that names the value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isfinite, isinf, isnan
from numbers import Integral, Real
from typing import Any


def is_finite_number(value: Any) -> bool:
    """Whether a value is a finite number of Python, which true and false are not."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:  # a whole number with more than 308 digits
        return False


def check_number(name: str, value: Any, interval: str = "(-inf, inf)", hint: str = "") -> None:
    """Check that a value is a number in an interval; NaN is in none.

    Args:
        name: Name of the setting, as users type it.
        value: The value.
        interval: Such as ``[0, 1)``; a round bracket leaves out the bound. ``inf]`` allows what is infinite.
        hint: What to give instead.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} {value!r} is not a number{_after(hint)}")
    try:
        number = float(value)
    except OverflowError:  # a whole number with more than 308 digits
        number = inf
    if isnan(number) or (isinf(number) and not interval.endswith("inf]")):
        raise ValueError(f"{name} {number} is not finite{_after(hint)}")
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = number > low if interval[0] == "(" else number >= low
    below = number < high if interval[-1] == ")" else number <= high
    if not (above and below):
        raise ValueError(f"{name} {value} is {_outside(number, interval, low)}{_after(hint)}")


def check_whole_number(name: str, value: Any, least: float = -inf, most: float = inf, hint: str = "") -> None:
    """Check that a value is a whole number between two bounds, which it may equal.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        kind = "finite" if isinstance(value, float) and not isfinite(value) else "a whole number"
        raise ValueError(f"{name} {value!r} is not {kind}{_after(hint)}")
    if not least <= int(value) <= most:
        raise ValueError(f"{name} {value} is {_outside(int(value), f'[{least:.0f}, {most:.0f}]', least)}{_after(hint)}")


def plain(value: Any) -> Any:
    """Nested values with Python's own numbers: those of numpy would make a checkpoint that cannot be read safely."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(inner) for inner in value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def check_seeds(name: str, seeds: Sequence[Any]) -> None:
    """Check the seeds of several takes: files keep them as integers of 32 bits, and each seed makes one take.

    Raises:
        ValueError: If one of them is no such number, or is given twice.
    """
    for seed in seeds:
        check_whole_number(name, seed, least=0, most=2**31 - 1)
    if len({*seeds}) < len(seeds):
        raise ValueError(f"{name} {' '.join(map(str, seeds))}: give each seed once")


def check_switch(name: str, value: object) -> None:
    """Check that a value is true or false.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} {value!r} is neither true nor false")


def check_device(device: Any) -> None:
    """Check that torch can put numbers on a device, and read them there.

    Raises:
        ValueError: If it cannot.
    """
    import torch  # not at the top: some rooms check numbers without torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = first_line(error)
        raise ValueError(f"device {str(device)!r} cannot be used ({reason}): give cpu, cuda or cuda:0") from error


def check_shares(validation: Any, test: Any) -> None:
    """Check the shares of a corpus that are held out for validation and for the test.

    Raises:
        ValueError: If one is outside ``[0, 1]``, or together they leave nothing to train on.
    """
    check_number("validation_share", validation, "[0, 1]")
    check_number("test_share", test, "[0, 1]")
    if validation + test > 1:
        raise ValueError(f"validation_share {validation} and test_share {test} are more than the whole corpus together")


def _outside(value: float, interval: str, low: float) -> str:
    if low in (0, 1) and value <= 0:
        return "negative" if low == 0 and interval[0] == "[" else "not positive"
    return f"outside {interval}"


def _after(hint: str) -> str:
    return f": {hint}" if hint else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, and the next one after a colon; its kind if it says nothing."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])
