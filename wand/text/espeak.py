"""A small binding to the espeak-ng shared library in the package `espeakng-loader`."""

import _ctypes
import ctypes
import importlib.util
import itertools
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import soxr
import torch

SAMPLE_RATE = 16_000
INSTALL_HINT = 'espeak-ng is not installed; it comes with: pip install "wand-tts[demo]"'

# Constants of espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_POSITION_CHARACTER = 1
_CHARS_UTF8 = 1
_PHONEMES_IPA = 2
_PARAMETER_RATE = 1
_PARAMETER_PITCH = 3
_PARAMETER_RANGE = 4
_RANDOM_SEED = 1
_PHONEME_EVENTS_IN_IPA = 3
_LIST_ENDS, _PHONEME = 0, 7


class _Event(ctypes.Structure):
    """An event in the audio and its time: ``espeak_EVENT``."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("phoneme", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True, slots=True)
class Voice:
    """One espeak-ng voice.

    Args:
        name: Name of the voice in a corpus, for example `anna`.
        language: espeak-ng language, for example `en-us`.
        variant: espeak-ng voice variant, for example `f2`; empty for the language's plain voice.
        pitch: Base pitch from 0 to 99.
        pitch_range: Range of the pitch, from 0 (monotone) to 99.
        rate: Words per minute, from 80 to 450.
    """

    name: str
    language: str
    variant: str = ""
    pitch: int = 50
    pitch_range: int = 50
    rate: int = 165

    @property
    def espeak_name(self) -> str:
        """The name under which espeak-ng finds the voice."""
        return f"{self.language}+{self.variant}" if self.variant else self.language


# espeak-ng keeps its state in global variables, so it can speak only one utterance at a time.
_lock = threading.Lock()


def _unlock_child() -> None:
    """Replace the lock in a forked child, which would otherwise wait for a thread of its parent."""
    global _lock
    _lock = threading.Lock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_unlock_child)


@contextmanager
def _library() -> Iterator[ctypes.CDLL]:
    """Load the shared library anew.

    Its random numbers and the phase of a voice's flutter continue from utterance to utterance, and neither
    `espeak_Terminate` nor a seed resets them. Only a newly loaded library always says a text in the same way.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise ValueError(INSTALL_HINT)
    import espeakng_loader

    with _lock:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        library.espeak_Info.restype = ctypes.c_char_p
        library.espeak_SetSynthCallback.argtypes = [_Callback]
        library.espeak_SetSynthCallback.restype = None
        try:
            yield library
        finally:
            if sys.platform == "win32":
                _ctypes.FreeLibrary(library._handle)
            else:
                _ctypes.dlclose(library._handle)


@cache
def espeak_version() -> str:
    """The version of the library in use, for fingerprints."""
    with _library() as library:
        version: bytes = library.espeak_Info(None)
    return version.decode()


@contextmanager
def _engine(language: str) -> Iterator[tuple[ctypes.CDLL, int]]:
    """Open the library with a language or voice, and give its sample rate."""
    with _library() as library:
        data_path = os.fspath(importlib.import_module("espeakng_loader").get_data_path())
        rate = library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, data_path.encode(), _PHONEME_EVENTS_IN_IPA)
        if rate <= 0:
            raise ValueError(f"espeak-ng could not be initialised with its data in {data_path}")
        try:
            if library.espeak_SetVoiceByName(language.encode()) != 0:
                raise ValueError(f"espeak-ng has no voice {language!r}")
            yield library, rate
        finally:
            library.espeak_Terminate()


def _encoded(text: str) -> bytes:
    """The text for the library, which stops reading at a zero byte and takes no half of a surrogate pair."""
    return text.replace("\0", " ").encode(errors="replace")


def phonemes(texts: Sequence[str], language: str = "en-us") -> list[str]:
    """The pronunciation of texts: IPA with stress marks, spaces between words, no punctuation.

    Args:
        texts: The texts. Each is pronounced as a separate phrase.
        language: espeak-ng language.
    """
    spoken = []
    with _engine(language) as (library, _):
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        for text in texts:
            # Without the blank, the library loses a last clause of one character: the 5 of "No. 5".
            rest = ctypes.c_char_p(_encoded(f"{text} "))
            clauses = []
            while rest.value:  # each call of the library advances it by one clause
                clauses.append(library.espeak_TextToPhonemes(ctypes.byref(rest), _CHARS_UTF8, _PHONEMES_IPA).decode())
            spoken.append(" ".join(" ".join(clauses).split()))
    return spoken


def _speak(text: str, voice: Voice) -> tuple[np.ndarray, int, list[tuple[str, float]]]:
    """int16 samples `[N]`, their sample rate, and every phone with its start time in seconds."""
    if not text.strip():
        raise ValueError(f"text is empty (got {text!r}); espeak-ng needs at least one word")
    chunks: list[np.ndarray] = []
    phones: list[tuple[str, float]] = []

    def collect(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        for i in itertools.count() if events else ():
            event = events[i]
            if event.type == _LIST_ENDS:
                break
            if event.type == _PHONEME and event.phoneme:
                phones.append((event.phoneme.decode(), event.milliseconds / 1000))
        return 0

    callback = _Callback(collect)
    data = _encoded(text)
    with _engine(voice.espeak_name) as (library, rate):
        library.espeak_ng_SetRandSeed(ctypes.c_long(_RANDOM_SEED))
        library.espeak_SetSynthCallback(callback)
        library.espeak_SetParameter(_PARAMETER_RATE, voice.rate, 0)
        library.espeak_SetParameter(_PARAMETER_PITCH, voice.pitch, 0)
        library.espeak_SetParameter(_PARAMETER_RANGE, voice.pitch_range, 0)
        status = library.espeak_Synth(data, len(data) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
    if status != 0 or not chunks:
        raise ValueError(f"espeak-ng made no audio of {text!r} with voice {voice.name!r} (status {status})")
    return np.concatenate(chunks), rate, phones


def synthesize(text: str, voice: Voice) -> torch.Tensor:
    """Speak a text with espeak-ng. The same arguments always give the same samples.

    Args:
        text: The text to speak.
        voice: The voice to speak with.

    Returns:
        float32 audio `[N]` at 16 kHz.
    """
    samples, rate, _ = _speak(text, voice)
    audio = soxr.resample(samples.astype(np.float32) / 32768.0, rate, SAMPLE_RATE)
    return torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))


def phone_times(text: str, voice: Voice) -> list[tuple[str, float]]:
    """The phones in the audio of `synthesize`: IPA as the voice pronounces it, and the start time in seconds."""
    return _speak(text, voice)[2]
