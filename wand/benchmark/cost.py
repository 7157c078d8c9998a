"""The cost of decoding: bytes of the key/value cache and time of a step, with full attention and with a window."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from wand.attention import Windows
from wand.console.interrupt import raise_if_stopped
from wand.decoding.decoder import Decoder
from wand.kv_cache.full import FullCache
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.kv_cache.sizes import key_value_shape, kv_bytes
from wand.model.backbone import Backbone


def seconds_to_columns(backbone: Backbone, seconds: float) -> int:
    """Speech columns in a number of seconds."""
    return backbone.layout.columns_of(round(seconds * backbone.frame_rate))


def cache_bytes(backbone: Backbone, prefix: int, seconds: float, windows: Windows) -> int:
    """Bytes of one row's cache after some seconds of speech.

    Args:
        backbone: The model.
        prefix: P, prefix columns.
        seconds: Seconds of speech in the cache.
        windows: The windows of the layers.
    """
    itemsize = backbone.dtype.itemsize
    sizes = [windows.of(layer).size for layer in range(backbone.decoder.config.num_hidden_layers)]
    kept = [prefix + (seconds_to_columns(backbone, seconds) if size is None else size) for size in sizes]
    return kv_bytes(backbone.decoder.config, kept, itemsize)


def filled_cache(
    backbone: Backbone, prefix: int, columns: int, windows: Windows, rows: int = 1
) -> PrefixWindowCache | FullCache:
    """A cache filled with random keys and values (time does not depend on them), as after some columns of speech.

    Args:
        backbone: The model that will use the cache.
        prefix: P, prefix columns.
        columns: Speech columns in the cache.
        windows: The windows of the layers.
        rows: B, rows of the batch.
    """
    config = backbone.decoder.config
    dtype, device = backbone.dtype, backbone.device
    layers, heads, width = key_value_shape(config)
    window = windows.plain
    if window is None:
        full = FullCache(prefix)
        # All layers share one random tensor, because drawing gigabytes would take longer than the measurement.
        keys, values = torch.randn(2, rows, heads, prefix + columns, width, dtype=dtype, device=device)
        for layer in range(layers):
            full.update(keys, values, layer)
        return full
    cache = PrefixWindowCache(config, prefix_length=prefix, window=window, batch_size=rows, dtype=dtype, device=device)
    for ring in cache.rings:
        ring.keys.normal_()
        ring.values.normal_()
    cache.positions += prefix + columns
    cache.prefilled = True
    return cache


def interleaved_milliseconds(
    calls: Sequence[Callable[[], object]],
    device: torch.device,
    repeats: int = 30,
    warmup: int = 3,
    budget: float = float("inf"),
) -> list[float]:
    """Median time of each of several calls. The calls alternate, so other load on the machine affects all of them.

    Args:
        calls: The calls to time.
        device: The device to synchronise before and after each call.
        repeats: Number of timed rounds.
        warmup: Number of rounds before the timed ones.
        budget: Seconds after which no new round begins; a quarter of them is for warm-up. At least one warm-up round
            and one timed round run.

    Returns:
        Milliseconds, in the order of `calls`.
    """
    times: list[list[float]] = [[] for _ in calls]
    begin = time.perf_counter()
    for _ in range(warmup):
        for call in calls:
            call()
        _synchronise(device)
        if time.perf_counter() - begin > budget / 4:
            break
    for done in range(repeats):
        raise_if_stopped()
        if done and time.perf_counter() - begin > budget:
            break
        for call, measured in zip(calls, times, strict=True):
            _synchronise(device)
            start = time.perf_counter()
            call()
            _synchronise(device)
            measured.append((time.perf_counter() - start) * 1000)
    return [statistics.median(measured) for measured in times]


@torch.inference_mode()
def step_milliseconds(
    backbone: Backbone,
    prefix: int,
    columns: int,
    windows: Sequence[Windows],
    repeats: int = 30,
    warmup: int = 3,
) -> list[float]:
    """Median time of one decoding step of one row that has already spoken `columns` columns.

    Args:
        backbone: The model, in eval mode.
        prefix: P, prefix columns.
        columns: Speech columns before the step.
        windows: The windows to time.
        repeats: Number of timed steps of each window.
        warmup: Number of steps of each window before the timed ones.

    Returns:
        Milliseconds, in the order of `windows`.
    """
    device = backbone.device
    decoders = [Decoder(backbone, window) for window in windows]
    token = torch.zeros(1, backbone.num_codebooks, dtype=torch.long, device=device)
    steps = [
        partial(decoder.step, filled_cache(backbone, prefix, columns, window), token)
        for decoder, window in zip(decoders, windows, strict=True)
    ]
    return interleaved_milliseconds(steps, device, repeats, warmup)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
