"""Options of the commands and keywords of the Python API: right ones are taken as typed, wrong ones are refused."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import wand
from tests.fuzz.harness import Case, Group
from tests.fuzz.values import INF, NAN, NOT_NUMBERS, NOT_POSITIVE, NOT_WHOLE, NOT_WHOLE_POSITIVE
from wand.callbacks import AttentionPictures, ComparisonTable, SpeechLogger
from wand.cli import main
from wand.cli.benchmark import parse as parse_benchmark
from wand.cli.synthesize import parse as parse_synthesize
from wand.data.datamodule import SpeechDataModule
from wand.data.sources.corpora import LibriTTS, LJSpeech
from wand.data.sources.manifest import ManifestCorpus
from wand.demo.corpus import EspeakCorpus
from wand.evaluation.test import TestSize

Choose = Callable[[random.Random], Any]
NO_COUNT = ["0", "-1", "1.5", "nan", "inf", "abc", "", "1e400", "0x10"]
NO_LENGTH = ["0", "-1", "nan", "inf", "-inf", "abc", "", "1e400", "1e300"]
DEVICES = ["nope", "cuda:99", "cpu:x", "", "meta", "gpu", "cud", "-1"]
OUTPUTS = [
    "speech",
    "a.m4a",
    "folder/",
    "a.txt",
    ".",
    "",
    "a.raw",
    "a.wav.",
    "\0.wav",
    "x" * 300 + ".wav",
]

SYNTHESIZE: dict[str, tuple[Choose, list[str]]] = {
    "max_seconds": (lambda r: r.choice([0.1, 30, 600.5]), NO_LENGTH),
    "seed": (lambda r: r.choice([0, -5, 2**62]), ["1.5", "nan", "abc", str(2**64), str(-(2**64)), ""]),
    "temperature": (lambda r: r.choice([0, 0.9, 5]), ["-1", "nan", "inf", "abc", ""]),
    "top_k": (lambda r: r.choice([0, 5, 10**6]), ["-1", "1.5", "nan", "abc", ""]),
    "top_p": (lambda r: r.choice([0.1, 1]), ["0", "-1", "1.1", "nan", "inf", "abc", ""]),
    "repetition_penalty": (lambda r: r.choice([0.5, 1, 3]), NO_LENGTH[:7]),
    "window": (lambda r: str(r.choice([8, 500, "full"])), [*NO_COUNT, "²", "--5", "1_0_"]),
    "dtype": (lambda r: r.choice(["float32", "bfloat16", "float16"]), ["float64", "int8", "bf16", ""]),
    "device": (lambda r: "cpu", DEVICES),
    "out": (lambda r: Path(r.choice(["a.wav", "b c/d.flac", "x.OGG", "new/er/a.mp3", "ü.aiff"])), OUTPUTS),
    "save_voice": (lambda r: Path(r.choice(["v.safetensors", "a/b.safetensors"])), ["v.pt", "v", "folder/", "."]),
    "system": (lambda r: r.choice(["student", "teacher"]), ["pupil", ""]),
}
BENCHMARK: dict[str, tuple[Choose, list[str]]] = {
    "threads": (lambda r: r.randint(1, 4), [*NO_COUNT, "100000000"]),
    "prefix": (lambda r: r.randint(1, 400), [*NO_COUNT, "10000000000"]),
    "window": (lambda r: r.randint(1, 400), [*NO_COUNT, "100000000"]),
    "repeats": (lambda r: r.randint(1, 40), [*NO_COUNT, "10000000000"]),
    "seconds": (lambda r: [float(r.randint(1, 40))], NO_LENGTH),
    "batch": (lambda r: [r.randint(1, 40)], [*NO_COUNT, "10000000000"]),
    "dtype": (lambda r: r.choice(["float32", "bfloat16"]), ["float64", ""]),
    "device": (lambda r: "cpu", DEVICES),
    "out": (lambda r: Path(r.choice(["a", "b/c"])), ["taken", "taken/a"]),
}


def _data(**settings: Any) -> SpeechDataModule:
    return SpeechDataModule(EspeakCorpus(), **settings)


API: list[tuple[Callable[..., Any], dict[str, list[Any]]]] = [
    (
        wand.WindowSchedule,
        {
            "start": NOT_WHOLE_POSITIVE,
            "tau_start": NOT_POSITIVE,
            "tau_end": [value for value in NOT_POSITIVE if value != INF],
            "hard_from": [NAN, "abc", None, [1], True],
            "final_share": [1, -0.1, *NOT_NUMBERS],
        },
    ),
    (
        wand.LossTerms,
        {
            "ce_weight": [-1, *NOT_NUMBERS],
            "kd_weight": [-1, *NOT_NUMBERS],
            "skew": [1, -1, *NOT_NUMBERS],
            "temperature": NOT_POSITIVE,
            "codebook_weights": [[-1], [NAN], "abc", 5, [], [0, 0]],
        },
    ),
    (
        wand.OptimizerSettings,
        {
            "learning_rate": NOT_POSITIVE,
            "weight_decay": [-1, *NOT_NUMBERS],
            "warmup": [1, -0.1, *NOT_NUMBERS],
        },
    ),
    (
        TestSize,
        {
            "sentences": [0, -1, 1.5, NAN, "a"],
            "seeds": NOT_WHOLE_POSITIVE,
            "windows": [(0,), (NAN,), ("a",), (1.5,)],
            "sounds": [-1, *NOT_WHOLE],
            "pictures": [-1, *NOT_WHOLE],
        },
    ),
    (SpeechLogger, {"sentences": [-1, *NOT_WHOLE], "sounds": [-1, *NOT_WHOLE], "rows": NOT_WHOLE_POSITIVE}),
    (
        ComparisonTable,
        {"rows": NOT_WHOLE_POSITIVE, "seconds": [(0,), (NAN,), ("a",)], "columns": [(0,), (1.5,), ("a",)]},
    ),
    (AttentionPictures, {"prefix": [-1, *NOT_WHOLE], "columns": NOT_WHOLE_POSITIVE}),
    (
        _data,
        {
            "batch_size": NOT_WHOLE_POSITIVE,
            "columns_per_batch": [0, -1, 1.5, NAN, "a", True],
            "workers": [-1, *NOT_WHOLE],
            "max_seconds": [value for value in NOT_POSITIVE if value != INF],
            "seed": [2**64, *NOT_WHOLE],
        },
    ),
    (EspeakCorpus, {"hours": [1001, *NOT_POSITIVE], "seed": NOT_WHOLE, "test_sentences": NOT_WHOLE_POSITIVE}),
    (lambda **s: LJSpeech("x", **s), {"validation_share": [-0.1, 1.1, *NOT_NUMBERS], "test_share": [2, *NOT_NUMBERS]}),
    (lambda **s: LibriTTS("x", **s), {"held_out_share": [-0.1, 1.1, *NOT_NUMBERS]}),
    (lambda **s: ManifestCorpus("x", **s), {"validation_share": [-0.1, 1.1, *NOT_NUMBERS]}),
    (
        lambda **s: wand.load("nowhere", **s),
        {
            "device": ["nope", "cuda:99", 5.5, "meta", [1]],
            "dtype": ["float32", torch.int8, 5, torch.bool, torch.complex64],
        },
    ),
    (
        lambda **s: wand.AttentionWindow(**{"size": 8, **s}),
        {"size": NOT_WHOLE_POSITIVE[:-5], "tau": [-1, *NOT_NUMBERS[:3], "a"]},
    ),
]


class OptionGroup(Group):
    """Every option, and every keyword."""

    name = "options"

    def valid(self, random: random.Random) -> Case:
        table, parse, given = random.choice(
            [
                (SYNTHESIZE, parse_synthesize, ["yes", "--reference", "voice.wav"]),
                (BENCHMARK, parse_benchmark, ["--shape", "cosyvoice2"]),
            ]
        )
        right = {name: table[name][0](random) for name in random.sample(sorted(table), random.randint(1, 5))}
        for name, value in right.items():
            texts = [str(one) for one in value] if isinstance(value, list) else [str(value)]
            given = [*given, *([f"--{name}={texts[0]}"] if random.random() < 0.5 else [f"--{name}", *texts])]

        def check(found: Any) -> None:
            for name, value in right.items():
                assert getattr(found, name) == value, f"{name} is {getattr(found, name)!r}, not {value!r}"

        return Case(f"{given}", lambda: parse(given), check)

    def invalid(self, random: random.Random) -> Case:
        if random.random() < 0.5:
            make, table = random.choice(API)
            name = random.choice(sorted(table))
            value = random.choice(table[name])
            return Case(
                f"{make} {name}={value!r}",
                lambda: make(**{name: value}),
                names=("window" if name in ("size", "windows") else name,),
            )
        command, options, given = random.choice(
            [
                ("synthesize", SYNTHESIZE, ["yes", "--reference", "voice.wav"]),
                ("benchmark", BENCHMARK, ["--shape", "cosyvoice2"]),
            ]
        )
        name = random.choice(sorted(options))
        value = random.choice(options[name][1])
        Path("taken").write_text("a file")
        Path("folder").mkdir()
        Path("a.wav").mkdir()
        arguments = [command, *given, f"--{name}={value}"]
        words = (value.strip("/") if name in ("out", "save_voice") and value.strip("/\0") else name,)
        return Case(f"{arguments}", lambda: refused(arguments), names=words)


def refused(arguments: list[str]) -> None:
    """Run a command that must be refused, and raise its line as a ValueError."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        status = main(arguments)
    printed = errors.getvalue().strip()
    if status == 2 and printed.startswith("wand: error: ") and "no checkpoint in any run" not in printed:
        raise ValueError(printed)
    raise AssertionError(f"status {status}: {printed}")
