"""Quality as torchmetrics: pure functions in the core, thin classes around them."""

from wand.metrics.tokens import TokenMetrics
from wand.metrics.words import ErrorRates

__all__ = ["ErrorRates", "TokenMetrics"]
