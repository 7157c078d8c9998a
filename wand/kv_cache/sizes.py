"""Sizes of keys and values, and of the memory that holds them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import torch
from transformers import PretrainedConfig


def key_value_shape(config: PretrainedConfig) -> tuple[int, int, int]:
    """Number of layers, number of key/value heads and head width of a transformers decoder."""
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return config.num_hidden_layers, groups, width


def kv_bytes(config: PretrainedConfig, columns: int | Sequence[int], itemsize: int = 4, rows: int = 1) -> int:
    """Size of the keys and values in bytes: ``2 * heads * width * itemsize`` per column, layer and row.

    Args:
        config: Configuration of the transformers decoder.
        columns: Number of columns that each layer keeps: one number for all layers, or one for each.
        itemsize: Size of one number, in bytes.
        rows: B.
    """
    layers, groups, width = key_value_shape(config)
    kept = columns * layers if isinstance(columns, int) else sum(columns)
    return 2 * groups * width * itemsize * kept * rows


def device_memory(device: torch.device) -> int:
    """Bytes of memory of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if not hasattr(os, "sysconf"):  # Windows
        return sys.maxsize
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
