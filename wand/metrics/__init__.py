"""Quality as torchmetrics: pure functions in the core, thin classes around them."""

from wand.metrics.tokens import TokenMetrics

__all__ = ["TokenMetrics"]
