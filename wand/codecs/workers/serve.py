"""The worker side of the codec protocol: requests are JSON lines on stdin, answers are JSON lines on stdout.

This module runs in the environment of the released model and needs only the standard library (Python 3.8 or later) and
numpy. A script calls `serve` with a function that makes an object with methods (``encode``, ``decode``, ...). Arrays
are numpy arrays.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# First characters of a line with an answer.
ANSWER = '{"id":'
# Kinds of arrays that may be sent: booleans, integers and floats.
KINDS = "biuf"


def pack(value: Any, name: str = "the answer") -> Any:
    """Convert arrays, also inside dicts, to ``{"dtype", "shape", "data"}``, and numpy's numbers to plain ones.

    Raises:
        ValueError: If a value is neither a number, a string, a list, a dict nor an array of numbers.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in KINDS:
            raise ValueError(f"{name} is an array of dtype {value.dtype}: give an array of numbers")
        little = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<")))
        data = base64.b64encode(little.tobytes()).decode()
        return {"dtype": little.dtype.str, "shape": list(value.shape), "data": data}
    if isinstance(value, np.generic):
        return pack(value.item(), name)
    if isinstance(value, dict):
        return {key: pack(part, str(key)) for key, part in value.items()}
    if value is None or isinstance(value, (bool, int, float, str, list, tuple)):
        return value
    raise ValueError(f"{name} is a {type(value).__name__}: give a numpy array or a plain value")


def unpack(value: Any) -> Any:
    """Convert the output of `pack` back to arrays.

    Raises:
        ValueError: If dtype, shape and data of an array do not fit together. Nothing of the claimed size is allocated.
    """
    if isinstance(value, dict) and set(value) == {"dtype", "shape", "data"}:
        return _array(value["dtype"], value["shape"], value["data"])
    if isinstance(value, dict):
        return {name: unpack(part) for name, part in value.items()}
    return value


def _array(dtype: Any, shape: Any, data: Any) -> np.ndarray:
    try:
        kind = np.dtype(dtype if isinstance(dtype, str) else "O")
    except (TypeError, ValueError):
        kind = np.dtype("O")
    if kind.kind not in KINDS:
        raise ValueError(f"an array has dtype {str(dtype)[:40]!r}, which is no dtype of numbers")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 32:
        raise ValueError(f"an array has shape {str(shape)[:40]}, which is no list of sizes")
    if not isinstance(data, str):
        raise ValueError("the data of an array are no string")
    count = 1
    for size in shape:
        count *= size
    try:
        found = base64.b64decode(data, validate=True)
    except ValueError:
        raise ValueError("the data of an array are not in base64") from None
    if len(found) != count * kind.itemsize:
        raise ValueError(f"an array has shape {shape} and dtype {kind}, but {len(found)} bytes of data")
    return np.frombuffer(found, dtype=kind).reshape(shape).copy()


def check_length(audio: np.ndarray, sample_rate: int, least: float, most: float, taker: str) -> None:
    """Refuse a sound ``[N]`` that upstream's code cannot take.

    Args:
        audio: The sound.
        sample_rate: Its sample rate, in Hz.
        least: Its minimum length, in seconds.
        most: Its maximum length, in seconds.
        taker: The beginning of the message: ``the tokenizer takes``.

    Raises:
        ValueError: If it is shorter or longer.
    """
    seconds = len(audio) / sample_rate
    if seconds > most:
        raise ValueError(f"{taker} {most:g} s at most, not {seconds:.1f} s")
    if seconds < least:
        raise ValueError(f"{taker} {least:.3f} s at least, not {seconds:.3f} s")


def serve(make: Callable[[dict[str, Any]], Any]) -> None:
    """Answer requests until stdin ends.

    Args:
        make: Called once, with the settings (a dict with release, repository and device). Returns the object that
            answers.
    """
    # Keep stdin and stdout for the protocol: what upstream prints goes to stderr, and what it asks finds no answer.
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stdout.flush()
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    answers.write("\n")  # ends a line that was printed without its end
    settings = json.loads(sys.argv[1])
    if settings.get("repository"):
        sys.path.insert(0, settings["repository"])
    codec = None
    for line in requests:
        request = json.loads(line)
        answer: dict[str, Any] = {"id": request["id"]}
        try:
            if codec is None:
                answer["made"] = False
                codec = make(settings)
                del answer["made"]
            arguments = unpack(request.get("arguments", {}))
            answer["result"] = pack(getattr(codec, request["do"])(**arguments))
            written = json.dumps(answer)
        except Exception as error:  # sent to the parent process, which raises it
            reason = " ".join(str(error).split())
            answer.pop("result", None)
            answer["error"] = f"{type(error).__name__}: {reason}"
            written = json.dumps(answer)
        print(written, file=answers, flush=True)


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, even if it is busy."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
