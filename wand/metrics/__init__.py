"""Quality metrics: pure functions, and thin torchmetrics classes around them."""

from wand.metrics.long_speech import LongErrors, Steadiness
from wand.metrics.tokens import TokenMetrics
from wand.metrics.words import ErrorRates

__all__ = ["ErrorRates", "LongErrors", "Steadiness", "TokenMetrics"]
