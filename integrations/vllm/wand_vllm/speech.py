"""The logits processor of models with ``speech.json``, for both model runners of vLLM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor

from wand_vllm.rules import check_penalty

if TYPE_CHECKING:
    from torch import Tensor
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams


class SpeechLogitsProcessor(LogitsProcessor):
    """What vLLM loads. It becomes the processor of the model runner that makes it.

    vLLM has one list of processors for two runners with different interfaces. Runner V2 accepts only classes of its own
    interface, runner V1 takes any class. They are told apart by their arguments.
    """

    def __new__(cls, vllm_config: VllmConfig, *arguments: Any) -> Any:
        """Make the processor for the arguments of a runner."""
        if len(arguments) == 2:
            from wand_vllm.runner_v1 import SpeechProcessorV1

            return SpeechProcessorV1(vllm_config, *arguments)
        from wand_vllm.runner_v2 import SpeechProcessorV2

        return SpeechProcessorV2(vllm_config, *arguments)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Check the arguments of a request. Runs where requests arrive."""
        check_penalty(sampling_params)

    def apply(self, logits: Tensor, ctx: Any) -> Tensor:
        """The processors of the runners replace it."""
        raise NotImplementedError
