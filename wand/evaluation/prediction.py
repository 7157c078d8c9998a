"""How systems predict recorded speech, without speaking themselves."""

from __future__ import annotations

from collections.abc import Mapping

from wand.attention import AttentionWindow
from wand.evaluation.systems import ComparedSystem, Weights
from wand.metrics.tokens import TokenMetrics
from wand.model.batch import ConditionedBatch


class PredictionTest:
    """Token metrics of every system over batches of recorded speech.

    Several processes give it different batches; `means` is over the batches of all of them.

    Args:
        systems: The systems and what gives the model that each runs, in eval mode. If one is named ``teacher``, the
            others are compared with it.
    """

    def __init__(self, systems: Mapping[ComparedSystem, Weights]) -> None:
        self.systems = systems
        self._teacher = next((weights for system, weights in systems.items() if system.name == "teacher"), None)
        self._metrics = {system: TokenMetrics(with_teacher=self._teacher is not None) for system in systems}

    def update(self, batch: ConditionedBatch) -> None:
        """Take one batch in; it is on the device of the models."""
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
        """Means over all labels by system: ``ce``, ``accuracy`` and, with a teacher, ``agreement`` and ``kl``."""
        return {
            system.name: {name: float(value) for name, value in metric.compute().items()}
            for system, metric in self._metrics.items()
        }
