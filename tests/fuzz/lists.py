"""Lists of recordings and of texts, against the rows that were written."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.fuzz.harness import Case, Group
from tests.fuzz.values import text_of
from wand.cli.synthesize import _read_texts
from wand.data.sources.corpora import LibriTTS, LJSpeech
from wand.data.sources.source import SPLITS, SpeechSource

SPACES = " \t\u00a0"


class ListGroup(Group):
    """LJSpeech tables, LibriTTS folders and files of texts, as people write them."""

    name = "lists"

    def valid(self, random: random.Random) -> Case:
        return random.choice([self._lj, self._libri, self._texts])(random)

    def _lj(self, random: random.Random) -> Case:
        rows = [(f"LJ{n:03}{random.choice(['', '.a', ' b'])}", text_of(random), n) for n in range(random.randint(1, 9))]
        columns = random.choice([2, 3])
        lines = [
            name + "|" + ("raw " + said + "|" if columns == 3 else "") + _quoted(random, said) for name, said, _ in rows
        ]
        _write(random, Path("lj/metadata.csv"), lines)
        right = {name: line.split("|")[-1].strip() for (name, _, _), line in zip(rows, lines, strict=True)}
        return Case(f"LJSpeech {lines}", lambda: LJSpeech("lj"), lambda found: _same_texts(found, right))

    def _libri(self, random: random.Random) -> Case:
        right = {}
        for number in range(random.randint(1, 6)):
            subset, speaker = random.choice(["train-clean-100", "dev-clean", "test-clean"]), random.choice(["19", "84"])
            name = f"{speaker}_1_{number:06}_{random.choice(['000000', '000001'])}"
            folder = Path("libri") / subset / speaker / "1"
            folder.mkdir(parents=True, exist_ok=True)
            said = text_of(random)
            (folder / f"{name}.wav").write_bytes(b"")
            _write(random, folder / f"{name}.normalized.txt", [said])
            right[f"{subset}/{name}"] = said
        Path("libri/train-clean-100").mkdir(parents=True, exist_ok=True)
        return Case(f"LibriTTS {list(right)}", lambda: LibriTTS("libri"), lambda found: _same_texts(found, right))

    def _texts(self, random: random.Random) -> Case:
        texts = [text_of(random) for _ in range(random.randint(1, 6))]
        if random.random() < 0.2:
            texts[0] += random.choice(["\u2028", "\u0085", "\x0c"]) + "go on"
        typed = [random.choice(["", " "]) + text + random.choice(["", " ", "\t"]) for text in texts]
        for _ in range(random.randint(0, 2)):
            typed.insert(random.randrange(len(typed)), random.choice(["", "  "]))
        _write(random, Path("texts.txt"), typed)
        return Case(f"--file {typed}", lambda: _read_texts(Path("texts.txt")), lambda found: _equal(found, texts))

    def invalid(self, random: random.Random) -> Case:
        kind = random.choice(["one column", "twice", "no table", "bytes", "empty", "share", "no subset", "texts"])
        names: tuple[str, ...] = ("metadata.csv",)
        rows = [f"LJ{n}|{text_of(random)}" for n in range(3)]
        place = random.randrange(3)
        Path("lj").mkdir()
        if kind == "one column":
            rows[place] = "LJ9"
            names = ("metadata.csv", "line")
        elif kind == "twice":
            rows.append(rows[place])
            names = (f"LJ{place}",)
        elif kind == "empty":
            rows, names = [""] * random.randint(0, 3), ("data.source",)
        elif kind == "share":
            share: Any = random.choice([-0.1, 1.1, float("nan"), "a", None, True])
            name = random.choice(["validation_share", "test_share"])
            return Case(f"{name} {share!r}", lambda: LJSpeech("lj", **{name: share}), names=(name,))
        elif kind == "no subset":
            return Case(kind, lambda: _all_texts(LibriTTS("nowhere")), names=("nowhere",))
        elif kind == "texts":
            content = random.choice([b"\xff\xfe\xfa", b"caf\xe9", None])
            if content is not None:
                Path("texts.txt").write_bytes(content)
            return Case(f"--file with {content!r}", lambda: _read_texts(Path("texts.txt")), names=("texts.txt",))
        if kind != "no table":
            _write(random, Path("lj/metadata.csv"), rows)
        if kind == "bytes":
            Path("lj/metadata.csv").write_bytes(random.choice([b"LJ1|caf\xe9\n", b"\xff\xfeL\x00J\x00"]))
        return Case(f"{kind}: {rows}", lambda: _all_texts(LJSpeech("lj")), names=names)


def _quoted(random: random.Random, said: str) -> str:
    return random.choice([said, said, f'"{said}"', f'she said "{said}"', f" {said} ", f"'{said}'"])


def _write(random: random.Random, path: Path, lines: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    end = random.choice(["\n", "\n", "\r\n"])
    text = end.join(lines) + random.choice(["", end])
    path.write_bytes((random.choice(["", "", "\ufeff"]) + text).encode())


def _all_texts(source: SpeechSource) -> dict[str, str]:
    return {one.id: one.text for split in SPLITS for one in source.utterances(split)}


def _same_texts(source: Any, right: dict[str, str]) -> None:
    _equal(_all_texts(source), right)


def _equal(found: object, right: object) -> None:
    assert found == right, f"{found!r} instead of {right!r}"
