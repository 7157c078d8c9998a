"""Checkpoints, exports, saved voices and shards: whole, moved and rewritten; damaged, truncated, edited and foreign."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

import wand
from tests.conftest import random_codes, sharpened
from tests.fuzz.harness import Case, Group
from tests.workplace import SHAPE
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.codecs.reference import Reference
from wand.data.example import Example
from wand.data.shards import Shard, write_shard
from wand.runs.export import export
from wand.speech.speaking import SpeakOptions
from wand.speech.voices import open_voice, save_voice
from wand.training.module import WandModule

OPTIONS = SpeakOptions(max_seconds=0.2, seed=3)
JUNK = [
    b"",
    b"PK\x03\x04",
    b"\x80\x04N.",
    b"not a model",
    b"{}",
    b"version https://git-lfs.github.com/spec/v1\n",
    b"\0" * 99,
]
WRONG = [None, "", "x", -1, 0, 1.5, [], {}, True, float("nan"), 10**12, [1, 2], "wand.no.Such", {"a": 1}]


class ArtefactGroup(Group):
    """What a run leaves on the disk, opened by the functions that commands call."""

    name = "artefacts"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        torch.manual_seed(0)
        original = folder / "original"
        sharpened(EncodecLM(architecture=EncodecLMArchitecture(**SHAPE))).save_pretrained(original)
        self.checkpoint = folder / "run" / "checkpoints" / "last.ckpt"
        module = WandModule(EncodecLM(pretrained=str(original)), window=8)
        module.backbone.load_pretrained()
        trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
        trainer.strategy.connect(module)
        trainer.save_checkpoint(self.checkpoint)
        self.export = folder / "export"
        export(self.checkpoint, self.export)
        self.lm = sharpened(EncodecLM(pretrained=str(self.export))).eval()
        self.voice = Reference(random_codes(self.lm, 5), text="yes", speaker="ann")
        self.right = _codes(wand.load(self.export), self.voice)
        self.shard = folder / "train-00000.safetensors"
        self.examples = [
            Example(f"a{n}", "yes", "ann", self.lm.conditioner("yes", self.voice), random_codes(self.lm, 20 + n), "a0")
            for n in range(6)
        ]
        write_shard(self.shard, self.examples, "print", self.lm.conditioner.length)

    def valid(self, random: random.Random) -> Case:
        return random.choice([self._good_checkpoint, self._good_export, self._good_voice, self._good_shard])(random)

    def _good_checkpoint(self, random: random.Random) -> Case:
        path = Path(random.choice(["run", "a run/x", "ü"])) / "checkpoints" / random.choice(["last.ckpt", "best.ckpt"])
        path.parent.mkdir(parents=True)
        stored = torch.load(self.checkpoint, weights_only=True)
        if random.random() < 0.5:
            stored[random.choice(["epoch", "own", "loops"])] = random.choice([1, {"a": 1}, "x"])
        torch.save(stored, path)
        opened = random.choice([path, path.parent.parent, str(path)])
        return Case(f"checkpoint {opened}", lambda: _codes(wand.load(opened), self.voice), self._same)

    def _good_export(self, random: random.Random) -> Case:
        folder = Path(random.choice(["export", "an export", "ü"]))
        shutil.copytree(self.export, folder)
        for name in ("wand.json", "config.json"):
            about = json.loads((folder / name).read_text())
            if name == "wand.json" and random.random() < 0.5:
                about[random.choice(["licence", "training", "wand", "prefix_rule"])] = random.choice(["x", None, 1, {}])
            about = dict(random.sample(list(about.items()), len(about)))
            (folder / name).write_text(json.dumps(about, indent=random.choice([None, 1, 4])))
        return Case(f"export {folder}", lambda: _codes(wand.load(folder), self.voice), self._same)

    def _good_voice(self, random: random.Random) -> Case:
        voice = Reference(
            random_codes(self.lm, random.randint(1, 30)),
            random.choice([None, torch.rand(random.randint(1, 50))]),
            random.choice([None, "yes", "ü\n"]),
            random.choice([None, torch.tensor([1, 2])]),
            random.choice([None, "ann"]),
        )
        path = Path("a/b c.safetensors")
        save_voice(voice, path, None)

        def check(found: Any) -> None:
            assert (found.text, found.speaker) == (voice.text, voice.speaker)
            for name in ("codes", "audio", "global_codes"):
                a, b = getattr(found, name), getattr(voice, name)
                assert (a is None and b is None) or torch.equal(a, b), name

        return Case("voice", lambda: open_voice(path, self.lm, None), check)

    def _good_shard(self, random: random.Random) -> Case:
        path = shutil.copy(self.shard, random.choice(["train-00000.safetensors", "a b.safetensors"]))
        order = random.sample(range(6), 6)

        def check(found: Any) -> None:
            for example, number in zip(found, order, strict=True):
                right = self.examples[number]
                assert (example.id, example.text, example.speaker) == (right.id, right.text, right.speaker)
                assert torch.equal(example.codes, right.codes)

        return Case(f"shard {order}", lambda: [Shard(Path(path), "print")[i] for i in order], check)

    def _same(self, found: Any) -> None:
        assert torch.equal(found, self.right), "other codes than the original"

    def invalid(self, random: random.Random) -> Case:
        make = random.choice(
            [self._bad_checkpoint, self._bad_export, self._edited, self._edited, self._bad_voice, self._bad_shard]
        )
        return make(random)

    def _bad_checkpoint(self, random: random.Random) -> Case:
        path = Path("run/checkpoints/last.ckpt")
        path.parent.mkdir(parents=True)
        kind = random.choice(["damaged", "damaged", "foreign", "edited", "missing"])
        what = kind
        if kind == "damaged":
            path.write_bytes(_damage(random, self.checkpoint.read_bytes()))
        elif kind == "foreign":
            other: Any = random.choice(
                [5, [], {}, {"state_dict": {}}, {"hyper_parameters": {}}, torch.zeros(3), None, {"hyper_parameters": 5}]
            )
            torch.save(other, path)
            what = f"foreign {other!r}"
        elif kind == "edited":
            stored = torch.load(self.checkpoint, weights_only=True)
            what = _edit(random, stored, CHECKPOINT_PLACES)
            torch.save(stored, path)
        elif kind == "missing":
            path = Path("run/checkpoints/none.ckpt")

        def act() -> Tensor:
            spoken = _codes(wand.load(path), self.voice)
            if kind == "damaged" and torch.equal(spoken, self.right):
                raise ValueError(f"{path}: the wrong bit is in a byte that nobody reads")
            return spoken

        return Case(f"checkpoint, {what}", act, names=(str(path),))

    def _bad_export(self, random: random.Random) -> Case:
        folder = Path("export")
        shutil.copytree(self.export, folder)
        name = random.choice(["wand.json", "model.safetensors"])
        content = (folder / name).read_bytes()
        if name == "model.safetensors":
            content = _damage(random, content)
        else:
            content = random.choice([*JUNK, content[: random.randrange(len(content) - 2)], b"[1]", b"\xff" + content])
        (folder / name).write_bytes(content)
        if random.random() < 0.1 and name == "model.safetensors":
            (folder / name).unlink()
        return Case(f"export with another {name}", lambda: _codes(wand.load(folder), self.voice), names=("export",))

    def _edited(self, random: random.Random) -> Case:
        folder = Path("export")
        shutil.copytree(self.export, folder)
        file = folder / "wand.json"
        about = json.loads(file.read_text())
        what = _edit(random, about, EXPORT_PLACES)
        file.write_text(json.dumps(about))
        return Case(f"wand.json, {what}", lambda: _codes(wand.load(folder), self.voice), names=("export",))

    def _bad_voice(self, random: random.Random) -> Case:
        path = Path("voice.safetensors")
        save_voice(self.voice, path, None)
        content = path.read_bytes()
        head = int.from_bytes(content[:8], "little") + 8
        path.write_bytes(
            random.choice(
                [*JUNK, content[: random.randrange(len(content) - 1)], content[:8] + b"x" * (head - 8) + content[head:]]
            )
        )
        return Case("voice, damaged", lambda: open_voice(path, self.lm, None), names=(str(path),))

    def _bad_shard(self, random: random.Random) -> Case:
        path = Path("train-00000.safetensors")
        content = self.shard.read_bytes()
        path.write_bytes(_damage(random, content))

        def read() -> list[Example]:
            shard = Shard(path, "print")
            shard.check()
            return list(shard)

        return Case("shard, damaged", read, names=(str(path),))


def _codes(model: Any, voice: Reference) -> Tensor:
    """What a model says."""
    speaker = wand.Synthesizer(model.backbone, model.window, None)
    codes: Tensor = speaker.generate("yes", voice, OPTIONS)[0].codes
    return codes


def _damage(random: random.Random, content: bytes) -> bytes:
    """Junk, a part, or the whole with some wrong bits."""
    kind = random.choice(["junk", "cut", "bits", "bits"])
    if kind == "junk":
        return random.choice(JUNK)
    if kind == "cut":
        return content[: random.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(random.choice([1, 1, 3])):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _edit(random: random.Random, stored: dict[str, Any], places: dict[str, Callable[[Any], bool]]) -> str:
    """Put a wrong value in one place, or take the place out."""
    place = random.choice(sorted(places))
    *path, last = place.split("/")
    inside: Any = stored
    for name in path:
        inside = inside[name]
    if random.random() < 0.2:
        del inside[last]
        return f"without {place}"
    value = random.choice([one for one in WRONG if not places[place](one)])
    inside[last] = value
    return f"{place} = {value!r}"


def _never(value: Any) -> bool:
    return False


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9


ARCHITECTURE = ("hidden_size", "num_layers", "num_heads", "num_codebooks", "codebook_size", "front_end", "text_kernel")
EXPORT_PLACES: dict[str, Callable[[Any], bool]] = {
    "backbone": _never,
    "backbone/class_path": _never,
    "backbone/architecture": _never,
    "window": lambda value: value is None,  # full attention
    "files": lambda value: value == [] or value == {},
    "digest": _never,
    **{f"backbone/architecture/{name}": _never for name in ARCHITECTURE},
    "backbone/architecture/frame_rate": lambda value: _is_whole(value) or value == 1.5,
    "backbone/architecture/sample_rate": _is_whole,
}
CHECKPOINT_PLACES: dict[str, Callable[[Any], bool]] = {
    "hyper_parameters": _never,
    "hyper_parameters/backbone": _never,
    "hyper_parameters/window": lambda value: value is None,
    "state_dict": _never,
    "wand": _never,
    **{f"hyper_parameters/backbone/architecture/{name}": _never for name in ARCHITECTURE},
}
