"""A codec in a process of its own: what it says, what it refuses, and how its end is told."""

from __future__ import annotations

import ast
import copy
import json
import os
import pickle
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wand.codecs.base import CodecUnavailable
from wand.codecs.worker import WorkerCodec, find_codec
from wand.codecs.workers.serve import pack, unpack
from wand.registry import CODECS

TOY = """
import os, sys, time
import numpy as np
from serve import serve

print("noise before the first answer")

class Toy:
    def __init__(self, settings):
        if settings["device"] == "broken":
            import no_such_module
        print("noise of", settings["release"])
    def describe(self):
        return {"sample_rate": 8000, "frame_rate": 80.0, "num_codebooks": 1, "codebook_size": 9,
                "needs_reference": False}
    def encode(self, audio, sample_rate):
        print("noise")
        if sample_rate != 8000:
            raise ValueError("hears 8 kHz\\nonly")
        return {"codes": np.rint(audio[::100] * 8).astype(np.int64)[None], "process": os.getpid()}
    def decode(self, codes):
        return {"audio": np.repeat(codes[0] / 8, 100).astype(np.float32)}
    def die(self):
        sys.exit("out of memory")
    def sleep(self):
        time.sleep(60)

serve(Toy)
"""


@pytest.fixture
def toy(tmp_path: Path) -> WorkerCodec:
    script = tmp_path / "toy.py"
    script.write_text(TOY)
    return WorkerCodec(str(script), sys.executable, "weights", timeout=60)


def sound(frames: int = 7) -> torch.Tensor:
    return (torch.arange(frames) / 8).repeat_interleave(100)[None, None]


@given(
    arrays.arrays(st.sampled_from([np.float32, np.int64, np.bool_, np.dtype(">f4")]), arrays.array_shapes(min_dims=0))
)
def test_arrays_survive_the_lines(values: np.ndarray) -> None:
    there = unpack(json.loads(json.dumps(pack({"a": {"b": values}, "c": 3}))))
    assert there["c"] == 3
    assert there["a"]["b"].shape == values.shape
    np.testing.assert_array_equal(there["a"]["b"], values)


def test_codes_and_sound_whatever_is_printed_beside_them(toy: WorkerCodec) -> None:
    assert (toy.sample_rate, toy.frame_rate, toy.num_codebooks, toy.codebook_size) == (8000, 80.0, 1, 9)
    codes = toy.encode(torch.cat([sound(), sound().flip(-1)]), 8000)
    assert codes.tolist() == [[[0, 1, 2, 3, 4, 5, 6]], [[6, 5, 4, 3, 2, 1, 0]]]
    assert torch.equal(toy.decode(codes[:1]), sound())
    assert toy.global_codes(sound(), 8000) is None
    toy.close()


def test_copies_have_a_process_of_their_own(toy: WorkerCodec) -> None:
    def process(codec: WorkerCodec) -> int:
        number: int = codec.ask("encode", audio=sound()[0, 0].numpy(), sample_rate=8000)["process"]
        return number

    copies = [toy, copy.deepcopy(toy), pickle.loads(pickle.dumps(toy))]
    numbers = [process(codec) for codec in copies]
    assert len({os.getpid(), *numbers}) == 4
    assert len({codec.fingerprint for codec in copies}) == 1
    for codec in copies:
        codec.close()
    assert process(toy) not in numbers  # the next request starts another
    toy.close()


def test_threads_share_a_worker(toy: WorkerCodec) -> None:
    """Each thread gets the answer to its own request."""

    def encode(frames: int) -> list[list[int]]:
        return [toy.encode(sound(frames), 8000)[0, 0].tolist() for _ in range(15)]

    with ThreadPoolExecutor(4) as pool:
        for frames, heard in zip(range(3, 7), pool.map(encode, range(3, 7)), strict=True):
            assert heard == [list(range(frames))] * 15
    toy.close()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        pytest.param("encode", "toy.py: ValueError: hears 8 kHz only$", id="refusal"),
        pytest.param("die", r"has ended: out of memory \(log: .*\.log\)$", id="death"),
        pytest.param("sleep", r"did not answer 'sleep' in 3 s \(log: .*\.log\)$", id="silence"),
    ],
)
def test_one_line_tells_what_happened(toy: WorkerCodec, request_: str, message: str) -> None:
    arguments = {"audio": np.zeros(5), "sample_rate": 16000} if request_ == "encode" else {}
    toy.timeout = 3 if request_ == "sleep" else 60
    with pytest.raises(ValueError, match=message) as error:
        toy.ask(request_, **arguments)
    assert "\n" not in str(error.value)
    toy.timeout = 60
    log = re.search(r"log: (.*\.log)", str(error.value))
    assert (log is None) == (request_ == "encode")
    assert log is None or Path(log[1]).is_file()
    assert toy.encode(sound(), 8000).shape == (1, 1, 7)  # and it goes on
    toy.close()


def test_a_codec_that_cannot_be_made_is_told_from_a_sound_that_it_refuses(tmp_path: Path, toy: WorkerCodec) -> None:
    with pytest.raises(CodecUnavailable, match="No module named 'no_such_module'"):
        WorkerCodec(str(toy.script), sys.executable, "weights", device="broken")
    (tmp_path / "script.py").write_text("import no_such_module")
    with pytest.raises(CodecUnavailable, match="has ended: ModuleNotFoundError: No module named 'no_such_module'"):
        WorkerCodec(str(tmp_path / "script.py"), sys.executable, "weights")
    with pytest.raises(ValueError, match="hears 8 kHz") as error:
        toy.encode(sound(), 16_000)
    assert type(error.value) is ValueError
    toy.close()


def test_a_worker_that_ended_well_leaves_no_log(toy: WorkerCodec) -> None:
    toy.encode(sound(), 8000)
    assert toy._process is not None
    log = Path(toy._process.log.name)
    assert "noise of weights" in log.read_text()
    toy.close()
    assert not log.exists()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'nobody' is neither one of cosyvoice2, index_tts, spark_tts nor a script"):
        WorkerCodec("nobody", sys.executable, "weights")
    with pytest.raises(ValueError, match=r"no BiCodec/model.safetensors in|no model.safetensors in"):
        _ = WorkerCodec("spark_tts", sys.executable, str(tmp_path)).fingerprint
    with pytest.raises(ValueError, match=r"/no/python cannot be started \(No such file"):
        WorkerCodec("spark_tts", "/no/python", str(tmp_path)).encode(sound(), 16000)


def test_the_scripts_need_nothing_of_ours() -> None:
    for name in CODECS:
        found = find_codec(name)
        assert found is not None
        script = found[1]
        tree = ast.parse(script.read_text())
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "wand" for name in names), script


def test_facts_of_the_releases() -> None:
    found = {name: find_codec(name) for name in CODECS}
    rates = {name: (one[0].sample_rate, round(one[0].frame_rate, 4)) for name, one in found.items() if one}
    assert rates == {"cosyvoice2": (24000, 25.0), "index_tts": (24000, 23.4375), "spark_tts": (16000, 50.0)}
