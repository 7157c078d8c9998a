"""Read and write sound files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from wand.files.sound import (
    Samples,
    Unusable,
    check_audible,
    check_clipping,
    check_mixing,
    check_samples,
    check_values,
)
from wand.files.writing import check_writable, replacing, write_bytes

# Formats that users are told of; soundfile writes more.
WRITTEN = (".wav", ".flac", ".ogg", ".mp3", ".aiff")
# A recording with a lower peak counts as silent (about -60 dB of full scale).
SILENT_PEAK = 1e-3
# Sample rates of recordings, in Hz. Telephones use 8,000; recorders go up to 768,000.
LOWEST_RATE, HIGHEST_RATE = 4_000, 768_000
# Longest recording to read, in seconds. A header may claim more than fits into memory.
LONGEST = 3600.0
# A file was cut off if it holds less sound than its header claims. The lengths of compressed files are estimates.
MISSING_SHARE, MISSING_SECONDS = 0.05, 0.1
# Programs that write to a pipe do not know the length yet and claim a number of bytes near 2 or 4 GiB.
UNKNOWN_BYTES = 0x7FFF0000
# Samples of all channels that are read at once.
BLOCK = 1 << 20


class Header(NamedTuple):
    """What the header of a sound file claims.

    Args:
        rate: Sample rate, in Hz.
        frames: Samples of each channel; None if the header does not say.
    """

    rate: int
    frames: int | None

    @property
    def seconds(self) -> float | None:
        """Duration in seconds."""
        return None if self.frames is None else self.frames / self.rate


def read_audio(path: str | Path, sample_rate: int) -> Tensor:
    """Read a sound file as mono float32 ``[N]`` at `sample_rate`. Channels are averaged.

    The header is checked before any sample is read. Memory grows with the sound that is there, not with the length
    that the header claims.

    Raises:
        ValueError: If there is no such file, it is not audio, it is empty, cut off or longer than an hour, its samples
            are not finite or not scaled to -1 ... 1, or its channels cancel each other.
    """
    samples, rate = _read(path)
    return resample(torch.from_numpy(samples), rate, sample_rate)


def read_speech(path: str | Path, sample_rate: int, seconds: float = 0.0) -> Tensor:
    """Read a recording of speech as mono float32 ``[N]`` at `sample_rate`.

    Args:
        path: The file.
        sample_rate: Sample rate of the result, in Hz.
        seconds: Shortest recording that is accepted.

    Raises:
        ValueError: As in `read_audio`, and if the recording is shorter than `seconds`, silent or clipped.
    """
    samples, rate = _read(path)
    if len(samples) < seconds * rate:
        raise Unusable("too short", f"{path} lasts {len(samples) / rate:.2f} s: at least {seconds:g} s are needed")
    audio = torch.from_numpy(samples)
    check_audible(audio, rate, str(path))
    check_values(samples, str(path))
    check_clipping(samples, str(path))
    return resample(audio, rate, sample_rate)


def read_reference(path: str | Path, sample_rate: int, seconds: float = 0.5) -> Tensor:
    """Read a sound file of a voice to clone, as mono float32 ``[N]``.

    Raises:
        ValueError: As in `read_speech`.
    """
    try:
        return read_speech(path, sample_rate, seconds)
    except Unusable as error:
        raise ValueError(f"{error} (the voice to clone must be a recording of speech)") from error


def read_header(path: str | Path) -> Header:
    """Read the header of a sound file.

    Raises:
        ValueError: If there is no such file, it is not audio, or its sample rate is not one of sound.
    """
    with _opened(path) as file:
        return _header(file, path)


def check_duration(path: str | Path, seconds: float) -> None:
    """Check that a sound file is no longer than a number of seconds.

    Its samples are counted, because a header may lie. Reading ends soon after that time, and no sample is kept.

    Raises:
        ValueError: If it is longer, or cannot be read.
    """
    with _opened(path) as file:
        rate, size, read = _header(file, path).rate, max(1, BLOCK // file.channels), 0
        while count := len(_next_block(file, path, size)):
            read += count
            if read > seconds * rate:
                raise Unusable("too long", f"{path} lasts more than {seconds:g} s, the most that is taken: cut it")


def _opened(path: str | Path) -> soundfile.SoundFile:
    if not Path(path).is_file():
        raise ValueError(f"no sound file at {path}")
    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a headerless format, chosen by the suffix
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> ValueError:
    reason = getattr(error, "error_string", None) or str(error)
    return ValueError(f"{path} is not a sound file that can be read: {reason}")


def _header(file: soundfile.SoundFile, path: str | Path) -> Header:
    rate, frames = file.samplerate, file.frames
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise Unusable(
            "sample rate", f"{path} has a sample rate of {rate} Hz: give one of {LOWEST_RATE} to {HIGHEST_RATE} Hz"
        )
    # libsndfile trusts the end of the file more than the header, and reports both.
    found = re.search(r"^ *(?:data|SSND) *: *(\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if found is not None and (there := int(found[2])) > 0:
        claimed = int(found[1])
        return Header(rate, None if claimed >= UNKNOWN_BYTES else round(frames * claimed / there))
    return Header(rate, frames if frames < 1 << 62 else None)


def _read(path: str | Path) -> tuple[Samples, int]:
    """The mean of all channels ``[N]``, and the sample rate of the file."""
    with _opened(path) as file:
        header = _header(file, path)
        if header.seconds is not None and header.seconds > LONGEST:
            raise Unusable(
                "too long", f"{path} lasts {header.seconds:.0f} s by its header: cut it into parts of {LONGEST:.0f} s"
            )
        samples = _mixed(file, path, header)
    if len(samples) == 0:
        raise Unusable("empty", f"{path} is empty: it has no samples")
    read, claimed = len(samples) / header.rate, header.seconds
    if claimed is not None and claimed - read > max(MISSING_SECONDS, MISSING_SHARE * claimed):
        raise Unusable("cut off", f"{path} was cut off: its header claims {claimed:.2f} s, it holds {read:.2f} s")
    return samples, header.rate


def _mixed(file: soundfile.SoundFile, path: str | Path, header: Header) -> Samples:
    count, size = file.channels, max(1, BLOCK // file.channels)
    blocks: list[Samples] = []
    total, sums, energy, mixed_energy = 0, np.zeros(count), 0.0, 0.0
    while len(block := _next_block(file, path, size)):
        check_samples(block, str(path))
        mixed = block.mean(axis=1)
        blocks.append(mixed)
        if count > 1:
            sums += block.sum(axis=0, dtype=np.float64)
            energy += float(np.square(block, dtype=np.float64).sum())
            mixed_energy += float(np.square(mixed, dtype=np.float64).sum())
        total += len(block)
        if total > LONGEST * header.rate:
            raise Unusable("too long", f"{path} lasts more than {LONGEST:.0f} s: cut it into parts")
    if count > 1 and total:
        mean = sums / total
        check_mixing(
            energy - total * float(np.square(mean).sum()), mixed_energy - total * mean.mean() ** 2, count, str(path)
        )
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _next_block(file: soundfile.SoundFile, path: str | Path, size: int) -> Samples:
    try:
        block: Samples = file.read(size, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise _unreadable(path, error) from error
    return block


def resample(audio: Tensor, rate: int, new_rate: int) -> Tensor:
    """Resample audio ``[N]``."""
    if rate == new_rate:
        return audio
    return torch.from_numpy(np.ascontiguousarray(soxr.resample(audio.numpy(), rate, new_rate)))


def check_sound_file(path: str | Path, sample_rate: int = 24_000) -> None:
    """Check that sound can be written to a file: its suffix is a format, and its folder can be written.

    Raises:
        ValueError: If it cannot.
    """
    path = Path(path)
    try:
        soundfile.write(io.BytesIO(), np.zeros(1, np.float32), sample_rate, format=path.suffix.removeprefix("."))
    except (soundfile.LibsndfileError, ValueError, TypeError) as error:
        formats = ", ".join(WRITTEN)
        raise ValueError(
            f"{path}: no sound is written as {path.suffix or 'a file without a suffix'!r}: {formats} are"
        ) from error
    check_writable(path)


@contextmanager
def sound_writer(path: str | Path, sample_rate: int) -> Iterator[Callable[[Tensor], None]]:
    """Give a function that writes the next samples ``[n]`` of a mono sound. The file is in its place at the end.

    Raises:
        ValueError: If the samples cannot be written, for example to a full disk. Those before can be kept.
    """
    kind = Path(path).suffix.removeprefix(".")
    with replacing(path) as partial:
        file = soundfile.SoundFile(partial, "w", sample_rate, 1, format=kind)

        def write(audio: Tensor) -> None:
            with _writing(path):
                file.write(audio.clamp(-1, 1).cpu().numpy())

        try:
            yield write
        finally:
            with _writing(path):
                file.close()


@contextmanager
def _writing(path: str | Path) -> Iterator[None]:
    try:
        yield
    except soundfile.LibsndfileError as error:  # it does not tell a full disk from another error of the system
        raise ValueError(
            f"{path} cannot be written ({error.error_string.rstrip('.')}): free some space or choose another folder"
        ) from error


def write_audio(path: str | Path, audio: Tensor, sample_rate: int) -> None:
    """Write mono float audio ``[N]``. The suffix chooses the format (.wav: 16 bit). Creates the folder."""
    content = io.BytesIO()
    soundfile.write(content, audio.clamp(-1, 1).cpu().numpy(), sample_rate, format=Path(path).suffix.removeprefix("."))
    write_bytes(path, content.getvalue())
