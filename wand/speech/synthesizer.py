"""Load an adapted model and speak with it: `wand.load`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from wand.alignment.record import apply_record
from wand.attention import Windows
from wand.checks import check_device
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.files.plain_values import read_json
from wand.files.typed import reading, require
from wand.kv_cache.prefixes import PrefixMemory
from wand.model.adapters import build_backbone
from wand.model.backbone import Backbone
from wand.model.tokenizers import read_files
from wand.runs.checkpoints import ABOUT, codec_of_run, is_export, load_backbone_and_settings
from wand.runs.trust import check_export, trusting
from wand.speech.speaking import DEFAULT_OPTIONS, SpeakOptions, Speech, synthesize
from wand.speech.streaming import SoundChunk, stream_speech
from wand.speech.voices import open_voice, save_voice

# What the description of an export has.
EXPORT: dict[str, Any] = {
    "backbone": dict[str, Any],
    "window": int | list[int] | None,
    "files": list[str],
    "digest": str,
}


@dataclass(frozen=True, eq=False)
class Synthesizer:
    """A model, its window and its codec, ready to speak.

    Args:
        backbone: The model, in eval mode.
        window: Its window.
        codec: Its codec, for audio and for references from sound files. With None, the model speaks codes only.
        int8: Use int8 weights (CPU only). This is faster but changes the results slightly.
    """

    backbone: Backbone
    window: Windows
    codec: Codec | None
    int8: bool = False

    @cached_property
    def decoder(self) -> Decoder:
        """The decoder. It keeps recent voices in memory, so that the next text in such a voice starts sooner."""
        return Decoder(self.backbone, self.window, int8=self.int8, memory=PrefixMemory())

    def read_voice(self, path: str | Path, text: str | None = None) -> Reference:
        """Read a voice from a sound file or a saved voice, for use in several calls.

        Args:
            path: A sound file, or a file written by `save_voice`.
            text: Transcript of the sound file, if known.
        """
        return open_voice(path, self.backbone, self.codec, text)

    def save_voice(self, path: str | Path, reference: Reference) -> None:
        """Save a voice, so that `read_voice`, `generate` and `stream` can use the file instead of a sound file.

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
            texts: One text or several.
            reference: The voice: a sound file, a saved voice, or a `Reference` (see `read_voice`).
            options: Settings for speaking.
            reference_text: Transcript of the sound file, if known.

        Raises:
            ValueError: If a text or the reference cannot be used.
        """
        chosen = [texts] if isinstance(texts, str | bytes) or not isinstance(texts, Iterable) else list(texts)
        return synthesize(self.decoder, self.codec, chosen, self._reference(reference, reference_text), options)

    def stream(
        self,
        text: str | Iterable[str],
        reference: Reference | str | Path,
        options: SpeakOptions = DEFAULT_OPTIONS,
        *,
        reference_text: str | None = None,
    ) -> Iterator[SoundChunk]:
        """Speak one text and yield its sound in parts.

        The codes equal those of `generate` with the same seed, except where `generate` speaks a part of a passage again
        to repair a fault: what a stream has given out stays.

        Args:
            text: The text, or an iterator of its pieces, such as those of a language model. The pieces may end
                anywhere, and are read when the speech needs them.
            reference: As in `generate`.
            options: Settings for speaking, with the length of the parts.
            reference_text: As in `generate`.

        Raises:
            ValueError: If the text or the reference cannot be used, the codec can only decode a whole speech, or the
                model cannot speak text in pieces.
        """
        codec = self.codec or self.backbone.load_codec()
        return stream_speech(self.decoder, codec, text, self._reference(reference, reference_text), options)

    def _reference(self, given: Reference | str | Path, text: str | None) -> Reference:
        if isinstance(given, str | Path):
            return self.read_voice(given, text)
        if not isinstance(given, Reference):
            raise ValueError(f"reference {given!r} is neither a file nor a wand.Reference")
        return given


def load(
    path: str | Path,
    codec: Codec | None = None,
    device: str | torch.device = "cpu",
    int8: bool = False,
    dtype: torch.dtype | None = None,
    *,
    trust: bool = False,
) -> Synthesizer:
    """Load an adapted model from an export, a run or a checkpoint.

    Args:
        path: Folder of ``wand export``, run folder, checkpoint file, or ``last``.
        codec: The model's codec, if its adapter provides none.
        device: Device of the model and the codec.
        int8: Use int8 weights (CPU only). This is faster but changes the results slightly.
        dtype: Dtype of the weights; that of the stored weights by default. ``torch.bfloat16`` needs half the memory
            of float32 and is faster on processors that compute in it.
        trust: Start code that the files name, even if it belongs neither to wand nor to an installed adapter and your
            own ``wand fit`` did not write them.

    Raises:
        ValueError: If there is no such model, device or dtype, the weights have changed since the export, or the files
            name code that is not trusted.
    """
    check_device(device)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype {dtype!r} is not a dtype of weights: give torch.float32, bfloat16 or float16")
    with trusting(trust):
        if is_export(path):
            backbone, window = _read_export(Path(path))
        else:
            backbone, settings = load_backbone_and_settings(path)
            window = backbone.windows(settings.window)
            codec = codec or codec_of_run(path)
    backbone.codec = codec
    found = backbone.find_codec()
    return Synthesizer(backbone.eval().to(device, dtype), window, None if found is None else found.to(device), int8)


def open_export(folder: Path) -> tuple[dict[str, Any], Backbone, Windows]:
    """The description of an export, its model with random weights, and its window.

    Raises:
        ValueError: If the folder is no export, or names code that is not trusted.
    """
    about = read_json(folder / ABOUT)
    if missing := set(EXPORT) - set(about):
        raise ValueError(f"{folder / ABOUT} does not describe an export: it lacks {', '.join(sorted(missing))}")
    check_export(about, folder / ABOUT)
    for name, hint in EXPORT.items():
        require(about[name], hint, f"{folder / ABOUT}: {name}")
    with reading(folder / ABOUT):
        backbone = build_backbone(about["backbone"], read_files(folder, about["files"]))
        window = backbone.windows(about["window"])
    return about, backbone, window


def _read_export(folder: Path) -> tuple[Backbone, Windows]:
    about, backbone, window = open_export(folder)
    backbone.pretrained = str(folder)
    if backbone.pretrained_digest() != about["digest"]:
        raise ValueError(f"the weights at {folder} are not those of the export: their digest has changed; export again")
    backbone.load_pretrained()
    apply_record(folder, backbone)
    return backbone, window
