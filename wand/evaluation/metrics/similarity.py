"""Whether the speech has the voice of the recording."""

from __future__ import annotations

from collections.abc import Sequence

from wand.evaluation.metric import SpokenSentence, TestMetric
from wand.metrics.similarity import similarity
from wand.metrics.x_vectors import XVectors


class Similarity(TestMetric):
    """Cosine similarity of the x-vectors of a take and of the recording.

    Args:
        model: Folder of a speaker model that transformers opens, or its name if it has been downloaded from a hub
            (``microsoft/wavlm-base-plus-sv``).
        device: Device of the speaker model.

    Raises:
        ValueError: If the model cannot be opened.
    """

    name = "similarity"
    title = "similarity"
    legend = "similarity: cosine of the speaker model's vectors of speech and recording, from -1 to 1"
    digits = 3

    def __init__(self, model: str, device: str = "cpu") -> None:
        self._embed = XVectors(model, device)

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """One value per take; none with less than a second of active speech."""
        return [similarity(one.audio, one.recorded, one.sample_rate, self._embed) for one in spoken]
