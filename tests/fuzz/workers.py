"""Answers of a codec worker: what wand makes of them, against the arrays that the worker sent."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.fuzz.harness import Case, Group
from wand.codecs.reference import Reference
from wand.codecs.worker import WorkerCodec

# Says what the file `answer.json` beside it says: an array as {"dtype", "values"}, or a raw line.
SCRIPT = """
import json, os, sys
from pathlib import Path
import numpy as np
import serve as protocol

FILE = Path(__file__).with_name("answer.json")

class Scripted:
    def __init__(self, settings):
        pass
    def describe(self):
        return {"sample_rate": 8000, "frame_rate": 80.0, "num_codebooks": 2, "codebook_size": 9,
                "needs_reference": False}
    def _answer(self):
        said = json.loads(FILE.read_text())
        if "line" in said:
            os.write(answers, said["line"].encode() + b"\\n")
        if "exit" in said:
            os._exit(said["exit"])
        if "raise" in said:
            raise RuntimeError(said["raise"])
        return {k: np.array(v["values"], dtype=v["dtype"]) if isinstance(v, dict) and "dtype" in v else v
                for k, v in said["result"].items()} if isinstance(said["result"], dict) else said["result"]
    def encode(self, audio, sample_rate):
        return self._answer()
    def decode(self, codes):
        return self._answer()

answers = os.dup(1)
protocol.serve(Scripted)
"""


class WorkerGroup(Group):
    """One worker process that answers what each case tells it to."""

    name = "workers"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        script = folder / "scripted.py"
        script.write_text(SCRIPT)
        self.answer = folder / "answer.json"
        self.codec = WorkerCodec(str(script), sys.executable, "weights", timeout=8)

    def tell(self, said: dict[str, Any]) -> None:
        self.answer.write_text(json.dumps(said))

    def encode(self, said: dict[str, Any], seed: int) -> Any:
        self.tell(said)
        sound = torch.full((1, 1, 800), seed / 2**32)  # another sound every time: the last answer is remembered
        return self.codec.encode(sound, 8000)

    def decode(self, said: dict[str, Any]) -> Any:
        self.tell(said)
        return self.codec.decode(torch.zeros(1, 2, 10, dtype=torch.long), Reference(torch.zeros(2, 1)))

    def valid(self, random: random.Random) -> Case:
        seed = random.randrange(2**32)
        if random.random() < 0.6:
            codes = np.array([[random.randrange(9) for _ in range(10)] for _ in range(2)])
            dtype = random.choice(["int64", "int32", "int16", "uint8", ">i4", "int8"])
            said = {"result": {"codes": {"dtype": dtype, "values": codes.tolist()}}}

            def check(found: Any) -> None:
                assert found.shape == (1, 2, 10)
                assert found[0].tolist() == codes.tolist()

            return Case(f"codes {dtype}", lambda: self.encode(said, seed), check)
        sound = np.array([random.uniform(-1, 1) for _ in range(1000)], dtype=np.float32)
        dtype = random.choice(["float32", ">f4"])
        said = {"result": {"audio": {"dtype": dtype, "values": sound.tolist()}}}

        def check_sound(found: Any) -> None:
            assert np.array_equal(found.numpy()[0, 0], sound)

        return Case(f"sound {dtype}", lambda: self.decode(said), check_sound)

    def invalid(self, random: random.Random) -> Case:
        seed = random.randrange(2**32)
        right = {"codes": {"dtype": "int64", "values": [[1] * 10] * 2}}
        if random.random() < 0.4:
            result = random.choice(WRONG_RESULTS)
            said: dict[str, Any] = {"result": result}
            return Case(f"codes: {result}"[:200], lambda: self.encode(said, seed), names=("codec worker",))
        if random.random() < 0.4:
            result = random.choice(WRONG_SOUNDS)
            said = {"result": result}
            return Case(f"sound: {result}"[:200], lambda: self.decode(said), names=("codec worker",))
        said = random.choice([
            {"raise": "out of\nmemory", "result": right},
            {"exit": 3, "result": right},
            {"exit": 0, "result": right},
            *({"line": line, "result": right} for line in WRONG_LINES),
        ])  # fmt: skip
        return Case(f"{said}"[:200], lambda: self.encode(said, seed), names=("codec worker",))


def _array(values: Any, dtype: str = "int64") -> dict[str, Any]:
    return {"dtype": dtype, "values": values}


WRONG_RESULTS: list[Any] = [
    {}, None, 5, "codes", [1, 2], {"codes": None}, {"codes": [[1, 2]]}, {"codes": "abc"}, {"code": _array([[1]] * 2)},
    {"codes": _array([1] * 10)}, {"codes": _array([[[1] * 10] * 2])}, {"codes": _array([[1] * 10])},
    {"codes": _array([[1] * 10] * 3)}, {"codes": _array([[9] * 10] * 2)}, {"codes": _array([[-1] * 10] * 2)},
    {"codes": _array([[1.0] * 10] * 2, "float32")}, {"codes": _array([[1e9] * 10] * 2, "float64")},
    {"codes": _array([["1"] * 10] * 2, "<U1")}, {"codes": _array([[2**63] * 10] * 2, "uint64")},
    {"codes": _array([[1 + 0j] * 0] * 2, "complex64")}, {"codes": {"dtype": "O", "shape": [1], "data": ""}},
]  # fmt: skip
WRONG_SOUNDS: list[Any] = [
    {}, None, 7, {"audio": None}, {"audio": [0.0] * 1000}, {"audio": _array([[0.0] * 1000] * 2, "float32")},
    {"audio": _array([float("nan")] * 1000, "float32")}, {"audio": _array([float("inf")] * 1000, "float32")},
    {"audio": _array(["a"] * 10, "<U1")}, {"sound": _array([0.0] * 1000, "float32")},
    {"audio": _array(0.0, "float32")}, {"audio": _array([], "complex64")},
]  # fmt: skip
WRONG_LINES = [
    '{"id": 1}', '{"id": "x", "result": {}}', '{"id": 99999, "result": {}}', '{"id":',
    '{"id": null}', '{"id": 1, "error": 5}',
    '{"id": -1, "result": 5}', '{"id": 2, "result": ' + "[" * 3000, '{"id": NaN, "result": {}}',
]  # fmt: skip
