"""The logits processor in vLLM's model runner V1, which runs on CPUs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from wand_vllm.rules import SpeechRules, penalise


@dataclass
class Row:
    """A request in the batch.

    Args:
        output: Its ids, which vLLM extends.
        penalty: Its repetition penalty.
        spoken: Bool ``[V]``, the ids of `output` up to `known`.
        known: Number of ids in `spoken`.
    """

    output: list[int]
    penalty: float
    spoken: Tensor = field(repr=False)
    known: int = 0

    def penalised(self, logits: Tensor) -> Tensor:
        """Logits ``[V]`` with the repetition penalty."""
        self.spoken[self.output[self.known :]] = True
        self.known = len(self.output)
        return penalise(logits, self.spoken, self.penalty)


class SpeechProcessorV1(LogitsProcessor):
    """Bias, repetition penalty over the speech, and ids of the slot. Does nothing without ``speech.json``.

    Args:
        vllm_config: Settings of vLLM.
        device: Device of the logits.
        is_pin_memory: Not used.

    Raises:
        ValueError: If vLLM would not tell the ids that were spoken.
    """

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._rules = SpeechRules.of(vllm_config, device)
        self._rows: dict[int, Row] = {}
        self._device = device
        if self._rules is not None and vllm_config.scheduler_config.async_scheduling:
            raise ValueError("model runner V1 tells plugins no ids while it schedules ahead: add --no-async-scheduling")

    def is_argmax_invariant(self) -> bool:
        """Whether greedy sampling may skip it."""
        return self._rules is None

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the requests of the batch."""
        if self._rules is not None:
            process_dict_updates(self._rows, batch_update, self._row)

    def _row(self, params: SamplingParams, prompt: list[int] | None, output: list[int]) -> Row:
        assert self._rules is not None
        return Row(output, self._rules.penalty_of(params), self._rules.spoken_before())

    def apply(self, logits: Tensor) -> Tensor:
        """Change logits ``[R, V]``."""
        if self._rules is None:
            return logits
        logits = self._rules.add_bias(logits)
        columns = torch.zeros(len(logits), dtype=torch.long)
        for index, row in self._rows.items():
            columns[index] = len(row.output)
            if row.penalty != 1:
                logits[index] = row.penalised(logits[index])
        return self._rules.mask(logits, columns.to(self._device))
