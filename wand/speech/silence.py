"""Cuts long runs of silent codes before a codec decodes them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class SilenceCutter:
    """Cuts runs of silent codes in one speech, which may come in parts.

    Args:
        silent: Codes of silence, of the first codebook.
        longest: Length of the longest run that is kept.

    Attributes:
        left_out: The frames that were cut, in order, counted from the first frame of the speech.
    """

    def __init__(self, silent: Sequence[int], longest: int) -> None:
        self._silent, self._longest = frozenset(silent), longest
        self._run = 0  # silent codes before the next part
        self._frames = 0  # frames before the next part
        self.left_out: list[int] = []

    def __call__(self, codes: Tensor) -> Tensor:
        """The next codes ``[K, n]`` without those frames ``[K, m]`` that exceed a run."""
        if not self._silent:
            return codes
        kept = []
        for i, code in enumerate(codes[0].tolist()):
            self._run = self._run + 1 if code in self._silent else 0
            if self._run <= self._longest:
                kept.append(i)
            else:
                self.left_out.append(self._frames + i)
        self._frames += codes.shape[1]
        return codes[:, kept]
