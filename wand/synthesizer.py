"""Adapted models that speak: `wand.load`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from wand.attention import Windows
from wand.backbone import Backbone, build_backbone
from wand.checkpoints import codec_of_run, load_backbone_and_settings
from wand.codecs import Codec
from wand.conditioning import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.prefixes import PrefixMemory
from wand.decoding.sampling import Sampling
from wand.export import ABOUT
from wand.synthesis import SoundChunk, Speech, stream_speech, synthesize
from wand.tokenizers import read_files
from wand.voices import open_voice
from wand.weights import read_json


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
    window: Windows
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
            max_seconds: Longest speech allowed, of a part where texts are split.
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
        window = backbone.windows(settings["window"])
        codec = codec or codec_of_run(path)
    backbone.codec = codec
    found = backbone.find_codec()
    return Synthesizer(backbone.eval().to(device), window, None if found is None else found.to(device), int8)


def _read_export(folder: Path) -> tuple[Backbone, Windows]:
    about = read_json(folder / ABOUT)
    if missing := {"backbone", "window", "files", "digest"} - set(about):
        raise ValueError(f"{folder / ABOUT} is no description of an export: it lacks {', '.join(sorted(missing))}")
    spec, window, names, digest = (about[name] for name in ("backbone", "window", "files", "digest"))
    backbone = build_backbone(spec, read_files(folder, names))
    backbone.pretrained = str(folder)
    if backbone.pretrained_digest() != digest:
        raise ValueError(f"the weights at {folder} are not those that were exported: their digest has changed")
    backbone.load_pretrained()
    return backbone, backbone.windows(window)
