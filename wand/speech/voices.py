"""Voices to clone: read them from a sound file or a saved voice, and save them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wand.checks import first_line
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.files.audio import read_reference
from wand.files.sound import Unusable, speech_span
from wand.files.weights import write_safetensors
from wand.files.writing import check_writable
from wand.model.backbone import Backbone
from wand.model.codes import allowed_codes, check_codes, check_whole_numbers

SAVED = ".safetensors"
TENSORS = ("codes", "audio", "global_codes")
WORDS = ("text", "speaker")


def read_voice(
    codec: Codec | None, audio: Tensor, sample_rate: int, text: str | None = None, speaker: str | None = None
) -> Reference:
    """Make a reference from a sound.

    Args:
        codec: The model's codec. Without one, the reference has no codes.
        audio: Float32 ``[N]``.
        sample_rate: Sample rate of `audio`, in Hz; must be the codec's, if there is one.
        text: Transcript of the sound, if known.
        speaker: Name of the voice, for models that know voices by name.
    """
    if codec is None:
        return Reference(torch.zeros(1, 0, dtype=torch.long), audio, text, None, speaker)
    sound = audio[None, None]
    voice = codec.global_codes(sound, sample_rate)
    codes = codec.encode(sound, sample_rate)[0]
    return Reference(codes.cpu(), audio, text, None if voice is None else voice[0].cpu(), speaker)


def open_voice(
    path: str | Path, backbone: Backbone, codec: Codec | None, text: str | None = None, speaker: str | None = None
) -> Reference:
    """Read a voice from a sound file, or from a file written by `save_voice`.

    Args:
        path: The file.
        backbone: The model that will speak with the voice.
        codec: The model's codec; None if the model speaks codes only.
        text: Transcript of the sound file, if known. A saved voice contains its own.
        speaker: Name of the voice, for models that know voices by name.

    Raises:
        ValueError: If the file cannot be used, or the codec is needed but missing.
    """
    if Path(path).suffix == SAVED:
        return _read_saved(Path(path), backbone, codec)
    if codec is None and not backbone.hears_references:
        codec = backbone.load_codec()  # raises an error that says what to do
    rate = backbone.sample_rate if codec is None else codec.sample_rate
    audio = read_reference(path, rate)
    if backbone.cut_references:  # the model hears the beginning only, which must be speech
        begin, end = speech_span(audio, rate)
        audio = audio[begin:end]
    return read_voice(codec, audio, rate, text, speaker)


def save_voice(reference: Reference, path: str | Path, codec: Codec | None) -> None:
    """Save a voice, so that it can be used without its sound file and without the codec's encoder.

    Args:
        reference: The voice.
        path: File to write, named ``*.safetensors``.
        codec: The codec that made the codes. Reading the voice with a different codec raises an error.
    """
    check_voice_file(path)
    tensors = {name: getattr(reference, name) for name in TENSORS if getattr(reference, name) is not None}
    words = {name: getattr(reference, name) for name in WORDS}
    about = {"voice": json.dumps(words), "codec": "" if codec is None else codec.fingerprint}
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_safetensors(kept, Path(path), about)


def check_voice_file(path: str | Path) -> None:
    """Check that a voice can be saved in a file.

    Raises:
        ValueError: If its name has another suffix, or it cannot be written.
    """
    if Path(path).suffix != SAVED:
        raise ValueError(f"a saved voice is named *{SAVED}, not {Path(path).name!r}")
    check_writable(path)


def check_reference(reference: Reference, backbone: Backbone) -> None:
    """Check that the codes of a voice are those of a model. A voice may have none.

    Raises:
        ValueError: If they are not.
    """
    if reference.codes.ndim == 2 and reference.codes.shape[1] == 0:
        return
    try:
        check_codes(reference.codes, allowed_codes(backbone))
    except Unusable as error:
        raise ValueError(f"the reference cannot be used: {error}") from error


def _check_types(voice: Reference) -> None:
    for name in WORDS:
        if not isinstance(word := getattr(voice, name), str | None):
            raise ValueError(f"its {name} {word!r} is not a string")
    audio, codes = voice.audio, voice.global_codes
    if audio is not None and (audio.ndim != 1 or not audio.is_floating_point()):
        raise ValueError(f"its audio is {audio.dtype} {[*audio.shape]}: give float32 [N]")
    if codes is not None:
        check_whole_numbers(codes, "its global codes")
        if codes.ndim != 1:
            raise ValueError(f"its global codes are {[*codes.shape]}, not [G]")


def _read_saved(path: Path, backbone: Backbone, codec: Codec | None) -> Reference:
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            words, made_by = json.loads(about["voice"]), about["codec"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        voice = Reference(**tensors, **words)
        _check_types(voice)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as a saved voice: {first_line(error)}") from error
    if voice.codes.ndim != 2 or voice.codes.is_floating_point():
        raise ValueError(f"{path} cannot be read as a saved voice: its codes are {[*voice.codes.shape]}, not [K, F]")
    rows = len(voice.codes)
    if voice.codes.shape[1] and rows != backbone.layout.rows_of_codes:
        raise ValueError(
            f"{path} is the voice of another model: its codes have {rows} rows, {type(backbone).__name__} has "
            f"{backbone.layout.rows_of_codes}"
        )
    try:
        check_reference(voice, backbone)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used as a voice: {error}") from error
    if made_by and codec is not None and made_by != codec.fingerprint:
        raise ValueError(f"{path} is a voice in another codec ({made_by}, not {codec.fingerprint}): save it again")
    return voice
