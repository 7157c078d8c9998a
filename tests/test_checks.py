"""Checks of values that users give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wand.checks import check_device, check_number, check_shares, check_switch, check_whole_number, first_line
from wand.codecs.facts import CodecFacts
from wand.files.typed import require

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("(0, inf)", [1e-9, 1, 1e300, np.float32(2)], [0, -1, NAN, INF, 10**400]),
        ("[0, 1)", [0, 0.5], [1, -1e-9, NAN]),
        ("[0, 1]", [0, 1, True + 0], [1.1, -INF]),
        ("(0, 86400]", [86400, 0.1], [86401, 0]),
        ("(-inf, inf)", [-1e9, 0], [NAN, INF, -INF]),
        ("(0, inf]", [1, INF], [NAN, 0, -INF]),
    ],
)
def test_numbers_in_an_interval(interval: str, inside: list[float], outside: list[float]) -> None:
    for value in inside:
        check_number("speed", value, interval)
    for value in (*outside, "1", None, True, [1], 1j):
        with pytest.raises(ValueError, match=r"^speed .*: give a speed$") as error:
            check_number("speed", value, interval, "give a speed")
        assert "\n" not in str(error.value)


def test_whole_numbers() -> None:
    for value in (1, 5, np.int64(3)):
        check_whole_number("rows", value, least=1, most=5)
    for value in (0, 6, 1.0, "2", NAN, None, True, 10**30):
        with pytest.raises(ValueError, match=r"^rows "):
            check_whole_number("rows", value, least=1, most=5)


def test_switches_devices_and_shares() -> None:
    check_switch("split", False)
    with pytest.raises(ValueError, match="split 'no' is neither true nor false"):
        check_switch("split", "no")
    check_device("cpu")
    for device in ("nope", "cuda:99", "meta", "", 5.5):
        with pytest.raises(ValueError, match=r"cannot be used .*: give cpu, cuda or cuda:0"):
            check_device(device)
    check_shares(0.5, 0.5)
    with pytest.raises(ValueError, match=r"validation_share 0.6 and test_share 0.5 are more than the whole"):
        check_shares(0.6, 0.5)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("one:\n  two\nthree"), "one: two"),
        (ValueError("one:"), "one:"),
        (EOFError(), "EOFError"),
        (MemoryError("\n"), "MemoryError"),
        (OSError(2, "no"), "[Errno 2] no"),
    ],
)
def test_an_error_in_one_line(error: Exception, line: str) -> None:
    assert first_line(error) == line


@pytest.mark.parametrize("value", [10**400, NAN, INF, True, "1", None])
def test_what_is_no_finite_number_is_refused_in_files(value: Any) -> None:
    with pytest.raises(ValueError, match=r"rate is .* but must be float"):
        require(value, float, "rate")
    with pytest.raises(ValueError, match="sample_rate"):
        CodecFacts(value, 50.0, 1, 9, False)
