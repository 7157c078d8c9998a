"""Round trips of speech through codecs: the embedded one, Opus, Vorbis, MP3 and mu-law."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from wand.codecs import EncodecCodec
from wand.recognition.network import SAMPLE_RATE

# Share of each codec in the training speech that has made a round trip.
SHARES = {"codec": 0.5, "opus": 0.15, "mu-law": 0.15, "vorbis": 0.1, "mp3": 0.1}
# One, or the two last, codebooks are left out in half of the trips through the codec, and codes are replaced in half.
FAULTS = 0.06
TELEPHONE_RATE = 8000
# Level of the noise above the speech that nobody can understand.
BURIED_DB = 10.0
# Settings of libsndfile's `compression_level`: at 16 kHz, Opus has 8 to 32 kbit/s, Vorbis 29 to 35, MP3 about 35.
LEVELS = {"opus": (0.9, 1.0), "vorbis": (0.9, 1.0), "mp3": (0.9, 0.99)}
FORMATS = {"opus": ("OGG", "OPUS"), "vorbis": ("OGG", "VORBIS"), "mp3": ("MP3", "MPEG_LAYER_III")}


def round_trip(audio: Tensor, name: str, rng: random.Random, codec: EncodecCodec) -> Tensor:
    """Speech after a round trip, with the length of the original.

    Args:
        audio: Float32 ``[N]`` at 16 kHz.
        name: ``mixed`` (any of the others, with faults), ``codec`` (all codebooks, no faults), ``opus``, ``vorbis``,
            ``mp3``, ``mu-law``, or ``buried``: no codec, but speech under a louder noise, which nobody understands.
        rng: Draws the codec, the bit rate and the faults.
        codec: The neural codec.
    """
    if name == "mixed":
        (name,) = rng.choices(list(SHARES), list(SHARES.values()))
        if name == "codec":
            return faulty_codec(audio, rng, codec)
    if name == "codec":
        return coded(audio, codec, lambda codes: codes)
    if name == "buried":
        return buried(audio, rng)
    if name == "mu-law":
        return mu_law(audio)
    return compressed(audio, *FORMATS[name], level=rng.uniform(*LEVELS[name]))


def coded(audio: Tensor, codec: EncodecCodec, change: Callable[[Tensor], Tensor]) -> Tensor:
    """A round trip through the neural codec; `change` is applied to the codes ``[1, K, F]``."""
    codes = change(codec.encode(audio[None, None], SAMPLE_RATE))
    return codec.decode(codes)[0, 0, : len(audio)].clamp(-1, 1)


def faulty_codec(audio: Tensor, rng: random.Random, codec: EncodecCodec) -> Tensor:
    """A round trip with up to two codebooks fewer, and with some codes replaced by others."""
    books = codec.num_codebooks - rng.choice((0, 0, 1, 2))
    share = rng.choice((0.0, rng.uniform(0, FAULTS)))
    generator = torch.Generator().manual_seed(rng.randrange(2**31))

    def change(codes: Tensor) -> Tensor:
        codes = codes[:, : max(1, books)]
        others = torch.randint(codec.codebook_size, codes.shape, generator=generator)
        return torch.where(torch.rand(codes.shape, generator=generator) < share, others, codes)

    return coded(audio, codec, change)


def buried(audio: Tensor, rng: random.Random) -> Tensor:
    """Speech under white noise that is louder. A recogniser that still hears its words has guessed them."""
    noise = torch.randn(len(audio), generator=torch.Generator().manual_seed(rng.randrange(2**31)))
    sound = audio + noise * audio.std() * 10 ** (BURIED_DB / 20)
    return sound / sound.abs().max().clamp(min=1)


def mu_law(audio: Tensor) -> Tensor:
    """8 bits per sample at 8 kHz, as in a telephone network."""
    narrow = soxr.resample(audio.numpy(), SAMPLE_RATE, TELEPHONE_RATE).clip(-1, 1)
    compact = np.round(np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256) * 127) / 127
    narrow = np.sign(compact) * (256 ** np.abs(compact) - 1) / 255
    return _cut(soxr.resample(narrow.astype(np.float32), TELEPHONE_RATE, SAMPLE_RATE), len(audio))


def compressed(audio: Tensor, container: str, subtype: str, level: float) -> Tensor:
    """A round trip through a lossy format of libsndfile."""
    file = io.BytesIO()
    options = {"format": container, "subtype": subtype, "compression_level": level}
    soundfile.write(file, audio.clamp(-1, 1).numpy(), SAMPLE_RATE, **options)
    file.seek(0)
    return _cut(soundfile.read(file, dtype="float32")[0], len(audio))


def _cut(samples: np.ndarray, length: int) -> Tensor:
    """Exactly `length` samples; the codec may have lost or added a few at the end."""
    found = torch.from_numpy(samples[:length]).float().clamp(-1, 1)
    return torch.nn.functional.pad(found, (0, length - len(found)))
