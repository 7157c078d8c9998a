"""The window: every attention layer of a model with `rswa_window` gets vLLM's R-SWA cache, for any architecture."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from vllm.config import VllmConfig
from vllm.model_executor.layers.attention import Attention
from vllm.utils.math_utils import cdiv
from vllm.v1.core.kv_cache_utils import KVCacheBlock
from vllm.v1.core.single_type_kv_cache_manager import RSWAManager
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheSpec, RSWASpec
from vllm.v1.kv_cache_spec_registry import KVCacheSpecRegistry
from vllm.v1.request import Request

from wand_vllm.refusals import check_attention, check_model


class WindowManager(RSWAManager):
    """Holds the blocks of the prompt and of the window, and admits a speech only if it can end without preemption.

    It differs from vLLM's manager in two points.

    * It caches blocks of prompts only. Keys and values of a speech depend on its window, so they must not be found
      under the ids of a prompt, which is computed without one; nor must those of a prompt when a speech is resumed.
    * A request that waits is admitted if its prompt and its window fit beside what the running requests still take.
    """

    def __init__(self, kv_cache_spec: RSWASpec, **options: Any) -> None:
        super().__init__(kv_cache_spec, **options)
        self._prompts: dict[str, int] = {}

    def cache_blocks(
        self,
        request: Request,
        num_tokens: int,
        retention_interval: int | None = None,
        *,
        replay_boundaries: Sequence[int],
    ) -> None:
        """Cache the full blocks of the prompt."""
        request._block_hasher = None  # blocks of the speech get no hashes, so that nothing can find them
        prompt = min(num_tokens, request.num_prompt_tokens)
        super().cache_blocks(request, prompt, retention_interval, replay_boundaries=replay_boundaries)

    def remove_skipped_blocks(
        self, request_id: str, processed_computed_tokens: int, num_prompt_tokens: int | None = None
    ) -> None:
        """Free the blocks between prompt and window. Notes the length of the prompt."""
        if num_prompt_tokens is not None:
            self._prompts[request_id] = num_prompt_tokens
        super().remove_skipped_blocks(request_id, processed_computed_tokens, num_prompt_tokens)

    def pop_blocks_for_free(self, request_id: str) -> list[KVCacheBlock]:
        """Forget the request."""
        self._prompts.pop(request_id, None)
        return super().pop_blocks_for_free(request_id)

    def get_num_blocks_to_allocate(
        self, request_id: str, *arguments: Any, apply_admission_cap: bool = False, **options: Any
    ) -> int:
        """The blocks that a request needs, and before its admission also those that it and the others will need."""
        needed = super().get_num_blocks_to_allocate(
            request_id, *arguments, apply_admission_cap=apply_admission_cap, **options
        )
        others = [other for other in self.req_to_blocks if other != request_id]
        if not apply_admission_cap or not others:
            return needed
        return needed + self._window_blocks + sum(map(self._growth, others))

    @property
    def _window_blocks(self) -> int:
        """The most blocks that hold the window beside the prompt. It may begin and end inside a block."""
        return cdiv(self.rswa_window, self.block_size) + 1

    def _growth(self, request_id: str) -> int:
        """The blocks that a running request still takes."""
        held = sum(not block.is_null for block in self.req_to_blocks[request_id])
        return max(cdiv(self._prompts[request_id], self.block_size) + self._window_blocks - held, 0)


@dataclass(frozen=True, kw_only=True)
class WindowSpec(RSWASpec):
    """vLLM's R-SWA cache with `WindowManager`."""


def windowed(layer: Attention, config: VllmConfig, stock: KVCacheSpec | None) -> KVCacheSpec | None:
    """The cache of a layer.

    Args:
        layer: An attention layer.
        config: Settings of vLLM.
        stock: The cache that vLLM gives the layer: None if it shares that of another layer.

    Raises:
        ValueError: If a setting would make vLLM ignore the window.
    """
    check_model(config)
    window = config.model_config.rswa_window
    if window is None or stock is None or isinstance(stock, RSWASpec):  # the last: a model of vLLM's with R-SWA layers
        return stock
    check_attention(layer, window, stock)
    assert type(stock) is FullAttentionSpec
    return WindowSpec(**{field.name: getattr(stock, field.name) for field in fields(stock)}, rswa_window=window)


def install() -> None:
    """Let all attention layers of vLLM ask `windowed` for their cache."""
    KVCacheSpecRegistry.check_kv_cache_spec_registry({})  # registers vLLM's own, which it does only if nothing is yet
    KVCacheSpecRegistry.register(WindowSpec, WindowManager, uniform_type_base_spec=FullAttentionSpec)
    stock = Attention.get_kv_cache_spec

    @functools.wraps(stock)
    def get_kv_cache_spec(self: Attention, vllm_config: VllmConfig) -> KVCacheSpec | None:
        return windowed(self, vllm_config, stock(self, vllm_config))

    Attention.get_kv_cache_spec = get_kv_cache_spec
