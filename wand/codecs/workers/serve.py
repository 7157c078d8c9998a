"""One side of a codec's worker: requests as JSON lines on stdin, answers on stdout.

Runs in the environment of the released model: the standard library and numpy are all it needs. A script makes an object
with methods (``encode``, ``decode``, ...) and calls `serve`; arrays arrive and leave as numpy arrays.
"""

import base64
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

# How an answer's line begins.
ANSWER = '{"id":'


def pack(value: Any) -> Any:
    """Arrays as ``{"dtype", "shape", "data"}``, in dicts and lists too."""
    if isinstance(value, np.ndarray):
        little = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<")))
        data = base64.b64encode(little.tobytes()).decode()
        return {"dtype": little.dtype.str, "shape": list(value.shape), "data": data}
    if isinstance(value, dict):
        return {name: pack(part) for name, part in value.items()}
    return value


def unpack(value: Any) -> Any:
    """The arrays of `pack`."""
    if isinstance(value, dict) and set(value) == {"dtype", "shape", "data"}:
        flat = np.frombuffer(base64.b64decode(value["data"]), dtype=value["dtype"])
        return flat.reshape(value["shape"]).copy()
    if isinstance(value, dict):
        return {name: unpack(part) for name, part in value.items()}
    return value


def serve(make: Callable[[dict[str, Any]], Any]) -> None:
    """Answer until stdin ends.

    Args:
        make: Called once with the settings (a dict: release, repository, device); gives the object that answers.
    """
    # What upstream prints would be taken for an answer: stdout is kept for the protocol alone.
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
        except Exception as error:  # told to the other side, which raises it
            reason = " ".join(str(error).split())
            answer["error"] = f"{type(error).__name__}: {reason}"
        print(json.dumps(answer), file=answers, flush=True)
