"""The stages between a sentence and the student's speech: each gives the sound of a sentence in a voice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.voice.sentences import Line
from recipes.corpus.voices import VOICES as CORPUS_VOICES
from wand.attention import AttentionWindow, Windows
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs import Codec, EncodecCodec
from wand.codecs.encodec import EMBEDDED, digest
from wand.codecs.reference import Reference
from wand.data.example import Example
from wand.decoding.decoder import Decoder
from wand.demo.corpus import VOICES
from wand.evaluation.takes import speak_examples
from wand.files.audio import resample, write_audio
from wand.model.backbone import Backbone
from wand.runs.checkpoints import codec_of_run, load_backbone_and_settings, load_original
from wand.speech.speaking import sounds_of
from wand.speech.voices import open_voice, read_voice
from wand.text.espeak import SAMPLE_RATE, synthesize

ORIGINAL, CODEC, TEACHER, UNTRAINED, STUDENT = "original", "codec", "teacher", "untrained", "student"
# Every voice is cloned from this sentence. It belongs to no list.
REFERENCE = "the captain carried a golden lantern along the beach this morning."


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage.

    Args:
        name: ``original``, ``codec``, ``teacher``, ``untrained-32`` or ``student``.
        made_of: What determines its sound, as a text. Takes that were made of something else are not used.
        sample_rate: Sample rate of the sound, in Hz.
        speak: Gives the sounds ``[N]`` of some sentences, from their original sounds at `sample_rate`.
    """

    name: str
    made_of: str
    sample_rate: int
    speak: Callable[[Sequence[Line], Sequence[Tensor]], list[Tensor]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for.

    Args:
        run: Run folder of the student; None leaves out the student.
        teacher: Folder of an `EncodecLM`, or ``embedded``; None takes the run's.
        codec: Folder of an EnCodec, or ``embedded``; None takes the one of the run or the teacher.
        windows: Windows of the untrained weights; empty takes the run's.
    """

    run: Path | None = None
    teacher: str | None = None
    codec: str | None = None
    windows: Sequence[int] = ()


def known_voices() -> dict[str, Any]:
    """The voices of `recipes.corpus` and of `wand.demo`, by name."""
    return {**CORPUS_VOICES, **{voice.name: voice for voice in VOICES}}


def speak(text: str, name: str) -> Tensor:
    """Speak a text in the voice of a name: float32 ``[N]`` at 16 kHz.

    Raises:
        ValueError: If there is no such voice.
    """
    known = known_voices()
    if name not in known:
        raise ValueError(f"there is no voice {name!r}: known are {', '.join(known)}")
    voice = known[name]
    return voice.speak(text).audio if hasattr(voice, "speak") else synthesize(text, voice)


def reference_of(voice: str, codec: Codec) -> Reference:
    """The recording from which a voice is cloned."""
    sound = resample(speak(REFERENCE, voice), SAMPLE_RATE, codec.sample_rate)
    return read_voice(codec, sound, codec.sample_rate, REFERENCE)


def make_stages(asked: Asked, voices: Sequence[str], folder: Path) -> list[Stage]:
    """The stages that can be made, in order.

    Args:
        asked: Codec, teacher and run.
        voices: Names of the voices.
        folder: Folder for the references of the voices.

    Raises:
        ValueError: If a voice, a model or the codec cannot be opened.
    """
    references = {voice: folder / f"{voice}.wav" for voice in voices}
    heard = hashlib.sha256()
    for voice, file in references.items():
        sound = speak(REFERENCE, voice)
        heard.update(sound.numpy().tobytes())
        write_audio(file, sound, SAMPLE_RATE)
    made_of = f"voices {heard.hexdigest()[:12]}"
    models = _models(asked)
    codec = _codec(asked, models[TEACHER][0] if TEACHER in models else None)
    passed = f"{made_of}, codec {codec.fingerprint}"
    stages = [
        Stage(ORIGINAL, made_of, SAMPLE_RATE, lambda lines, _: [speak(line.text, line.voice) for line in lines]),
        Stage(CODEC, passed, codec.sample_rate, lambda _, sounds: [_round_trip(codec, sound) for sound in sounds]),
    ]
    for name, (model, window) in models.items():
        speaker = _Speaker(Decoder(model, window), codec, references)
        described = f"{passed}, model {digest(model)}, window {window.plain}"
        stages.append(Stage(name, described, codec.sample_rate, speaker))
    return stages


def _models(asked: Asked) -> dict[str, tuple[Backbone, Windows]]:
    """Model and window of the stages that speak themselves."""
    student, window = None, None
    windows: dict[str, Windows] = {f"{UNTRAINED}-{size}": AttentionWindow(size) for size in asked.windows}
    if asked.run is not None:
        student, settings = load_backbone_and_settings(asked.run)
        window = student.windows(settings.window)
        windows = windows or {f"{UNTRAINED}-{window.plain}": window}
    models: dict[str, tuple[Backbone, Windows]] = {}
    if asked.teacher is not None or asked.run is not None:
        teacher = _teacher(asked)
        models[TEACHER] = (teacher, AttentionWindow())
        models |= {name: (teacher, own) for name, own in windows.items()}
    if student is not None and window is not None:
        models[STUDENT] = (student.eval(), window)
    return models


def _teacher(asked: Asked) -> Backbone:
    if asked.teacher is None:
        assert asked.run is not None
        return load_original(asked.run)
    teacher = EncodecLM(pretrained=asked.teacher)
    teacher.load_pretrained()
    return teacher.eval()


def _codec(asked: Asked, teacher: Backbone | None) -> Codec:
    if asked.codec is not None or teacher is None:
        return EncodecCodec(asked.codec or EMBEDDED)
    return (None if asked.run is None else codec_of_run(asked.run)) or teacher.load_codec()


def _round_trip(codec: Codec, sound: Tensor) -> Tensor:
    return codec.decode(codec.encode(sound[None, None], codec.sample_rate))[0, 0][: len(sound)]


class _Speaker:
    """Speaks sentences with a model. The original sound limits the length of the speech."""

    def __init__(self, decoder: Decoder, codec: Codec, references: Mapping[str, Path]) -> None:
        self.decoder = decoder
        self.codec = codec
        self.references = {name: self._read(file) for name, file in references.items()}

    def __call__(self, lines: Sequence[Line], sounds: Sequence[Tensor]) -> list[Tensor]:
        model, codec, window = self.decoder.backbone, self.codec, self.decoder.window
        voices = [self.references[line.voice] for line in lines]
        examples = []
        for line, voice, sound in zip(lines, voices, sounds, strict=True):
            codes = codec.encode(sound[None, None], codec.sample_rate)[0]
            examples.append(Example(line.name, line.text, line.voice, model.conditioner(line.text, voice), codes))
        with torch.inference_mode():
            spoken = speak_examples(self.decoder, codec, examples)
            said, made = [one.conditioning for one in examples], [one.codes for one in spoken]
            return sounds_of(model, codec, window, said, made, voices)

    def _read(self, file: Path) -> Reference:
        return open_voice(file, self.decoder.backbone, self.codec, REFERENCE)
