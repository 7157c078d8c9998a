"""The worker side of the codec protocol: requests are JSON lines on stdin, answers are JSON lines on stdout.

This module runs in the environment of the released model and needs only the standard library and numpy. A script calls
`serve` with a function that makes an object with methods (``encode``, ``decode``, ...). Arrays are numpy arrays.
"""

import base64
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

# First characters of a line with an answer.
ANSWER = '{"id":'


def pack(value: Any) -> Any:
    """Convert arrays, also inside dicts, to ``{"dtype", "shape", "data"}``."""
    if isinstance(value, np.ndarray):
        little = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<")))
        data = base64.b64encode(little.tobytes()).decode()
        return {"dtype": little.dtype.str, "shape": list(value.shape), "data": data}
    if isinstance(value, dict):
        return {name: pack(part) for name, part in value.items()}
    return value


def unpack(value: Any) -> Any:
    """Convert the output of `pack` back to arrays."""
    if isinstance(value, dict) and set(value) == {"dtype", "shape", "data"}:
        flat = np.frombuffer(base64.b64decode(value["data"]), dtype=value["dtype"])
        return flat.reshape(value["shape"]).copy()
    if isinstance(value, dict):
        return {name: unpack(part) for name, part in value.items()}
    return value


def serve(make: Callable[[dict[str, Any]], Any]) -> None:
    """Answer requests until stdin ends.

    Args:
        make: Called once, with the settings (a dict with release, repository and device). Returns the object that
            answers.
    """
    # Keep stdout for answers only, and send everything that upstream prints to stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    settings = json.loads(sys.argv[1])
    if settings.get("repository"):
        sys.path.insert(0, settings["repository"])
    codec = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {"id": request["id"]}
        try:
            if codec is None:
                answer["made"] = False
                codec = make(settings)
                del answer["made"]
            arguments = unpack(request.get("arguments", {}))
            answer["result"] = pack(getattr(codec, request["do"])(**arguments))
        except Exception as error:  # sent to the parent process, which raises it
            reason = " ".join(str(error).split())
            answer["error"] = f"{type(error).__name__}: {reason}"
        print(json.dumps(answer), file=answers, flush=True)
