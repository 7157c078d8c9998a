"""Scripts of codec workers that misbehave, one fault each, and of some that are unusual and right."""

from __future__ import annotations

import time
from pathlib import Path

# Speaks the protocol by hand, without numpy, so that every wrong line can be written. `settings["release"]` names the
# fault. Codes are at 80 Hz, of sound at 8 kHz.
BY_HAND = """
import base64, json, os, signal, struct, subprocess, sys, time

fault = json.loads(sys.argv[1])["release"]

def say(line):
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()

def array(dtype, shape, data):
    return {"dtype": dtype, "shape": shape, "data": base64.b64encode(data).decode()}

FACTS = {"sample_rate": 8000, "frame_rate": 80.0, "num_codebooks": 1, "codebook_size": 9, "needs_reference": False}
GOOD = array("<i8", [1, 7], struct.pack("<7q", *range(7)))
sys.stderr.write("loading weights\\n")

def answer(number):
    good = json.dumps({"id": number, "result": {"codes": GOOD}})
    codes = lambda value: say(json.dumps({"id": number, "result": {"codes": value}}))
    if fault == "json cut": say(good[:-9])
    elif fault == "extra bytes": say(good + " and more")
    elif fault == "two objects": say(good + good)
    elif fault == "binary": sys.stdout.buffer.write(good[:20].encode() + b"\\xff\\xfe\\x00\\n")
    elif fault == "nested": say('{"id": %d, "result": %s' % (number, '{"a":' * 50000))
    elif fault == "long number": say('{"id": %s}' % ("9" * 6000))
    elif fault == "id of text": say(good.replace('{"id": %d' % number, '{"id": "%d"' % number))
    elif fault == "id true": say(good.replace('{"id": %d' % number, '{"id": true'))
    elif fault == "id of another": say(good.replace('{"id": %d' % number, '{"id": 99'))
    elif fault == "no result": say('{"id": %d}' % number)
    elif fault == "result is a list": say('{"id": %d, "result": [1, 2]}' % number)
    elif fault == "result is null": say('{"id": %d, "result": null}' % number)
    elif fault == "result is one array": say(json.dumps({"id": number, "result": GOOD}))
    elif fault == "error is a number": say('{"id": %d, "error": 5}' % number)
    elif fault == "error of 100 lines": say(json.dumps({"id": number, "error": "bad\\n\\x1b[31m" * 100}))
    elif fault == "made is text": say('{"id": %d, "error": "bad", "made": "no"}' % number)
    elif fault == "data not base64": codes({**GOOD, "data": "%%%"})
    elif fault == "data cut": codes({**GOOD, "data": GOOD["data"][:-12]})
    elif fault == "data too long": codes({**GOOD, "data": GOOD["data"][:-1] + "AAAA="})
    elif fault == "data is a number": codes({**GOOD, "data": 5})
    elif fault == "100 GB claimed": codes({**GOOD, "shape": [1, 12_500_000_000]})
    elif fault == "shape beyond bounds": codes({**GOOD, "shape": [2**40, 2**40, 0]})
    elif fault == "negative shape": codes({**GOOD, "shape": [-1, 7]})
    elif fault == "shape of floats": codes({**GOOD, "shape": [1.0, 7.0]})
    elif fault == "shape is text": codes({**GOOD, "shape": "7"})
    elif fault == "dtype of objects": codes({**GOOD, "dtype": "|O"})
    elif fault == "dtype unknown": codes({**GOOD, "dtype": "<q99"})
    elif fault == "dtype of a struct": codes({**GOOD, "dtype": "i4,i4"})
    elif fault == "dtype is a number": codes({**GOOD, "dtype": 8})
    elif fault == "an answer of 100 MB": say(good[:-2] + " " * 100_000_000 + "}}")
    elif fault == "an endless answer":
        sys.stdout.write('{"id":')
        while True: sys.stdout.write("1" * 65536)
    elif fault == "an endless line":
        while True: sys.stdout.write("x" * 65536)
    elif fault == "endless lines":
        while True: say("noise")
    elif fault == "endless stderr":
        while True: sys.stderr.write("noise\\n" * 1000)
    elif fault == "silent": time.sleep(600)
    elif fault == "drips":
        for letter in good: sys.stdout.write(letter); sys.stdout.flush(); time.sleep(0.5)
    elif fault == "killed": os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "segmentation fault": os.kill(os.getpid(), signal.SIGSEGV)
    elif fault == "exits": sys.exit("no memory")
    elif fault == "exits well": sys.exit(0)
    elif fault == "half an answer": sys.stdout.write(good[:30]); sys.stdout.flush(); sys.exit("lost")
    elif fault == "closes stdout": os.close(1); time.sleep(600)
    elif fault == "leaves a child":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        os.kill(os.getpid(), signal.SIGKILL)
    # These are right.
    elif fault == "an answer and its end":
        say(good); sys.exit(0)
    elif fault == "noise of 5 MB":
        sys.stderr.write("x" * 5_000_000); say("noise\\n" * 100_000); say(good)
    elif fault == "fields in another order": say(good[:-1] + ', "more": 3}')
    else: raise KeyError(fault)

for line in iter(sys.stdin.readline, ""):
    request = json.loads(line)
    if request["do"] == "describe":
        say(json.dumps({"id": request["id"], "result": FACTS}))
        if fault == "answers twice": say(json.dumps({"id": request["id"], "result": FACTS}))
        if fault == "stops reading": time.sleep(600)
        if fault == "closes stdin": os.close(0); time.sleep(600)
    elif fault == "answers twice": say(json.dumps({"id": request["id"], "result": {"codes": GOOD}}))
    else:
        answer(request["id"])
"""

# Uses `serve`. The first sample of a sound, or the first code, is the number of an answer in `ANSWERS` or `SOUNDS`.
WITH_SERVE = """
import numpy as np
from serve import serve

RIGHT = np.arange(7)[None]
ANSWERS = [
    {"codes": RIGHT},
    {"codes": RIGHT.astype(np.uint8), "sample_rate": np.int64(8000)},
    {"codes": RIGHT[:, :6]},
    {"codes": RIGHT[0]},
    {"codes": RIGHT.T},
    {"codes": RIGHT[None]},
    {"codes": np.repeat(RIGHT, 2, 0)},
    {"codes": np.tile(RIGHT, 2)},
    {"codes": RIGHT[:, :0]},
    {"codes": np.array(5)},
    {"codes": RIGHT.astype(np.float32)},
    {"codes": RIGHT * np.nan},
    {"codes": RIGHT > 3},
    {"codes": RIGHT + 3},
    {"codes": RIGHT - 1},
    {"codes": RIGHT.astype(np.uint64) + np.uint64(2**63)},
    {"codes": RIGHT.tolist()},
    {"codes": None},
    {"codes": "0123456"},
    {"codes": RIGHT.astype(object)},
    {"codes": RIGHT.astype(complex)},
    {"codes": {1, 2}},
    {"codes": RIGHT, "global_codes": np.array([1.5])},
    {"codes": RIGHT, "global_codes": np.array([[1, 2]])},
    {"codes": RIGHT, "global_codes": np.array([-1])},
    {"code": RIGHT},
    {},
    RIGHT,
    None,
    "codes",
]
WAVE = np.repeat(np.arange(7) / 8, 100)
SOUNDS = [
    {"audio": WAVE.astype(np.float32)},
    {"audio": WAVE},
    {"audio": WAVE.astype(np.float16)},
    {"audio": WAVE.astype(np.float32)[:650]},
    {"audio": np.rint(WAVE * 32767).astype(np.int16)},
    {"audio": WAVE * 32767},
    {"audio": np.where(WAVE > 0.5, np.nan, WAVE)},
    {"audio": np.where(WAVE > 0.5, np.inf, WAVE)},
    {"audio": WAVE * 1e300},
    {"audio": WAVE[None]},
    {"audio": WAVE[:0]},
    {"audio": WAVE[:100]},
    {"audio": np.repeat(WAVE, 3)},
    {"audio": WAVE.tolist()},
    {"audio": WAVE, "sample_rate": 16000},
    {"audio": WAVE, "sample_rate": None},
    {"sound": WAVE},
    {"audio": np.zeros(2_000_000)},
]

class Codec:
    def __init__(self, settings): pass
    def describe(self):
        return {"sample_rate": np.int64(8000), "frame_rate": 80, "num_codebooks": 1, "codebook_size": 9.0,
                "needs_reference": False}
    def encode(self, audio, sample_rate): return ANSWERS[round(float(audio[0]))]
    def decode(self, codes): return SOUNDS[codes[0, 0]]

serve(Codec)
"""

DESCRIBES = """
import json
from serve import serve

class Codec:
    def __init__(self, settings): self.facts = json.loads(settings["release"])
    def describe(self): return self.facts

serve(Codec)
"""

FACTS = {"sample_rate": 8000, "frame_rate": 80.0, "num_codebooks": 1, "codebook_size": 9, "needs_reference": False}


def write(folder: Path, text: str) -> str:
    script = folder / "script.py"
    script.write_text(text)
    return str(script)


def running(process: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def group(leader: int) -> list[int]:
    """The processes of a process group that run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[2]) == leader:
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [process for process in found if running(process)]


def gone(leader: int) -> bool:
    """Whether no process of a group is left. A killed process needs a moment to end."""
    end = time.monotonic() + 20
    while group(leader) and time.monotonic() < end:
        time.sleep(0.05)
    return group(leader) == []
