"""Long sounds for recognisers that hear only half a minute, such as Whisper."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from torch import Tensor
from torch.nn import functional

from wand.recognition.activity import FRAMES, levels, runs, speech_frames
from wand.recognition.base import Recogniser

LONGEST = 25.0  # seconds
# Pieces that a recogniser gets at once: they bound the memory for its copies.
GROUP = 32
# Without a pause, a cut is in the middle of the quietest stretch of this length, in frames.
QUIET = 5


def cut_at_pauses(sound: Tensor, sample_rate: int, longest: float = LONGEST) -> list[Tensor]:
    """Cut a sound in its pauses.

    Each cut but the last lies in the second half of what a piece may hold: in the middle of the longest pause there,
    or, without a pause, at the quietest place. Time and memory are linear.

    Args:
        sound: Audio ``[N]``.
        sample_rate: Its sample rate, in Hz.
        longest: Length of the longest piece, in seconds.

    Returns:
        Views of the sound, in order, which together are the whole sound; the sound itself if it is short enough.

    Raises:
        ValueError: If `longest` is below one second.
    """
    if longest < 1:
        raise ValueError(f"pieces of {longest:g} s are too short: give a longest piece of at least one second")
    level = levels(sound, sample_rate)
    quiet, size = ~speech_frames(level), int(longest * FRAMES)
    edges = [0]
    while len(level) - edges[-1] > size:
        first, last = edges[-1] + size // 2, edges[-1] + size
        edges.append(first + _best_cut(quiet[first:last], level[first:last]))
    cuts = [edge * sample_rate // FRAMES for edge in edges[1:]]
    return list(sound.tensor_split(cuts))


def _best_cut(quiet: Tensor, level: Tensor) -> int:
    """The middle of the longest pause among frames ``[F]``, or the quietest of them."""
    found = runs(quiet)
    if not found.values.any():
        return int(functional.avg_pool1d(level[None], QUIET, 1)[0].argmin()) + QUIET // 2
    best = int((found.lengths * found.values).argmax())
    return int(found.starts[best] + found.lengths[best] // 2)


class Piecewise:
    """A `Recogniser` for long sounds: another recogniser hears pieces that are cut in pauses, and the texts are joined.

    Args:
        recogniser: Hears the pieces.
        longest: Length of the longest piece, in seconds.
    """

    def __init__(self, recogniser: Recogniser, longest: float = LONGEST) -> None:
        self.recogniser = recogniser
        self.longest = longest
        self.name = recogniser.name
        self.language = recogniser.language

    def transcribe(self, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
        """Transcribe sounds ``[N]`` of any length, one text per sound."""
        cut = [cut_at_pauses(sound, sample_rate, self.longest) for sound in sounds]
        pieces = [piece for own in cut for piece in own]
        heard: list[str] = []
        for first in range(0, len(pieces), GROUP):
            heard += self.recogniser.transcribe(pieces[first : first + GROUP], sample_rate)
        texts = iter(heard)
        return [" ".join(text.strip() for text in islice(texts, len(own)) if text.strip()) for own in cut]
