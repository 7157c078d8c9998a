"""Sound files: what wand reads against soundfile, and headers that were made by hand or damaged."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from tests.fuzz.harness import Case, Group
from wand.files.audio import read_audio, read_reference

RATES = (8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000)
NOT_SOUND = [
    b"",
    b"RIFF",
    b"RIFF\x24\x00\x00\x00WAVE",
    b"not a sound",
    b"\x00" * 5000,
    b"fLaC",
    b"OggS" + b"\x00" * 100,
    b"ID3" + b"\xff" * 64,
    b"%PDF-1.4 ...",
    b"PK\x03\x04",
    b"version https://git-lfs.github.com/spec/v1\n",
    "é".encode(),
]


class SoundGroup(Group):
    """Files of every format, rate and number of channels."""

    name = "sounds"

    def valid(self, random: random.Random) -> Case:
        rate = random.choice(RATES)
        samples = speechlike(random, random.choice([7, 100, rate // 2, rate]), rate, random.choice([1, 1, 2, 6]))
        if random.random() < 0.4:
            width = random.choice([8, 16, 24, 32])
            odd = random.choice(["", "list", "padding", "unknown", "endless"])
            Path("a.wav").write_bytes(wav(samples, rate, width, odd))
            what, path = f"{width}-bit WAV by hand, {odd or 'plain'}", Path("a.wav")
        else:
            kind, subtype = random.choice(FORMATS)
            if (kind == "OGG" and "OPUS" in subtype) or kind == "MP3":
                rate = random.choice([16_000, 24_000, 48_000])
                samples = samples[:, :2]
            path = Path(random.choice(["a b", "ü", "sound"]) + random.choice([".wav", f".{kind.lower()}", ".bin"]))
            soundfile.write(path, samples, rate, format=kind, subtype=subtype)
            what = f"{kind} {subtype}, {samples.shape} at {rate} Hz, {path}"
        wanted = random.choice([rate, rate, 16_000, 24_000])

        def check(found: Any) -> None:
            heard, own = soundfile.read(path, always_2d=True)
            assert own == rate
            mono = heard.mean(1).astype(np.float32)
            right = mono if wanted == rate else soxr.resample(mono, rate, wanted)
            assert found.dtype.is_floating_point
            assert len(found) == len(right), f"{len(found)} samples, not {len(right)}"
            assert np.allclose(found.numpy(), right, atol=1e-5)

        return Case(f"{what}, read at {wanted} Hz", lambda: read_audio(path, wanted), check)

    def invalid(self, random: random.Random) -> Case:
        path = Path("bad" + random.choice([".wav", ".flac", ".mp3", ".ogg", ".raw", ".txt", ""]))
        kind = random.choice(["bytes", "bytes", "silent", "short", "nan", "missing", "folder", "damaged", "empty"])
        read, words = read_audio, (str(path),)
        if kind == "bytes":
            path.write_bytes(random.choice(NOT_SOUND))
        elif kind in ("silent", "short", "nan", "empty"):
            path, words = Path("bad.wav"), ("bad.wav",)
            samples = speechlike(random, 24_000, 24_000, 1)
            if kind == "silent":
                samples = samples * 1e-5 * random.random()
                read, words = read_reference, ("silent",)
            elif kind == "short":
                samples = samples[: random.randint(200, 11_000)]
                read, words = read_reference, ("are needed",)
            elif kind == "nan":
                samples[random.randrange(len(samples))] = random.choice([np.nan, np.inf, -np.inf])
            else:
                samples = samples[:0]
            soundfile.write(path, samples, 24_000, subtype="FLOAT" if kind == "nan" else None)
        elif kind == "folder":
            path.mkdir()
        elif kind == "damaged":
            return self._damaged(random)
        return Case(f"{kind}: {path}", lambda: read(path, 24_000), names=words)

    def _damaged(self, random: random.Random) -> Case:
        """A file with wrong bytes. Whether it is a sound at all, soundfile says."""
        path = Path("damaged.wav")
        while True:
            content = bytearray(wav(speechlike(random, 400, 24_000, 1), 24_000, 16, random.choice(["", "list"])))
            for _ in range(random.randint(1, 4)):
                content[random.randrange(44)] = random.randrange(256)
            path.write_bytes(content[: random.choice([len(content), random.randrange(60)])])
            try:
                samples, _ = soundfile.read(path, always_2d=True)
                if len(samples) == 0 or not np.isfinite(samples).all():
                    break
            except (soundfile.LibsndfileError, TypeError, ValueError, MemoryError):
                break
        return Case(f"damaged header {bytes(content[:44]).hex()}", lambda: read_audio(path, 24_000), names=(str(path),))


def speechlike(random: random.Random, samples: int, rate: int, channels: int) -> np.ndarray:
    """A voice-like sound ``[N, channels]``: harmonics that rise and fall, in parts with pauses."""
    time = np.arange(samples) / rate
    pitch = random.uniform(90, 250)
    voice = sum(np.sin(2 * np.pi * pitch * k * time + k) / k for k in range(1, 8))
    loud = 0.2 + 0.8 * np.abs(np.sin(2 * np.pi * random.uniform(2, 5) * time))
    noise = np.random.default_rng(random.randrange(2**32)).normal(0, 0.01, samples)
    mono = 0.15 * voice * loud + noise
    return np.stack([mono * (1 - 0.1 * channel) for channel in range(channels)], axis=1)


def wav(samples: np.ndarray, rate: int, width: int, odd: str) -> bytes:
    """A WAV file, byte by byte."""
    channels, size = samples.shape[1], width // 8
    whole = np.round(samples.clip(-1, 1) * (2 ** (width - 1) - 1)).astype(np.int64)
    if width == 8:
        whole += 128
    data = b"".join(int(one).to_bytes(size, "little", signed=width > 8) for one in whole.reshape(-1).tolist())
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * size, channels * size, width)
    chunks = [(b"fmt ", form), (b"data", data)]
    if odd in ("list", "padding", "unknown"):
        name, content = {"list": (b"LIST", b"INFOISFT\x04\x00\x00\x00abc\x00"), "padding": (b"JUNK", b"\x00" * 27)}.get(
            odd, (b"zzzz", b"whatever")
        )
        chunks.insert(random.Random(len(data)).choice([1, 2]), (name, content))
    body = b"WAVE"
    for name, part in chunks:
        size = 0xFFFFFFFF if odd == "endless" and name == b"data" else len(part)
        body += name + struct.pack("<I", size) + part + b"\x00" * (len(part) % 2)
    return b"RIFF" + struct.pack("<I", 0xFFFFFFFF if odd == "endless" else len(body)) + body


FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "ULAW"),
    ("WAV", "ALAW"),
    ("WAVEX", "PCM_16"),
    ("RF64", "PCM_24"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("AIFF", "PCM_16"),
    ("AU", "FLOAT"),
    ("CAF", "PCM_24"),
    ("W64", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
