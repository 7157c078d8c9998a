"""Adapted models that speak: `wand.load`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from wand.attention import Windows
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.prefixes import PrefixMemory
from wand.files.weights import read_json
from wand.model.adapters import build_backbone
from wand.model.backbone import Backbone
from wand.model.tokenizers import read_files
from wand.runs.checkpoints import ABOUT, codec_of_run, load_backbone_and_settings
from wand.speech.speaking import DEFAULT_OPTIONS, SoundChunk, SpeakOptions, Speech, stream_speech, synthesize
from wand.speech.voices import open_voice, save_voice


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
        """A sound file, or one of `wand.speech.voices.save_voice`, as a reference to be given again and again.

        Args:
            path: The file.
            text: What is said in it, where that is known.
        """
        return open_voice(path, self.backbone, self.codec, text)

    def save_voice(self, path: str | Path, reference: Reference) -> None:
        """Write a voice to a file that `read_voice`, `generate` and `stream` take in place of its sound.

        Args:
            path: File to write, named ``*.safetensors``.
            reference: The voice, from `read_voice`.
        """
        save_voice(reference, path, self.codec)

    def generate(
        self,
        texts: str | Sequence[str],
        reference: Reference | str | Path,
        options: SpeakOptions = DEFAULT_OPTIONS,
        *,
        reference_text: str | None = None,
    ) -> list[Speech]:
        """Speak texts.

        Args:
            texts: One or several.
            reference: The voice: a sound file, a saved voice, or a `Reference` (see `read_voice`).
            options: How it is said.
            reference_text: What is said in the sound file, where that is known.

        Raises:
            ValueError: If a text or the reference cannot be used.
        """
        chosen = [texts] if isinstance(texts, str) else texts
        return synthesize(self.decoder, self.codec, chosen, self._reference(reference, reference_text), options)

    def stream(
        self,
        text: str,
        reference: Reference | str | Path,
        options: SpeakOptions = DEFAULT_OPTIONS,
        *,
        reference_text: str | None = None,
    ) -> Iterator[SoundChunk]:
        """Speak one text and give its sound part by part; the same speech as `generate` with this seed.

        Args:
            text: What is to be said.
            reference: As in `generate`.
            options: How it is said, and how long the parts are.
            reference_text: As in `generate`.

        Raises:
            ValueError: If the text or the reference cannot be used, or the codec needs the whole speech.
        """
        codec = self.codec or self.backbone.load_codec()
        return stream_speech(self.decoder, codec, text, self._reference(reference, reference_text), options)

    def _reference(self, given: Reference | str | Path, text: str | None) -> Reference:
        return given if isinstance(given, Reference) else self.read_voice(given, text)


def load(
    path: str | Path,
    codec: Codec | None = None,
    device: str | torch.device = "cpu",
    int8: bool = False,
    dtype: torch.dtype | None = None,
) -> Synthesizer:
    """A student that speaks under its window, from an export, or from a run or checkpoint.

    Args:
        path: Folder of ``wand export``, run folder, checkpoint file, or ``last``.
        codec: The model's, where the adapter brings none of its own.
        device: Where to put it.
        int8: Multiply by int8 weights (on a CPU).
        dtype: Dtype of the weights; that of the stored weights by default. ``torch.bfloat16`` takes half the memory,
            and is faster where the processor computes in it.

    Raises:
        ValueError: If there is no such model, or the weights are not those that were exported.
    """
    if (Path(path) / ABOUT).is_file():
        backbone, window = _read_export(Path(path))
    else:
        backbone, settings = load_backbone_and_settings(path)
        window = backbone.windows(settings.window)
        codec = codec or codec_of_run(path)
    backbone.codec = codec
    found = backbone.find_codec()
    return Synthesizer(backbone.eval().to(device, dtype), window, None if found is None else found.to(device), int8)


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
