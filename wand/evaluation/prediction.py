"""The test of how well systems predict recorded speech (teacher forcing)."""

from __future__ import annotations

from collections.abc import Mapping

from wand.attention import AttentionWindow
from wand.evaluation.systems import ComparedSystem, Weights
from wand.metrics.tokens import TokenMetrics
from wand.model.batch import ConditionedBatch


class PredictionTest:
    """Token metrics of every system over batches of recorded speech.

    Several processes may each give different batches; `means` covers the batches of all processes.

    Args:
        systems: The systems, each with the function that gives its model in eval mode. If one is named ``teacher``,
            the others are compared with it.
    """

    def __init__(self, systems: Mapping[ComparedSystem, Weights]) -> None:
        self.systems = systems
        self._teacher = next((weights for system, weights in systems.items() if system.name == "teacher"), None)
        self._metrics = {system: TokenMetrics(with_teacher=self._teacher is not None) for system in systems}

    def update(self, batch: ConditionedBatch) -> None:
        """Add one batch, which must be on the device of the models."""
        expected = None
        if self._teacher is not None:
            with self._teacher() as teacher:
                expected = teacher.head_input(batch, AttentionWindow())
        for system, weights in self.systems.items():
            known = expected if system.name == "teacher" else None
            with weights() as model:
                own = known or model.head_input(batch, system.window)
            own.measure(batch.labels, expected, self._metrics[system].to(own.hidden.device).update)

    def means(self) -> dict[str, dict[str, float]]:
        """Means over all labels for each system: ``ce``, ``accuracy`` and, with a teacher, ``agreement`` and ``kl``."""
        return {
            system.name: {name: float(value) for name, value in metric.compute().items()}
            for system, metric in self._metrics.items()
        }
