"""Cuts long runs of silent codes before a codec decodes them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class SilenceCutter:
    """Cuts runs of silent codes in one speech, which may come in parts.

    Args:
        silent: Codes of silence, of the first codebook.
        longest: Length of the longest run that is kept.
    """

    def __init__(self, silent: Sequence[int], longest: int) -> None:
        self._silent, self._longest = frozenset(silent), longest
        self._run = 0  # silent codes before the next part

    def __call__(self, codes: Tensor) -> Tensor:
        """The next codes ``[K, n]`` without those frames ``[K, m]`` that exceed a run."""
        if not self._silent:
            return codes
        kept = []
        for i, code in enumerate(codes[0].tolist()):
            self._run = self._run + 1 if code in self._silent else 0
            if self._run <= self._longest:
                kept.append(i)
        return codes[:, kept]
