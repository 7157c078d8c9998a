"""Quality metrics: pure functions, and thin torchmetrics classes around them."""

from wand.metrics.long_speech import LongErrors, Steadiness
from wand.metrics.naturalness import Naturalness
from wand.metrics.recorded import CodecFidelity, RecordingDistances
from wand.metrics.similarity import SpeakerSimilarity
from wand.metrics.tokens import TokenMetrics
from wand.metrics.words import ErrorRates

__all__ = [
    "CodecFidelity",
    "ErrorRates",
    "LongErrors",
    "Naturalness",
    "RecordingDistances",
    "SpeakerSimilarity",
    "Steadiness",
    "TokenMetrics",
]
