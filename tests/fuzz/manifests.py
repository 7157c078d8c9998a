"""Manifests: what `wand prepare` makes of a JSONL file, against the objects that were written."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.conftest import TINY
from tests.fuzz.harness import Case, Group
from tests.fuzz.values import text_of
from wand.backbones.encodec_lm import EncodecLM
from wand.data.prepare import prepare
from wand.data.shards import ShardedExamples
from wand.data.sources.manifest import ManifestCorpus

SPLITS = ("train", "validation", "test")
K, SIZE, FRAMES = TINY.num_codebooks, TINY.codebook_size, (60, 90)


class ManifestGroup(Group):
    """Manifests with ready-made codes, prepared and read back."""

    name = "manifests"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        torch.manual_seed(0)
        self.lm = EncodecLM(architecture=TINY).eval()

    def lines(self, random: random.Random) -> list[dict[str, Any]]:
        """Lines that wand can use: at least two of each split."""
        made: list[dict[str, Any]] = []
        for number in range(random.randint(6, 9)):
            said = text_of(random)
            line: dict[str, Any] = {
                "id": random.choice([f"line {number}", f"é{number}", f"a/b.{number}", number]),
                "text": said,
                "split": SPLITS[number % 3],
                "codes": [[random.randrange(SIZE) for _ in range(20 + 4 * len(said))]] * K,
            }
            if random.random() < 0.5:
                line["speaker"] = random.choice(["ann", "bob", "\u4f60", 7])
            if random.random() < 0.1:
                line[random.choice(["speaker", "reference", "audio", "global_codes"])] = None
            made.append(line)
        return made

    def write(self, random: random.Random, lines: list[dict[str, Any]], inline: Sequence[str] = ()) -> ManifestCorpus:
        """Write the lines in one of the many ways in which JSONL is written; codes of the ids `inline` stay in it."""
        written = []
        for number, line in enumerate(lines):
            stored = dict(line)
            if random.random() < 0.3 and "codes" in line and str(line["id"]) not in inline:
                Path("codes").mkdir(exist_ok=True)
                file = Path("codes") / f"{number} codes.npy"
                np.save(file, np.array(line["codes"], dtype=random.choice([np.int64, np.uint8, np.int16, np.int32])))
                stored["codes"] = str(file)
            if random.random() < 0.5:
                stored = dict(random.sample(list(stored.items()), len(stored)))
            separators = random.choice([None, (",", ":"), (" , ", " : ")])
            written.append(json.dumps(stored, ensure_ascii=random.random() < 0.5, separators=separators))
            if random.random() < 0.1:
                written.append(random.choice(["", "  "]))
        end = random.choice(["\n", "\n", "\r\n"])
        text = end.join(written) + random.choice(["", end])
        mark = "\ufeff" if random.random() < 0.1 else ""
        Path("list.jsonl").write_bytes((mark + text).encode())
        return ManifestCorpus("list.jsonl")

    def prepared(self, corpus: ManifestCorpus) -> dict[str, tuple[str, str, str, list[list[int]]]]:
        """What preparation kept, by id: split, text, speaker and codes."""
        cache = prepare(corpus, self.lm, Path("cache"), 0, max_seconds=30.0)
        return {
            example.id: (split, example.text, example.speaker, example.codes.tolist())
            for split in SPLITS
            for example in ShardedExamples(cache.files(split), cache.fingerprint)
        }

    def valid(self, random: random.Random) -> Case:
        lines = self.lines(random)
        wrong: list[str] = []
        if random.random() < 0.3:  # the same id twice is a fault of the whole list; wrong codes are one of a line
            line = random.choice(lines)
            wrong, line["codes"] = [str(line["id"])], _wrong_codes(random)
        if random.random() < 0.2:
            odd = random.choice(["\u2028", "\u2029", "\u0085"])
            lines[0]["speaker"] = f"a{odd}b"
        if random.random() < 0.2:
            random.choice(lines)[random.choice(["duration", "condition", "mels"])] = 3.5
        expected = {
            str(line["id"]): (
                line["split"],
                line["text"],
                "unknown" if line.get("speaker") is None else str(line["speaker"]),
                line["codes"],
            )
            for line in lines
            if str(line["id"]) not in wrong
        }

        def check(found: object) -> None:
            assert isinstance(found, dict)
            assert found.keys() == expected.keys()
            for name, right in expected.items():
                assert found[name] == right, f"{name}: {found[name][:3]} instead of {right[:3]}, or other codes"

        return Case(
            f"{len(lines)} lines, wrong codes {wrong}", lambda: self.prepared(self.write(random, lines, wrong)), check
        )

    def invalid(self, random: random.Random) -> Case:
        lines = self.lines(random)
        kind = random.choice(sorted(FAULTS))
        words = FAULTS[kind](random, lines)
        if kind == "not JSON":
            return Case(kind, lambda: self.prepared(self._broken(random, lines)), names=("list.jsonl", "line"))
        return Case(f"{kind}: {words}", lambda: self.prepared(self.write(random, lines)), names=("list.jsonl", *words))

    def _broken(self, random: random.Random, lines: list[dict[str, Any]]) -> ManifestCorpus:
        corpus = self.write(random, lines)
        file = Path("list.jsonl")
        content = file.read_bytes().rstrip()
        cut = random.choice([content[:-1], content[: len(content) - 20], content + b"}", b"\xff\xfe" + content])
        file.write_bytes(
            random.choice([cut, b"[1, 2]\n" + content, content + b"\n{'text': 'a'}", b"\x00" * 50, b"nan"])
        )
        return corpus


def _wrong_codes(random: random.Random) -> Any:
    frames = random.randint(*FRAMES)
    right = [[0] * frames] * K
    return random.choice([
        [[SIZE] * frames] * K,
        [[SIZE + 1] * frames] * K,
        [[-1] * frames] * K,
        [[99999] * frames] * K,
        right[:-1],
        [*right, right[0]],
        [right],
        right[0],
        5,
        [],
        [[]] * K,
        [[0.5] * frames] * K,
        [[float("nan")] * frames] * K,
        [["a"] * frames] * K,
        [right[0], right[0][:-1], right[0]],
        "nowhere.npy",
        True,
        {"a": 1},
    ])  # fmt: skip


def _no_text(random: random.Random, lines: list[dict[str, Any]]) -> tuple[str, ...]:
    line = random.choice(lines)
    line["text"] = random.choice([None, 5, ["a"], {}, True])
    if random.random() < 0.3:
        del line["text"]
    return ("text",)


def _same_id(random: random.Random, lines: list[dict[str, Any]]) -> tuple[str, ...]:
    lines[-1]["id"] = lines[0]["id"]
    return ("id", str(lines[0]["id"]))


def _split(random: random.Random, lines: list[dict[str, Any]]) -> tuple[str, ...]:
    value = random.choice(["dev", "Train", 3, ["train"], True, ""])
    random.choice(lines)["split"] = value
    return ("split",)


def _reference(random: random.Random, lines: list[dict[str, Any]]) -> tuple[str, ...]:
    random.choice(lines)["reference"] = random.choice(["nobody", 9999, ["a"], {}])
    return ("reference",)


def _nothing(random: random.Random, lines: list[dict[str, Any]]) -> tuple[str, ...]:
    del random.choice(lines)["codes"]
    return ("codes",)


def _path(random: random.Random, lines: list[dict[str, Any]]) -> tuple[str, ...]:
    line = random.choice(lines)
    line.pop("codes")
    line["audio"] = random.choice([5, ["a.wav"], {"path": "a.wav"}, True, 1.5, ""])
    return ("audio",)


FAULTS = {
    "text": _no_text,
    "same id": _same_id,
    "split": _split,
    "reference": _reference,
    "neither codes nor audio": _nothing,
    "a path that is none": _path,
    "not JSON": lambda random, lines: (),
}
