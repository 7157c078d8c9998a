"""Metrics of spoken sentences, by name."""

KNOWN: dict[str, str] = {
    "mcd": "wand.evaluation.metrics.recorded.Mcd",
    "f0": "wand.evaluation.metrics.recorded.F0",
    "voicing": "wand.evaluation.metrics.recorded.Voicing",
    "duration": "wand.evaluation.metrics.timing.Duration",
    "silence": "wand.evaluation.metrics.timing.Silence",
    "similarity": "wand.evaluation.metrics.similarity.Similarity",
    "dnsmos": "wand.evaluation.metrics.naturalness.DnsmosOverall",
}
"""Class paths of `wand.evaluation.metric.TestMetric`."""
