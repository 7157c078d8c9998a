"""What a column of the speech may be: the ids of its slot, a bias, and a penalty for ids that were spoken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from vllm.logger import init_logger

from wand_vllm.facts import SpeechFacts, read_facts

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams

logger = init_logger(__name__)
# The key of a request's extra arguments (`vllm_xargs` over HTTP).
PENALTY = "speech_repetition_penalty"


class SpeechRules:
    """The rules of a model, as tensors.

    Args:
        facts: The facts of the model.
        vocabulary: V, the number of ids.
        device: Device of the logits.

    Raises:
        ValueError: If an id is not in the vocabulary.

    Attributes:
        penalty: The default repetition penalty.
    """

    def __init__(self, facts: SpeechFacts, vocabulary: int, device: torch.device) -> None:
        named = [*facts.already_spoken, *(id for slot in facts.slots for id in slot)]
        named += [first + len(values) - 1 for first, values in facts.bias]
        if max(named) >= vocabulary:
            raise ValueError(f"speech.json names the id {max(named)}, but the model has {vocabulary}: export it again")
        forbidden = torch.ones(len(facts.slots), vocabulary, dtype=torch.bool)
        for slot, ids in enumerate(facts.slots):
            forbidden[slot, list(ids)] = False
        self._forbidden = forbidden.to(device)
        bias = torch.zeros(vocabulary)
        for first, values in facts.bias:
            bias[first : first + len(values)] = torch.tensor(values)
        self._bias = bias.to(device) if facts.bias else None
        spoken = torch.zeros(vocabulary, dtype=torch.bool)
        spoken[list(facts.already_spoken)] = True
        self._spoken_before = spoken.to(device)
        self.penalty = facts.repetition_penalty

    @classmethod
    def of(cls, config: VllmConfig, device: torch.device) -> SpeechRules | None:
        """The rules of the model that vLLM runs; None if it has no ``speech.json``."""
        facts = read_facts(config.model_config.model)
        if facts is None:
            return None
        if facts.redraws:
            logger.warning(
                "%s draws another id where one repeats (repetition-aware sampling), which vLLM does not do: its speech "
                "may loop more than with wand",
                config.model_config.model,
            )
        return cls(facts, config.model_config.get_vocab_size(), device)

    def spoken_before(self) -> Tensor:
        """Bool ``[V]``: the ids that count as spoken before the first column. A copy."""
        return self._spoken_before.clone()

    def add_bias(self, logits: Tensor) -> Tensor:
        """Logits ``[R, V]`` with the bias of the head."""
        return logits if self._bias is None else logits + self._bias

    def mask(self, logits: Tensor, columns: Tensor) -> Tensor:
        """Logits ``[R, V]`` with only the ids of the slots of columns ``[R]`` of the speech."""
        return logits.masked_fill(self._forbidden[columns % len(self._forbidden)], -torch.inf)

    def penalty_of(self, params: SamplingParams) -> float:
        """The repetition penalty of a request."""
        return float((params.extra_args or {}).get(PENALTY, self.penalty))


def check_penalty(params: SamplingParams) -> None:
    """Check the repetition penalty of a request.

    Raises:
        ValueError: If it is no positive number.
    """
    value = (params.extra_args or {}).get(PENALTY, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{PENALTY} {value!r} is no positive number: 1 is no penalty")


def penalise(logits: Tensor, spoken: Tensor, penalty: float | Tensor) -> Tensor:
    """Divide the positive logits of spoken ids by the penalty, and multiply the negative ones.

    Args:
        logits: ``[..., V]``.
        spoken: Bool ``[..., V]``.
        penalty: A number, or one for each row.
    """
    return torch.where(spoken, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
