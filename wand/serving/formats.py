"""Sound as bytes, in the formats of OpenAI's interface, while it is spoken."""

from __future__ import annotations

import io
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

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
    """Keeps what an encoder writes until it is taken. What was taken stays as it was, also when it is written again."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._taken = self._place = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self._taken + len(self._bytes))[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: object) -> int:
        return 0

    def write(self, data: object) -> int:
        written = bytes(data)  # type: ignore[call-overload]
        begin = self._place - self._taken
        self._place += len(written)
        if begin >= 0:
            self._bytes[begin : begin + len(written)] = written
        return len(written)

    def take(self) -> bytes:
        taken = bytes(self._bytes)
        self._taken += len(taken)
        self._bytes.clear()
        return taken


class Encoded(Encoder):
    """What an encoder of libsndfile makes.

    Args:
        kind: The format.
        rate: Sample rate, in Hz.
    """

    def __init__(self, kind: Format, rate: int) -> None:
        self._sink, self._streams = _Sink(), kind.streams
        self._file = soundfile.SoundFile(self._sink, "w", rate, 1, format=kind.container, **kind.options)

    def add(self, audio: Tensor) -> bytes:
        """The bytes that are complete."""
        self._file.write(np.ascontiguousarray(audio.clamp(-1, 1).numpy()))
        return self._sink.take() if self._streams else b""

    def finish(self) -> bytes:
        """The rest."""
        self._file.close()
        return self._sink.take()


class Format(NamedTuple):
    """A format of sound.

    Args:
        media_type: Its name in HTTP.
        container: Format of libsndfile; None if it is made here.
        options: Options of its encoder.
        rates: Sample rates that it can have, in Hz; None if any.
        streams: Whether its bytes can be sent before the speech has ended.
    """

    media_type: str
    container: str | None = None
    options: Mapping[str, Any] = {}
    rates: range | tuple[int, ...] | None = None
    streams: bool = True


FORMATS = {
    # With a constant rate, players know the length of a file whose header they got before its end.
    "mp3": Format("audio/mpeg", "MP3", {"bitrate_mode": "CONSTANT", "compression_level": 0.3}, MP3_RATES),
    "opus": Format("audio/ogg", "OGG", {"subtype": "OPUS"}, OPUS_RATES),
    # libsndfile reads no FLAC file whose header has no length.
    "flac": Format("audio/flac", "FLAC", {}, FLAC_RATES, streams=False),
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
        return Encoded(kind, rate)
    return Wav(rate) if name == "wav" else Pcm()
