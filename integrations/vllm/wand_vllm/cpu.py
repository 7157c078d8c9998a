"""Attention under the window on a CPU, where vLLM's own kernel has no such mask. Exact; not fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from vllm.config import get_current_vllm_config
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.attention.backends.cpu_attn import (
    CPUAttentionBackend,
    CPUAttentionBackendImpl,
    CPUAttentionMetadata,
    CPUAttentionMetadataBuilder,
)


class WindowBackend(CPUAttentionBackend):
    """vLLM's CPU back end, which also takes models with a window."""

    @classmethod
    def supports_rswa(cls) -> bool:
        """It does."""
        return True

    @staticmethod
    def get_impl_cls() -> type[CPUAttentionBackendImpl]:
        """The attention of vLLM for models without a window."""
        windowed = get_current_vllm_config().model_config.rswa_window is not None
        return WindowAttention if windowed else CPUAttentionBackendImpl

    @staticmethod
    def get_builder_cls() -> type[CPUAttentionMetadataBuilder]:
        """What prepares the steps."""
        return WindowMetadataBuilder


@dataclass
class WindowMetadata(CPUAttentionMetadata):
    """A step of a model with a window.

    Args:
        prefix_lengths: ``[R]``, P of each request.
    """

    prefix_lengths: Tensor | None = None


class WindowMetadataBuilder(CPUAttentionMetadataBuilder):
    """Adds the lengths of the prompts to a step."""

    def build(
        self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, fast_build: bool = False
    ) -> CPUAttentionMetadata:
        """Prepare a step."""
        step = super().build(common_prefix_len, common_attn_metadata, fast_build)
        prefixes = common_attn_metadata.rswa_prefix_lens
        return step if prefixes is None else WindowMetadata(**vars(step), prefix_lengths=prefixes)


class WindowAttention(CPUAttentionBackendImpl):
    """Attention of one layer to the prompt and the last W columns.

    Keys and values of a column lie side by side in its block, not in the order of vLLM's kernel.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.alibi_slopes is not None or self.logits_soft_cap or self.sinks is not None or self.is_fp8_kv_cache:
            raise ValueError("a window on a CPU has no ALiBi, soft cap, sinks or fp8 cache: run the model with wand")
        window = get_current_vllm_config().model_config.rswa_window
        assert window is not None
        self.window = window

    def do_kv_cache_update(
        self, layer: torch.nn.Module, key: Tensor, value: Tensor, kv_cache: Tensor, slot_mapping: Tensor
    ) -> None:
        """Write the keys and values ``[N, H, D]`` of the columns of a step."""
        real = slot_mapping >= 0
        slots, columns = slot_mapping[real], torch.cat([key, value], -1)[: len(slot_mapping)][real]
        size = kv_cache.shape[2]
        kv_cache[slots // size, :, slots % size] = columns.to(kv_cache.dtype)

    def forward(
        self,
        layer: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        kv_cache: Tensor,
        attn_metadata: WindowMetadata | None,
        output: Tensor,
        output_scale: Tensor | None = None,
        output_block_scale: Tensor | None = None,
    ) -> Tensor:
        """Attend, request by request.

        Args:
            layer: The layer.
            query: ``[N, H, D]``.
            key: Not used: it is in the cache.
            value: Not used: it is in the cache.
            kv_cache: ``[blocks, H_kv, block size, 2 * D]``.
            attn_metadata: The step; None while vLLM warms up.
            output: ``[N, H, D]``, is written.
            output_scale: Must be None.
            output_block_scale: Must be None.
        """
        assert output_scale is None
        assert output_block_scale is None
        if attn_metadata is None:
            return output
        assert attn_metadata.prefix_lengths is not None
        starts, size = attn_metadata.query_start_loc.tolist(), kv_cache.shape[2]
        lengths, prefixes = attn_metadata.seq_lens.tolist(), attn_metadata.prefix_lengths.tolist()
        for row, (length, prefix) in enumerate(zip(lengths, prefixes, strict=False)):  # rows after the last are padding
            begin, end = starts[row], starts[row + 1]
            if begin == end:
                continue
            own = torch.arange(length - end + begin, length)
            seen, mask = visible(own, prefix, self.window)
            blocks = attn_metadata.block_table[row, seen // size].long()
            keys, values = kv_cache[blocks, :, seen % size].transpose(0, 1).chunk(2, -1)
            output[begin:end] = scaled_dot_product_attention(
                query[begin:end].transpose(0, 1)[None],
                keys[None],
                values[None],
                mask,
                scale=self.scale,
                enable_gqa=True,
            )[0].transpose(0, 1)
        return output


def visible(own: Tensor, prefix: int, window: int) -> tuple[Tensor, Tensor]:
    """The columns that some columns of a request may see.

    Args:
        own: Columns ``[n]`` that follow each other.
        prefix: P.
        window: W.

    Returns:
        The columns ``[m]``, and for each of `own` which of them it sees ``[n, m]``.
    """
    first, last = int(own[0]), int(own[-1])
    begin = min(prefix, last + 1)
    seen = torch.cat([torch.arange(begin), torch.arange(max(begin, first - window + 1), last + 1)])
    query = own[:, None]
    return seen, (seen <= query) & ((seen < prefix) | (seen > query - window))
