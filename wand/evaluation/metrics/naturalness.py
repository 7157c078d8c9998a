"""How natural listeners would find the speech, as a network predicts it."""

from __future__ import annotations

from collections.abc import Sequence

from wand.evaluation.metric import SpokenSentence, TestMetric
from wand.metrics.naturalness import check_installed, dnsmos


class DnsmosOverall(TestMetric):
    """Overall quality as DNSMOS predicts it (see `wand.metrics.naturalness`).

    Raises:
        ValueError: If a package is missing.
    """

    name = "dnsmos"
    title = "DNSMOS"
    legend = "overall rating (P.835) that DNSMOS predicts, from 1 to 5"

    def __init__(self) -> None:
        check_installed()

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """One value per take."""
        return [dnsmos(one.audio, one.sample_rate).overall for one in spoken]
