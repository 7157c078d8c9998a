"""How far speech is from the recording of the same sentence, frame by frame after time warping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

import torch
from torch import Tensor
from torchmetrics import Metric

from wand.metrics.prosody import Prosody, prosody
from wand.metrics.recorded.cepstra import distortions, mel_cepstra
from wand.metrics.recorded.warping import warping_path
from wand.recognition.activity import active_frames, levels


@dataclass(frozen=True, slots=True)
class Distances:
    """Sums over the pairs of frames on the warping path of two sounds.

    Args:
        pairs: Number of pairs.
        distortion: Sum of their mel-cepstral distortions, in dB.
        voiced: Number of pairs in which both frames have voice.
        squares: Sum of the squared differences of pitch in these pairs, in semitones.
        unlike: Number of pairs in which one frame has voice and the other has none.
    """

    pairs: int = 0
    distortion: float = 0.0
    voiced: int = 0
    squares: float = 0.0
    unlike: int = 0

    @property
    def mcd(self) -> float:
        """Mel-cepstral distortion: mean over the path, in dB; NaN without a path."""
        return self.distortion / self.pairs if self.pairs else math.nan

    @property
    def f0(self) -> float:
        """Error of pitch: root mean square difference where both have voice, in semitones; NaN if there is none."""
        return math.sqrt(self.squares / self.voiced) if self.voiced else math.nan

    @property
    def voicing(self) -> float:
        """Error of voicing: share of the path where only one of both has voice; NaN without a path."""
        return self.unlike / self.pairs if self.pairs else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class SoundFrames:
    """What is compared of a sound: its frames of 10 ms from the first to the last one of active speech.

    Silence around the speech does not count, and pauses inside it do.

    Args:
        prosody: Pitch, level and activity of all frames of the sound.
        pitch: Fundamental frequencies ``[A]``; A is 0 without active speech.
        cepstra: Mel cepstra ``[A, 24]`` (see `mel_cepstra`).
    """

    prosody: Prosody
    pitch: Tensor
    cepstra: Tensor

    @classmethod
    def of(cls, sound: Tensor, sample_rate: int) -> Self:
        """Measure audio ``[N]``. Time and memory are linear."""
        measured = prosody(sound, sample_rate)
        span = active_span(measured)
        return cls(measured, measured.pitch[span], mel_cepstra(sound, sample_rate)[span])


def distances(sound: Tensor, recorded: Tensor, sample_rate: int) -> Distances:
    """`frame_distances` of audio ``[N]`` and of the recording ``[M]`` of the same sentence."""
    return frame_distances(SoundFrames.of(sound, sample_rate), SoundFrames.of(recorded, sample_rate))


def frame_distances(sound: SoundFrames, recorded: SoundFrames) -> Distances:
    """Warp speech onto the recording of the same sentence, and compare the frames.

    The path is the one whose sum of mel-cepstral distortions is smallest (see `warping_path`). Time and memory grow
    with the product of both lengths: 30 MB for ten seconds.

    Args:
        sound: The speech.
        recorded: The recording.

    Returns:
        The sums; all 0 if one of both has no active speech.
    """
    if not len(sound.pitch) or not len(recorded.pitch):
        return Distances()
    costs = distortions(sound.cepstra, recorded.cepstra)
    first, second = warping_path(costs).T
    own, wanted = sound.pitch[first], recorded.pitch[second]
    both = ~own.isnan() & ~wanted.isnan()
    intervals = 12 * (own[both].double() / wanted[both].double()).log2()
    return Distances(
        pairs=len(first),
        distortion=float(costs[first, second].sum()),
        voiced=int(both.sum()),
        squares=float(intervals.square().sum()),
        unlike=int((own.isnan() != wanted.isnan()).sum()),
    )


def active_span(measured: Prosody) -> slice:
    """The frames from the first to the last one of active speech; none without active speech."""
    places = measured.active.nonzero()
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0)


def silence_share(active: Tensor) -> float:
    """Share of frames without active speech: pauses and silence around the speech; NaN without frames.

    Args:
        active: Whether each frame is active speech, bool ``[F]`` (`wand.recognition.activity.active_frames`).
    """
    return 1 - float(active.float().mean())


class RecordingDistances(Metric):
    """How far speech is from recordings of the same sentences: figures over all frames of all sentences."""

    is_differentiable = False
    full_state_update = False
    pairs: Tensor
    distortion: Tensor
    voiced: Tensor
    squares: Tensor
    unlike: Tensor
    samples: Tensor
    recorded_samples: Tensor
    silent: Tensor
    frames: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in (*asdict(Distances()), "samples", "recorded_samples", "silent", "frames"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, sounds: Sequence[Tensor], recorded: Sequence[Tensor], sample_rate: int) -> None:
        """Add audio ``[N]`` and the recording ``[M]`` of each."""
        for sound, wanted in zip(sounds, recorded, strict=True):
            active = active_frames(levels(sound, sample_rate))
            sums = asdict(distances(sound, wanted, sample_rate))
            sums |= {"samples": len(sound), "recorded_samples": len(wanted)}
            sums |= {"silent": int((~active).sum()), "frames": len(active)}
            for name, value in sums.items():
                setattr(self, name, getattr(self, name) + value)

    def compute(self) -> dict[str, Tensor]:
        """Figures; NaN where there is nothing to measure.

        ``mcd`` (dB), ``f0`` (semitones) and ``voicing`` (a share), as in `Distances`; ``duration``, the duration
        divided by that of the recordings; ``silence``, the share of frames without active speech.
        """
        return {
            "mcd": self.distortion / self.pairs,
            "f0": (self.squares / self.voiced).sqrt(),
            "voicing": self.unlike / self.pairs,
            "duration": self.samples / self.recorded_samples,
            "silence": self.silent / self.frames,
        }
