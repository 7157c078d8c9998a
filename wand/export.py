"""Students in their original's format, and speech from them: ``wand export``, `wand.load`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from wand.attention import AttentionWindow
from wand.backbone import Backbone, build_backbone
from wand.checkpoints import codec_of_run, load_backbone_and_settings, read_checkpoint, run_folder
from wand.codecs import Codec
from wand.conditioning import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.prefixes import PrefixMemory
from wand.decoding.sampling import Sampling
from wand.synthesis import SoundChunk, Speech, stream_speech, synthesize
from wand.tokenizers import read_files
from wand.version import __version__
from wand.voices import open_voice
from wand.weights import read_json

ABOUT = "wand.json"
CARD = "README.md"
PREFIX_RULE = (
    "Every step sees all columns of the prefix and the last `window` columns of the speech, its own included; columns "
    "of the prefix see those before them."
)
_CARD = """# {name}, adapted to windowed attention

Made by [WAND](https://arxiv.org/abs/2604.08558) from the original weights {original}: every step sees the whole prefix
(text, reference) and the last **{window} columns** of the speech. Its cache does not grow.

```python
import wand

model = wand.load("{folder}")
speech = model.generate("what is to be said", reference="voice.wav", reference_text="what is said in it")
```

**Without its window** (the original's own program, or transformers' `generate` on these files as they are) this model
runs in a regime that it was never trained for, and saves nothing.

| | |
|---|---|
| backbone | `{backbone}` |
| window | {window} columns, {seconds:.2f} s |
| training | {steps} steps; {settings} |
| best checkpoint by | {monitor} |
| files | the original's own format; `{about}` has the window, the prefix rule and digests |

Licence: {licence}
{table}"""


@dataclass(frozen=True, eq=False)
class Synthesizer:
    """A model that speaks under its window.

    Args:
        backbone: The model, in eval mode.
        window: Its window.
        codec: Its codec, if one is at hand: then there is sound, and references may be sounds.
        int8: Multiply by int8 weights (on a CPU): faster, and not quite the same numbers.
    """

    backbone: Backbone
    window: AttentionWindow
    codec: Codec | None
    int8: bool = False

    @cached_property
    def decoder(self) -> Decoder:
        """What speaks; it remembers voices, so that a text in a known one begins sooner."""
        return Decoder(self.backbone, self.window, int8=self.int8, memory=PrefixMemory())

    def read_voice(self, path: str | Path, text: str | None = None) -> Reference:
        """A sound file, or one of `wand.voices.save_voice`, as a reference to be given again and again.

        Args:
            path: The file.
            text: What is said in it, where that is known.
        """
        return open_voice(path, self.backbone, self.codec, text)

    def generate(
        self,
        texts: str | Sequence[str],
        reference: Reference | str | Path,
        *,
        reference_text: str | None = None,
        sampling: Sampling | None = None,
        seed: int = 0,
        max_seconds: float = 30.0,
        rows: int = 8,
        split: bool = False,
    ) -> list[Speech]:
        """Speak texts.

        Args:
            texts: One or several.
            reference: The voice: a sound file, a saved voice, or a `Reference` (see `read_voice`).
            reference_text: What is said in the sound file, where that is known.
            sampling: The model's own way by default.
            seed: Text i draws with seed + i; where texts are split, part i of all their parts.
            max_seconds: Longest speech allowed.
            rows: Texts that are spoken side by side.
            split: Speak long texts in parts, cut at the ends of sentences; else each is one pass.

        Raises:
            ValueError: If a text or the reference cannot be used.
        """
        return synthesize(
            self.decoder,
            self.codec,
            [texts] if isinstance(texts, str) else texts,
            self._reference(reference, reference_text),
            sampling=sampling,
            seed=seed,
            max_seconds=max_seconds,
            rows=rows,
            split=split,
        )

    def stream(
        self,
        text: str,
        reference: Reference | str | Path,
        *,
        reference_text: str | None = None,
        sampling: Sampling | None = None,
        seed: int = 0,
        max_seconds: float = 30.0,
        first_seconds: float = 0.2,
        chunk_seconds: float = 0.5,
    ) -> Iterator[SoundChunk]:
        """Speak one text and give its sound part by part; the same speech as `generate` with this seed.

        Args:
            text: What is to be said.
            reference: As in `generate`.
            reference_text: As in `generate`.
            sampling: As in `generate`.
            seed: What it draws with.
            max_seconds: Longest speech allowed.
            first_seconds: Length of the first part: how soon something is heard.
            chunk_seconds: Length of every other part.

        Raises:
            ValueError: If the text or the reference cannot be used, or the codec needs the whole speech.
        """
        return stream_speech(
            self.decoder,
            self.codec or self.backbone.load_codec(),
            text,
            self._reference(reference, reference_text),
            sampling=sampling,
            seed=seed,
            max_seconds=max_seconds,
            first_seconds=first_seconds,
            chunk_seconds=chunk_seconds,
        )

    def _reference(self, given: Reference | str | Path, text: str | None) -> Reference:
        return given if isinstance(given, Reference) else self.read_voice(given, text)


def load(
    path: str | Path, codec: Codec | None = None, device: str | torch.device = "cpu", int8: bool = False
) -> Synthesizer:
    """A student that speaks under its window, from an export, or from a run or checkpoint.

    Args:
        path: Folder of ``wand export``, run folder, checkpoint file, or ``last``.
        codec: The model's, where the adapter brings none of its own.
        device: Where to put it.
        int8: Multiply by int8 weights (on a CPU).

    Raises:
        ValueError: If there is no such model, or the weights are not those that were exported.
    """
    if (Path(path) / ABOUT).is_file():
        backbone, window = _read_export(Path(path))
    else:
        backbone, settings = load_backbone_and_settings(path)
        window = AttentionWindow(settings["window"])
        codec = codec or codec_of_run(path)
    backbone.codec = codec
    found = backbone.find_codec()
    return Synthesizer(backbone.eval().to(device), window, None if found is None else found.to(device), int8)


def _read_export(folder: Path) -> tuple[Backbone, AttentionWindow]:
    about = read_json(folder / ABOUT)
    if missing := {"backbone", "window", "files", "digest"} - set(about):
        raise ValueError(f"{folder / ABOUT} is no description of an export: it lacks {', '.join(sorted(missing))}")
    spec, window, names, digest = (about[name] for name in ("backbone", "window", "files", "digest"))
    backbone = build_backbone(spec, read_files(folder, names))
    backbone.pretrained = str(folder)
    if backbone.pretrained_digest() != digest:
        raise ValueError(f"the weights at {folder} are not those that were exported: their digest has changed")
    backbone.load_pretrained()
    return backbone, AttentionWindow(window)


def export(checkpoint: str | Path, out: Path, dtype: torch.dtype | None = None) -> Backbone:
    """Write a run's student as its original is published, with ``wand.json`` and a card.

    Args:
        checkpoint: Run folder (its best checkpoint), checkpoint file, or ``last``.
        out: Folder to write.
        dtype: Of the weights; the original's by default.

    Raises:
        ValueError: If the folder holds something, or the run has no window.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty: give a new folder")
    best = Path(checkpoint) / "checkpoints" / "best.ckpt"
    chosen = best if best.is_file() else checkpoint
    backbone, settings = load_backbone_and_settings(chosen)
    window = settings["window"]
    if window is None:
        raise ValueError(f"the run {checkpoint} has no window (model.window null): there is nothing to export")
    backbone.save_pretrained(out, dtype)
    backbone.note_window(out, window)
    backbone.pretrained = str(out)
    about = {
        "wand": __version__,
        "window": window,
        "prefix_rule": PREFIX_RULE,
        "backbone": backbone.spec(),
        "files": sorted(backbone.files),
        "training": _training(read_checkpoint(chosen), settings),
        "digest": backbone.pretrained_digest(),
    }
    (out / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
    (out / CARD).write_text(_card(backbone, about, out, run_folder(Path(chosen))))
    return backbone


def _training(checkpoint: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """What the student went through."""
    monitored = {
        state["monitor"]: float(state["best_model_score"])
        for state in checkpoint.get("callbacks", {}).values()
        if isinstance(state, dict) and state.get("monitor") and state.get("best_model_score") is not None
    }
    return {
        "original": checkpoint["hyper_parameters"]["pretrained"],
        "original_digest": checkpoint["wand"]["pretrained_digest"],
        "steps": checkpoint["global_step"],
        "best": monitored,
        "settings": settings,
    }


def _card(backbone: Backbone, about: dict[str, Any], out: Path, run: Path | None) -> str:
    training, window = about["training"], about["window"]
    tables = [] if run is None else [run / name / "table.md" for name in ("test", "closing")]
    table = next((path.read_text().strip() for path in tables if path.is_file()), None)
    columns_a_second = backbone.frame_rate * backbone.layout.columns_per_frame
    shown = ("learning_rate", "ce_weight", "kd_weight", "skew", "temperature")
    return _CARD.format(
        name=type(backbone).__name__,
        original="(random)" if training["original"] is None else f"`{Path(training['original']).name}`",
        window=window,
        seconds=window / columns_a_second,
        folder=out.name,
        backbone=about["backbone"]["class_path"],
        steps=training["steps"],
        settings=", ".join(f"{name} {training['settings'][name]:g}" for name in shown),
        monitor=", ".join(f"{name} {value:.4g}" for name, value in training["best"].items()) or "not chosen",
        about=ABOUT,
        licence=backbone.licence,
        table="" if table is None else f"\n## Test\n\n{table}\n",
    )
