"""What is computed from a sound once, for all metrics that read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")


class KeptBySound(Generic[T]):
    """A function of a sound whose results are kept as long as the tensor of the sound.

    Args:
        compute: The function of audio ``[N]`` and its sample rate in Hz. A sound must not change, and always have the
            same sample rate.
    """

    def __init__(self, compute: Callable[[Tensor, int], T]) -> None:
        self._compute = compute
        self._results = WeakIdKeyDictionary()

    def __call__(self, sound: Tensor, sample_rate: int) -> T:
        """The result of the function, computed with the first call."""
        if sound not in self._results:
            self._results[sound] = self._compute(sound, sample_rate)
        result: T = self._results[sound]
        return result

    def __len__(self) -> int:
        """Number of results that are kept."""
        return len(self._results)
