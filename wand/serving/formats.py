"""Sound as bytes, in the formats of OpenAI's interface, while it is spoken."""

from __future__ import annotations

import io
import struct
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import soundfile
from torch import Tensor

# Sample rates of the encoders, in Hz.
OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
FLAC_RATES = range(1, 655_351)
# The length in a header whose sound is not complete yet.
UNKNOWN = 0xFFFFFFFF


class Encoder(ABC):
    """Turns the sound of one speech into bytes."""

    @abstractmethod
    def add(self, audio: Tensor) -> bytes:
        """The next bytes, after samples ``[n]`` in -1 ... 1 were added. They may be none."""

    def finish(self) -> bytes:
        """The last bytes."""
        return b""


class Pcm(Encoder):
    """Samples of 16 bit, little-endian, without a header."""

    def add(self, audio: Tensor) -> bytes:
        """The samples as bytes."""
        samples = (audio.clamp(-1, 1).numpy() * 32767).round().astype("<i2")
        return samples.tobytes()


class Wav(Pcm):
    """Samples of 16 bit after a header, which leaves the length open.

    Args:
        rate: Sample rate, in Hz.
    """

    def __init__(self, rate: int) -> None:
        layout = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
        opened = b"RIFF" + struct.pack("<I", UNKNOWN) + b"WAVE"
        self._header = opened + b"fmt " + layout + b"data" + struct.pack("<I", UNKNOWN)

    def add(self, audio: Tensor) -> bytes:
        """The samples as bytes, after the header."""
        header, self._header = self._header, b""
        return header + super().add(audio)


class _Sink(io.RawIOBase):
    """Keeps what an encoder writes until it is taken. A header that is written again at the end stays as it was."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._end = self._place = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self._end)[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: object) -> int:
        return 0

    def write(self, data: object) -> int:
        taken = bytes(data)  # type: ignore[call-overload]
        if self._place == self._end:
            self._bytes += taken
            self._end += len(taken)
        self._place += len(taken)
        return len(taken)

    def take(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken


class Encoded(Encoder):
    """What an encoder of libsndfile makes.

    Args:
        rate: Sample rate, in Hz.
        container: Format of libsndfile.
        subtype: Its encoding; the default of the format if None.
    """

    def __init__(self, rate: int, container: str, subtype: str | None) -> None:
        self._sink = _Sink()
        self._file = soundfile.SoundFile(self._sink, "w", rate, 1, format=container, subtype=subtype)

    def add(self, audio: Tensor) -> bytes:
        """The bytes that are complete."""
        self._file.write(np.ascontiguousarray(audio.clamp(-1, 1).numpy()))
        return self._sink.take()

    def finish(self) -> bytes:
        """The rest."""
        self._file.close()
        return self._sink.take()


class Format(NamedTuple):
    """A format of sound.

    Args:
        media_type: Its name in HTTP.
        container: Format of libsndfile; None if it is made here.
        subtype: Encoding of libsndfile.
        rates: Sample rates that it can have, in Hz; None if any.
    """

    media_type: str
    container: str | None = None
    subtype: str | None = None
    rates: range | tuple[int, ...] | None = None


FORMATS = {
    "mp3": Format("audio/mpeg", "MP3", None, MP3_RATES),
    "opus": Format("audio/ogg", "OGG", "OPUS", OPUS_RATES),
    "flac": Format("audio/flac", "FLAC", None, FLAC_RATES),
    "wav": Format("audio/wav"),
    "pcm": Format("audio/pcm"),
}


def make_encoder(name: str, rate: int) -> Encoder:
    """An encoder for one speech.

    Args:
        name: Name in `FORMATS`.
        rate: Sample rate, in Hz.

    Raises:
        ValueError: If the format has no such sample rate.
    """
    kind = FORMATS[name]
    if kind.rates is not None and rate not in kind.rates:
        raise ValueError(f"{name} has no sample rate of {rate} Hz, which this model speaks: ask for wav or pcm")
    if kind.container is not None:
        return Encoded(rate, kind.container, kind.subtype)
    return Wav(rate) if name == "wav" else Pcm()
