"""The logits processor in vLLM's model runner V2, which is the default on GPUs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.worker.gpu.sample.logits_processor.interface import (
    LogitsContext,
    LogitsProcessor,
    LogitsProcRequestState,
)

from wand_vllm.rules import SpeechRules, penalise


class SpeechProcessorV2(LogitsProcessor):
    """Bias, repetition penalty over the speech, and ids of the slot. Does nothing without ``speech.json``.

    Args:
        vllm_config: Settings of vLLM.
        req_states: The ids of all requests, on the device.
    """

    def __init__(self, vllm_config: VllmConfig, req_states: LogitsProcRequestState) -> None:
        self._rules = SpeechRules.of(vllm_config, req_states.device)
        self._states = req_states
        self._penalties = np.ones(req_states.max_num_reqs, dtype=np.float32)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Note the penalty of a request that enters the batch."""
        if self._rules is None:
            return False
        self._penalties[req_idx] = self._rules.penalty_of(sampling_params)
        return True

    def apply(self, logits: Tensor, ctx: LogitsContext) -> Tensor:
        """Change logits ``[R, V]``, one row for each request."""
        if self._rules is None:
            return logits
        rows, prompts = ctx.expanded_idx_mapping.long(), self._states.prompt_len.gpu
        begins = prompts[rows]
        ends = ctx.pos + 1
        logits = self._rules.add_bias(logits)
        if (self._penalties[ctx.idx_mapping_np] != 1).any():
            spoken = self._spoken(rows, begins, ends, int(ctx.seq_lens_upper_bound_np.max()))
            penalties = torch.from_numpy(self._penalties).to(logits.device)[rows]
            logits = penalise(logits, spoken, penalties[:, None])
        return self._rules.mask(logits, ends - begins)

    def _spoken(self, rows: Tensor, begins: Tensor, ends: Tensor, longest: int) -> Tensor:
        """Bool ``[R, V]``: the ids in the columns from `begins` to before `ends` of each row."""
        assert self._rules is not None
        before = self._rules.spoken_before()
        ids = self._states.all_token_ids.gpu[rows, :longest].long()
        places = torch.arange(ids.shape[1], device=ids.device)
        speech = (places >= begins[:, None]) & (places < ends[:, None])
        spoken = before.new_zeros(len(rows), len(before) + 1)  # the last takes what is not speech
        spoken.scatter_(1, torch.where(speech, ids, len(before)), True)
        return spoken[:, :-1] | before
