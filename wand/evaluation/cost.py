"""What decoding costs: bytes of the key/value cache and time of a step, full attention beside the window."""

from __future__ import annotations

import statistics
import time

import torch

from wand.attention import AttentionWindow
from wand.backbone import Backbone
from wand.decoding.cache import FullCache, PrefixWindowCache, key_value_shape, kv_bytes
from wand.decoding.decoder import Decoder


def columns_of(backbone: Backbone, seconds: float) -> int:
    """Speech columns of that many seconds."""
    return backbone.layout.columns_of(round(seconds * backbone.frame_rate))


def cache_bytes(backbone: Backbone, prefix: int, seconds: float, window: int | None) -> int:
    """Bytes of one row's cache after that many seconds of speech."""
    itemsize = next(backbone.decoder.parameters()).element_size()
    kept = columns_of(backbone, seconds) if window is None else window
    return kv_bytes(backbone.decoder.config, prefix + kept, itemsize)


@torch.inference_mode()
def step_milliseconds(
    backbone: Backbone,
    prefix: int,
    columns: int,
    windows: list[int | None],
    repeats: int = 30,
    warmup: int = 3,
) -> list[float]:
    """Median time of one decoding step of one row that has already spoken `columns` columns.

    The caches are filled with random keys and values (time does not depend on them); the windows take turns, so that
    whatever else the machine does falls on all of them.

    Args:
        backbone: The model, in eval mode.
        prefix: Prefix columns.
        columns: Speech columns before the step.
        windows: Which windows to time; None is full attention.
        repeats: Steps timed of each.
        warmup: Steps before them.

    Returns:
        Milliseconds, in the order of `windows`.
    """
    device = next(backbone.parameters()).device
    decoders = [Decoder(backbone, AttentionWindow(window)) for window in windows]
    for decoder, window in zip(decoders, windows, strict=True):
        decoder.go_on_from(_filled_cache(backbone, prefix, columns, window), prefix)
    token = torch.zeros(1, backbone.num_codebooks, dtype=torch.long, device=device)
    times: list[list[float]] = [[] for _ in windows]
    for _ in range(warmup + repeats):
        for decoder, measured in zip(decoders, times, strict=True):
            _synchronise(device)
            begin = time.perf_counter()
            decoder.step(token)
            _synchronise(device)
            measured.append((time.perf_counter() - begin) * 1000)
    return [statistics.median(measured[warmup:]) for measured in times]


def _filled_cache(backbone: Backbone, prefix: int, columns: int, window: int | None) -> PrefixWindowCache | FullCache:
    config = backbone.decoder.config
    parameter = next(backbone.decoder.parameters())
    dtype, device = parameter.dtype, parameter.device
    if window is None:
        full = FullCache()
        layers, heads, width = key_value_shape(config)
        for layer in range(layers):
            keys, values = torch.randn(2, 1, heads, prefix + columns, width, dtype=dtype, device=device)
            full.update(keys, values, layer)
        return full
    cache = PrefixWindowCache(config, prefix_length=prefix, window=window, dtype=dtype, device=device)
    for ring in cache.rings:
        ring.keys.normal_()
        ring.values.normal_()
    cache.positions += prefix + columns
    cache.prefilled = True
    return cache


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
