"""vLLM's default sampling of a model with ``speech.json``."""

from __future__ import annotations

import functools
from typing import Any

from vllm.config import ModelConfig

from wand_vllm.facts import read_facts


def install() -> None:
    """Leave the repetition penalty of ``generation_config.json`` out of vLLM's defaults.

    vLLM's penalty counts the prompt as well. The logits processor applies the model's default to the speech instead.
    """
    stock = ModelConfig.get_diff_sampling_param

    @functools.wraps(stock)
    def get_diff_sampling_param(self: ModelConfig) -> dict[str, Any]:
        values = stock(self)
        if read_facts(self.model) is not None:
            values.pop("repetition_penalty", None)
        return values

    ModelConfig.get_diff_sampling_param = get_diff_sampling_param
