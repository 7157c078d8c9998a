"""A run and a study as the commands write them, with texts and names that could break a page."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from wand.attention import AttentionWindow
from wand.evaluation.quality import SpeechQuality, Take, summarise
from wand.evaluation.result import Row, TestResult
from wand.evaluation.result_files import sound_file, write_result
from wand.evaluation.systems import compared_systems
from wand.files.audio import write_audio
from wand.files.writing import write_text

RATE = 16_000
TEXTS = {"a b#1": 'Is <b>this</b> "safe" & sound?</script><script>throw 1</script>', "c%2": "שלום, {{ 7 * 7 }} times."}
SYSTEMS = compared_systems(AttentionWindow(8), True, (4,))
WRONG = {"teacher": 1, "untrained": 5, "untrained-4": 9, "student": 2}
SECONDS = {"recorded": 0.5, "teacher": 0.4, "untrained": 0.6, "untrained-4": 0.55, "student": 0.45}
# Seconds of a long text, by the way in which it is spoken.
LONG = {"passage": 1.5, "split": 1.75}
CONFIG = """\
model:
  backbone:
    class_path: wand.backbones.encodec_lm.EncodecLM
    init_args:
      pretrained: "<i>weights</i>"
  window: 8
"""


def sound(seconds: float) -> torch.Tensor:
    return 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(round(seconds * RATE)) / RATE)


def takes(system: str) -> list[Take]:
    return [
        Take(id, "anna", 0, text, f"<u>{system}</u>", "stop token", SECONDS[system], 0.5, WRONG[system], 20, 1, 4)
        for id, text in TEXTS.items()
    ]


def speech(system: str) -> SpeechQuality:
    return summarise(takes(system))


def make_run(folder: Path) -> Path:
    """Write a run with its config, curves, test and analysis."""
    write_text(folder / "config.yaml", CONFIG)
    test = folder / "test"
    sizes, times = {4.0: 3 * 2**20, 60.0: 2**22}, {200: 1.5, 3000: 2.125}
    rows = [Row(system, 2.5, 0.75, 0.125, sizes, times, speech(system.name)) for system in SYSTEMS]
    write_result(TestResult(rows, {}, (), "embedded"), test)
    lines = [{"system": system.name, **asdict(take)} for system in SYSTEMS for take in takes(system.name)]
    write_text(test / "takes.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    for id in TEXTS:
        for name, seconds in SECONDS.items():
            write_audio(sound_file(test, id, name), sound(seconds), RATE)
    with SummaryWriter(str(folder)) as board:
        for step in range(0, 1000, 2):
            board.add_scalar("train/loss", 4 - step / 1000, step)
        board.add_scalar("train/kd", math.nan, 0)
        board.add_scalar("val/cer", 0.25, 500)
    write_text(
        folder / "analysis" / "coverage.md",
        "# Attention\n\nOf <b>one</b> model.\n\n| window | covered |\n| --- | --- |\n| 8 | 79.7 % |\n",
    )
    (folder / "analysis" / "coverage.png").write_bytes(PICTURE)
    return folder


def add_long_text(run: Path) -> None:
    """Add a long text, as ``wand report --long_text`` writes it."""
    folder = run / "evaluation" / "long"
    for way, seconds in LONG.items():
        write_audio(folder / f"{way}.flac", sound(seconds), RATE)
    spoken = {
        "text": "one. two.",
        "voice": "test/sounds/voice.wav",
        "sounds": {way: f"{way}.flac" for way in LONG},
        "ended": dict.fromkeys(LONG, "stop token"),
        "recogniser": "ear",
        "transcripts": {way: {"heard": "one too.", "wrong_letters": 1, "letters": 8} for way in LONG},
    }
    write_text(folder / "long.json", json.dumps(spoken))


def make_study(folder: Path) -> Path:
    """Write a study of a recording and one student."""
    systems = [{"name": name, "kind": name, "path": None, "window": None} for name in ("recorded", "student")]
    about = {
        "systems": systems,
        "sentences": {"source": "a <list>", "count": 2},
        "seeds": [0, 1],
        "unseen": [],
        "versions": {"wand": "0.0"},
    }
    write_text(folder / "study.json", json.dumps(about))
    rows = []
    for id, text in TEXTS.items():
        for system, seed in (("recorded", 0), ("student", 1), ("student", 0)):
            name = None if id == "c%2" and seed == 0 else f"sounds/{len(rows)}.flac"
            if name is not None:
                write_audio(folder / name, sound(0.3 + 0.1 * seed), RATE)
            rows.append(
                {
                    "id": id,
                    "system": system,
                    "seed": seed,
                    "speaker": "anna",
                    "text": text,
                    "sound": name,
                    "heard": {"ear": f"{system} {seed}"},
                    "errors": {"ear": {"wrong_letters": seed, "letters": 9}},
                }
            )
    write_text(folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    lines = [
        _line("recorded", 0.02),
        _line("student", 0.05),
        {**_line("student - recorded", 0.03), "systems": ["student", "recorded"]},
    ]
    parts = [{"name": "all", "sentences": 2, "lines": lines}, {"name": "< 3 s", "sentences": 1, "lines": lines[1:]}]
    write_text(folder / "table.json", json.dumps({"columns": [{"name": "cer:ear"}], "parts": parts}))
    table = "| system | CER % |\n| --- | --- |\n| student | 5.0 |"
    write_text(folder / "table.md", f"## All sentences (2)\n\n{table}\n\n## < 3 s (1)\n\n{table}\n\nWhat it means.\n")
    return folder


def _line(title: str, rate: float) -> dict[str, Any]:
    figure = {"value": rate, "interval": [rate - 0.01, rate + 0.01]}
    return {"title": title, "systems": [title], "figures": {"cer:ear": figure}}


# A white pixel.
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63f8"
    "0f0001010100b138f6140000000049454e44ae426082"
)
