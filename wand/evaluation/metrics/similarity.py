"""Whether the speech has the voice that was cloned."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from torch import Tensor

from wand.evaluation.metric import SpokenSentence, TestMetric
from wand.metrics.similarity import cosine, voice_vector
from wand.metrics.x_vectors import XVectors

# Number of voices whose vectors are kept in memory, a few kilobytes each. The oldest one is forgotten first.
KEPT = 1024


class Similarity(TestMetric):
    """Cosine similarity of the x-vectors of a take and of the cloned voice; of the recording, if that is not known.

    The vector of a voice is computed once.

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
        self._voices: dict[tuple[bytes, int], Tensor | None] = {}

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """One value per take; none with less than a second of active speech."""
        return [cosine(voice_vector(one.audio, one.sample_rate, self._embed), self._voice(one)) for one in spoken]

    def _voice(self, one: SpokenSentence) -> Tensor | None:
        """The vector of the voice that a take should have."""
        sound = one.recorded if one.reference is None else one.reference
        # Known by its samples: the sentences of a list read the same file again.
        key = hashlib.sha256(sound.numpy().tobytes()).digest(), one.sample_rate
        if key not in self._voices:
            if len(self._voices) >= KEPT:
                del self._voices[next(iter(self._voices))]
            self._voices[key] = voice_vector(sound, one.sample_rate, self._embed)
        return self._voices[key]
