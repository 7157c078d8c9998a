"""Whether the speech has the voice that was cloned."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from wand.evaluation.metric import SpokenSentence, TestMetric
from wand.metrics.similarity import similarity
from wand.metrics.x_vectors import XVectors


class Similarity(TestMetric):
    """Cosine similarity of the x-vectors of a take and of the cloned voice; of the recording, if that is not known.

    Args:
        model: Folder of a speaker model that transformers opens, or its name if it has been downloaded from a hub
            (``microsoft/wavlm-base-plus-sv``).
        device: Device of the speaker model.

    Raises:
        ValueError: If the model cannot be opened.
    """

    name = "similarity"
    title = "similarity"
    legend = "cosine of the speaker model's vectors of the speech and the cloned voice, from -1 to 1"
    digits = 3

    def __init__(self, model: str, device: str = "cpu") -> None:
        self._embed = XVectors(model, device)

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """One value per take; none with less than a second of active speech."""
        return [similarity(one.audio, self._voice(one), one.sample_rate, self._embed) for one in spoken]

    @staticmethod
    def _voice(one: SpokenSentence) -> Tensor:
        return one.recorded if one.reference is None else one.reference
