"""Settings of the training loss."""

from __future__ import annotations

from dataclasses import dataclass

from wand.checks import check_number


@dataclass(frozen=True)
class LossTerms:
    """The training loss ``ce_weight * CE + kd_weight * KD`` (WAND, section 2). KD is a divergence from the teacher.

    Args:
        ce_weight: Weight of the cross-entropy against the recorded speech.
        kd_weight: Weight of the divergence from the teacher (lambda in the paper).
        skew: Share of the teacher in the mixture of the skew KL, in ``[0, 1)``; 0 gives the plain KL divergence.
        temperature: Softmax temperature of student and teacher in the divergence.
        divergence: Name of the divergence: skew_kl, forward_kl, reverse_kl or jsd, or the import path of your own
            function (see `wand.distillation.divergences`).
        codebook_weights: One loss weight per codebook; null weights all equally. The first codebooks carry the words,
            the last ones are hard to predict.

    Raises:
        ValueError: If a setting is out of range or not finite, or all weights are zero.
    """

    ce_weight: float = 1.0
    kd_weight: float = 1.0
    skew: float = 0.1
    temperature: float = 1.0
    divergence: str = "skew_kl"
    codebook_weights: list[float] | None = None

    def __post_init__(self) -> None:
        for name in ("ce_weight", "kd_weight"):
            check_number(f"model.loss.{name}", getattr(self, name))
        if min(self.ce_weight, self.kd_weight) < 0 or self.ce_weight == self.kd_weight == 0:
            raise ValueError(
                f"model.loss.ce_weight {self.ce_weight} and model.loss.kd_weight {self.kd_weight} leave nothing to "
                f"learn from: neither may be negative and at least one must be positive"
            )
        check_number("model.loss.skew", self.skew, "[0, 1)", "it is the teacher's share in the mixture")
        check_number("model.loss.temperature", self.temperature, "(0, inf)")
        weights = self.codebook_weights
        if not isinstance(weights, list | tuple | None):
            raise ValueError(f"model.loss.codebook_weights {weights!r} is not a list of numbers")
        for weight in weights or ():
            check_number("model.loss.codebook_weights", weight)
        if weights is not None and (not weights or min(weights) < 0 or sum(weights) == 0):
            raise ValueError(
                f"model.loss.codebook_weights {weights}: no weight may be negative and at least one must be positive"
            )
