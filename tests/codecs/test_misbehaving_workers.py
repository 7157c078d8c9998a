"""Codec workers that misbehave: one line names the worker and what is wrong, in time; right answers are taken."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.codecs.misbehaving import BY_HAND, DESCRIBES, FACTS, WITH_SERVE, gone, running, write
from wand.codecs.base import CodecUnavailable
from wand.codecs.facts import CodecFacts
from wand.codecs.worker import WorkerCodec, find_codec

SOUND = (torch.arange(7) / 8).repeat_interleave(100)[None, None]


FAULTS = {
    "json cut": "with a line that is not JSON",
    "extra bytes": "with a line that is not JSON",
    "two objects": "with a line that is not JSON",
    "binary": "with a line that is not JSON",
    "nested": "with a line that is not JSON",
    "long number": "with a line that is not JSON",
    "id of text": "without the number of the request",
    "id true": "without the number of the request",
    "id of another": "answered request 99 when 'encode', number 2, was asked",
    "answers twice": "answered request 1 when 'encode', number 2, was asked",
    "no result": "with neither a result nor an error",
    "result is a list": "with neither a result nor an error",
    "result is null": "with neither a result nor an error",
    "result is one array": "with one array, not with a dict",
    "error is a number": "with an error that is no text",
    "made is text": "with an error that is no text",
    "data not base64": "are not in base64",
    "data cut": "has shape .1, 7. and dtype int64, but 48 bytes of data",
    "data too long": "bytes of data|not in base64",
    "data is a number": "the data of an array are no string",
    "100 GB claimed": "has shape .1, 12500000000. and dtype int64, but 56 bytes",
    "shape beyond bounds": "which is no list of sizes|bytes of data|maximum",
    "negative shape": "which is no list of sizes",
    "shape of floats": "which is no list of sizes",
    "shape is text": "which is no list of sizes",
    "dtype of objects": "which is no dtype of numbers",
    "dtype unknown": "which is no dtype of numbers",
    "dtype of a struct": "which is no dtype of numbers",
    "dtype is a number": "which is no dtype of numbers",
    "an answer of 100 MB": "with more than [0-9]+ bytes",
    "an endless answer": "with more than [0-9]+ bytes",
    "an endless line": "did not answer 'encode' in",
    "endless lines": "did not answer 'encode' in",
    "endless stderr": "did not answer 'encode' in",
    "silent": "did not answer 'encode' in",
    "drips": "did not answer 'encode' in",
    "stops reading": "did not answer 'encode' in .* s: it does not read its requests",
    "closes stdin": "did not answer 'encode' in",
    "killed": "was killed by SIGKILL, perhaps because memory ran out: loading weights",
    "segmentation fault": "was killed by SIGSEGV: loading weights",
    "exits": "has ended: no memory",
    "exits well": "has ended: loading weights",
    "half an answer": "has ended: lost",
    "closes stdout": "has closed its output",
    "leaves a child": "was killed by SIGKILL",
}
# Faults that are found out when time is up.
IN_TIME = {name for name, message in FAULTS.items() if "did not answer" in message}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_ends_the_worker(tmp_path: Path, fault: str) -> None:
    codec = WorkerCodec(write(tmp_path, BY_HAND), sys.executable, fault, timeout=30)
    assert codec._process is not None
    process = codec._process.process.pid
    codec.timeout = 0.3 if fault in IN_TIME else 30
    # One that does not read its requests blocks when the pipe is full.
    sound = torch.zeros(1, 1, 200_000) if fault == "stops reading" else SOUND
    before = time.monotonic()
    with pytest.raises(ValueError, match=FAULTS[fault]) as error:
        codec.encode(sound, 8000)
    assert time.monotonic() - before < 30
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 1000
    assert message.startswith(f"codec worker script.py run by {sys.executable}")
    words = {
        "exits": "no memory",
        "half an answer": "lost",
        "an endless line": "xxx",
        "endless lines": "printed 'noise'",
    }
    words["endless stderr"] = "which last printed"  # any part of a line
    assert words.get(fault, "loading weights") in message
    log = re.search(r"\(log: (.*\.log)\)$", message)
    assert log is not None
    assert Path(log[1]).stat().st_size < 2_000_000
    Path(log[1]).unlink()
    assert not running(process)
    assert gone(process)


@pytest.mark.parametrize("kind", ["an answer and its end", "noise of 5 MB", "fields in another order"])
def test_unusual_answers_that_are_right(tmp_path: Path, kind: str) -> None:
    codec = WorkerCodec(write(tmp_path, BY_HAND), sys.executable, kind, timeout=30)
    assert codec.encode(SOUND, 8000).tolist() == [[[0, 1, 2, 3, 4, 5, 6]]]
    codec.close()


def test_an_error_of_a_worker_is_one_printable_line(tmp_path: Path) -> None:
    codec = WorkerCodec(write(tmp_path, BY_HAND), sys.executable, "error of 100 lines", timeout=30)
    with pytest.raises(ValueError, match=r"codec worker script.py: bad \[31mbad") as error:
        codec.encode(SOUND, 8000)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600
    codec.close()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerCodec]:
    codec = WorkerCodec(write(tmp_path_factory.mktemp("serve"), WITH_SERVE), sys.executable, "", timeout=60)
    yield codec
    codec.close()


RIGHT = list(range(7))


def test_the_right_codes(worker: WorkerCodec) -> None:
    assert (worker.sample_rate, worker.frame_rate, worker.num_codebooks, worker.codebook_size) == (8000, 80, 1, 9)
    for number, expected in enumerate([RIGHT, RIGHT, RIGHT[:6]]):
        codes = worker.encode(torch.full((1, 1, 700), float(number)), 8000)
        assert codes.dtype == torch.int64
        assert codes.tolist() == [[expected]]


@pytest.mark.parametrize(
    ("number", "message"),
    list(
        enumerate(
            [
                "codes of shape [7], not [1, frames]",
                "codes of shape [7, 1], not [1, frames]",
                "codes of shape [1, 1, 7], not [1, frames]",
                "codes of shape [2, 7], not [1, frames]",
                "14 frames of codes for 0.087 s of sound, not 3 to 11, at 80 frames per second",
                "0 frames of codes for 0.087 s of sound, not 3 to 11, at 80 frames per second",
                "codes of shape [], not [1, frames]",
                "codes of dtype float32, not integers",
                "codes of dtype float64, not integers",
                "codes of dtype bool, not integers",
                "the code 9, which is not in 0 .. 8",
                "the code -1, which is not in 0 .. 8",
                "the code 9223372036854775808, which is not in 0 .. 8",
                "codes as 'list', not as a numpy array",
                "codes as 'NoneType', not as a numpy array",
                "codes as 'str', not as a numpy array",
                "codes is an array of dtype object",
                "codes is an array of dtype complex128",
                "codes is a set",
                "global_codes of dtype float64, not integers",
                "global_codes of shape [1, 2], not [1 to 4096]",
                "the global code -1, which is not in 0 .. 2147483647",
                "no codes: it has 'code'",
                "no codes: it has 'nothing'",
                "answered 'encode' with one array, not with a dict",
                "answered 'encode' with neither a result nor an error",
                "answered 'encode' with neither a result nor an error",
            ],
            start=3,
        )
    ),
)
def test_codes_that_do_not_fit_the_description(worker: WorkerCodec, number: int, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        worker.encode(torch.full((1, 1, 700), float(number)), 8000)
    assert "\n" not in str(error.value)
    assert "codec worker script.py" in str(error.value)
    assert worker.encode(torch.zeros(1, 1, 700), 8000).tolist() == [[RIGHT]]  # and it goes on


def test_rows_of_different_lengths_are_named(worker: WorkerCodec) -> None:
    with pytest.raises(ValueError, match=re.escape("gave rows of different shapes, [1, 6] and [1, 7]")):
        worker.encode(torch.tensor([0.0, 2.0])[:, None, None].expand(2, 1, 700), 8000)


def codes_of(number: int) -> torch.Tensor:
    return torch.full((1, 1, 7), number)


def test_the_right_sounds(worker: WorkerCodec) -> None:
    for number in range(3):
        assert torch.equal(worker.decode(codes_of(number)), SOUND)
    assert torch.equal(worker.decode(codes_of(3)), SOUND[..., :650])


@pytest.mark.parametrize(
    ("number", "message"),
    list(
        enumerate(
            [
                "audio of dtype int16, not floats",
                "audio that reaches 24575.2: samples lie in -1 .. 1",
                "audio with values that are not finite",
                "audio with values that are not finite",
                "audio that reaches 7.5e+299: samples lie in -1 .. 1",
                "audio of shape [1, 700], not [samples]",
                "0 samples for 7 frames, not 386 to 1014, at 100 samples per frame",
                "100 samples for 7 frames, not 386 to 1014, at 100 samples per frame",
                "2100 samples for 7 frames, not 386 to 1014, at 100 samples per frame",
                "audio as 'list', not as a numpy array",
                "a sound at 16000 Hz, not 8000 Hz",
                "a sound at None Hz, not 8000 Hz",
                "no audio: it has 'sound'",
                "with more than",
            ],
            start=4,
        )
    ),
)
def test_sounds_that_do_not_fit_the_description(worker: WorkerCodec, number: int, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        worker.decode(codes_of(number))
    assert "\n" not in str(error.value)
    assert torch.equal(worker.decode(codes_of(0)), SOUND)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"sample_rate": None}, "sample_rate None is not a whole number from 1 to 10000000"),
        ({"sample_rate": 0}, "sample_rate 0 is not a whole number"),
        ({"sample_rate": float("nan")}, "sample_rate nan is not a whole number"),
        ({"sample_rate": "8000"}, "sample_rate '8000' is not a whole number"),
        ({"frame_rate": -1}, "frame_rate -1 is not a number from 0 to sample_rate"),
        ({"frame_rate": 9000}, "frame_rate 9000 is not a number from 0 to sample_rate"),
        ({"num_codebooks": 1.5}, "num_codebooks 1.5 is not a whole number from 1 to 1024"),
        ({"num_codebooks": True}, "num_codebooks True is not a whole number"),
        ({"codebook_size": 10**30}, "codebook_size 1000000000000000000000000000000 is not a whole number"),
        ({"needs_reference": "no"}, "needs_reference 'no' is neither true nor false"),
        ({"weights": 5}, "weights 5 is not the name of a file"),
        ({"channels": 2}, "'channels' is unknown: the names are sample_rate"),
    ],
)
def test_descriptions_that_are_wrong(facts: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CodecFacts.described({**FACTS, **facts})


def test_a_wrong_description_names_the_worker(tmp_path: Path) -> None:
    script = write(tmp_path, DESCRIBES)
    with pytest.raises(
        CodecUnavailable, match=r"script.py run by .*: 'describe' gave sample_rate, frame_rate is missing"
    ):
        WorkerCodec(
            script, sys.executable, json.dumps({"num_codebooks": 1, "codebook_size": 1, "needs_reference": True})
        )
    right = WorkerCodec(script, sys.executable, json.dumps(FACTS), timeout=60)
    assert right.codebook_size == 9
    right.close()


def test_sizes_of_the_released_codecs() -> None:
    """Upstream's frame arithmetic lies within what is accepted, for sounds from 0.1 s to 30 s."""
    upstream = {
        "spark_tts": lambda n: (n - 400) // 320 + 1,
        "index_tts": lambda n: -(-(n // 256 + 1) // 4),
        "cosyvoice2": lambda n: -(-n // 960),
    }
    assert upstream["index_tts"](3 * 24_000) == 71
    assert upstream["cosyvoice2"](7200) == 8
    for name, frames in upstream.items():
        found = find_codec(name)
        assert found is not None
        facts = found[0]
        for count in range(facts.sample_rate // 10, 30 * facts.sample_rate, 997):
            codes = np.zeros((1, frames(count)), dtype=np.int64)
            assert facts.codes({"codes": codes}, count / facts.sample_rate).shape == (1, frames(count))
            with pytest.raises(ValueError, match="frames of codes"):
                facts.codes({"codes": np.zeros((1, 2 * frames(count) + 4), dtype=np.int64)}, count / facts.sample_rate)
