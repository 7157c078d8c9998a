"""The definition of the attention window (WAND, section 2: global prefix, local generated tokens).

`AttentionWindow` is the window of one layer, or of all layers of a model. `LayerWindows` holds a different window for
each layer. Both are `Windows`; models, caches and kernels use only what the two have in common.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

from wand.checks import check_number, check_whole_number
from wand.files.plain_values import read_yaml
from wand.files.typed import reading


@dataclass(frozen=True, slots=True)
class AttentionWindow:
    """Which generated columns a generated column may attend to.

    A speech query at speech column ``i`` sees every real prefix column and the speech columns ``j`` with
    ``i - size < j <= i``. So `size` includes the query's own column but no prefix column. Prefix queries are plain
    causal. Under a soft mask, a causal key outside the window stays visible, and ``-tau`` is added to its logit.

    Args:
        size: Number of speech columns in view, including the query's own; None is full causal attention.
        tau: Strength of the soft mask; None is the hard mask, which inference uses.

    Raises:
        ValueError: If `size` is not positive, `tau` is negative, or `tau` is given without a window.
    """

    size: int | None = None
    tau: float | None = None

    def __post_init__(self) -> None:
        if self.size is not None:
            check_whole_number("window", self.size, least=1, hint="give at least 1, or null for full attention")
        if self.tau is not None:
            check_number("tau", self.tau, "[0, inf)", "the soft mask subtracts tau >= 0 from attention logits")
        if self.tau is not None and self.size is None:
            raise ValueError(f"tau {self.tau} has no effect on full attention: give a window as well")

    @property
    def is_full(self) -> bool:
        """Whether this is plain causal attention."""
        return self.size is None

    @property
    def largest(self) -> int | None:
        """The largest window of a layer; None is full attention."""
        return self.size

    @property
    def smallest(self) -> int | None:
        """The smallest window of a layer; None is full attention."""
        return self.size

    @property
    def plain(self) -> int | None:
        """The sizes as plain values, for checkpoints and exports."""
        return self.size

    def of(self, layer: int) -> AttentionWindow:
        """The window of one layer."""
        return self

    def map(self, change: Callable[[AttentionWindow], AttentionWindow]) -> AttentionWindow:
        """Apply `change` to the window of every layer."""
        return change(self)


@dataclass(frozen=True, slots=True)
class LayerWindows:
    """A window for each layer; see `AttentionWindow`.

    Args:
        layers: The window of each layer, from the first layer to the last.

    Raises:
        ValueError: If there is no layer, or a layer has full attention: it would keep every column, and the cache would
            grow.
    """

    layers: tuple[AttentionWindow, ...]

    def __post_init__(self) -> None:
        if not self.layers or any(window.is_full for window in self.layers):
            sizes = [window.size for window in self.layers]
            raise ValueError(f"windows by layer {sizes}: give every layer a window, or null for full attention")

    @property
    def is_full(self) -> bool:
        """Always False: every layer has a window."""
        return False

    @property
    def largest(self) -> int:
        """The largest window of a layer."""
        return max(self.plain)

    @property
    def smallest(self) -> int:
        """The smallest window of a layer."""
        return min(self.plain)

    @property
    def tau(self) -> float | None:
        """Strength of the soft mask, the same in every layer; None is the hard mask."""
        return self.layers[0].tau

    @property
    def plain(self) -> list[int]:
        """The sizes as plain values, for checkpoints and exports."""
        return [window.size for window in self.layers if window.size is not None]

    def of(self, layer: int) -> AttentionWindow:
        """The window of one layer."""
        return self.layers[layer]

    def map(self, change: Callable[[AttentionWindow], AttentionWindow]) -> LayerWindows:
        """Apply `change` to the window of every layer."""
        return LayerWindows(tuple(change(window) for window in self.layers))


Windows = AttentionWindow | LayerWindows
"""The windows of all layers of a model."""


class WindowPolicy(ABC):
    """Chooses a window for each layer. Name a subclass under ``model.window`` with ``class_path``."""

    @abstractmethod
    def sizes(self, layers: int) -> Sequence[int]:
        """W of each layer, in speech columns.

        Args:
            layers: Number of layers of the model.
        """


WindowSetting = int | Sequence[int] | Mapping[str, int | Mapping[int, int]] | WindowPolicy | str | PathLike[str] | None
"""What ``model.window`` takes; see `resolve_windows`."""


def resolve_windows(setting: WindowSetting, layers: int) -> Windows:
    """Resolve a setting to the windows of a model.

    Args:
        setting: One W for all layers; a list with one W per layer; ``{"default": 32, "layers": {0: 64}}``, which names
            the layers that differ; the path of a YAML file with one of these; a policy; or None for full attention.
        layers: Number of layers of the model.

    Raises:
        ValueError: If a size is not positive, the sizes do not fit the layers, or the file cannot be used.
    """
    if isinstance(setting, str | PathLike):
        path = Path(setting)
        if not path.is_file():
            raise ValueError(
                f"window {str(setting)!r} is no file, and no policy that can be made: give a number of columns, a list "
                f"with one for each layer, {{default: 32, layers: {{0: 64}}}}, a YAML file with one of these, or null "
                f"for full attention"
            )
        with reading(path):
            windows = resolve_windows(read_yaml(path, scalars=True), layers)
        return windows
    if isinstance(setting, Mapping):
        sizes = _sizes_by_layer(setting, layers)
    elif isinstance(setting, WindowPolicy):
        sizes = list(setting.sizes(layers))
    elif setting is None or isinstance(setting, int | Real):
        size = AttentionWindow(setting).size  # it refuses numbers that are not whole
        return AttentionWindow(None if size is None else int(size))
    else:
        sizes = list(setting)
    if len(sizes) != layers:
        raise ValueError(f"window has {len(sizes)} sizes, the model has {layers} layers: give one for each layer")
    for layer, size in enumerate(sizes):
        check_whole_number(f"window of layer {layer}", size, least=1, hint="every layer needs one")
    each = tuple(AttentionWindow(int(size)) for size in sizes)
    return each[0] if len(set(each)) == 1 else LayerWindows(each)


def _sizes_by_layer(setting: Mapping[str, Any], layers: int) -> list[int]:
    """W of each layer, from a default and the layers that differ."""
    others = setting.get("layers", {})
    if set(setting) - {"layers"} != {"default"} or not isinstance(others, Mapping):
        raise ValueError(
            f"window {dict(setting)} is not of the form {{default: 32, layers: {{0: 64}}}}: give a default, and the "
            f"layers that differ"
        )
    for layer in others:
        if isinstance(layer, bool) or not isinstance(layer, Integral) or not 0 <= int(layer) < layers:
            raise ValueError(f"window names layer {layer!r}, the model has layers 0 to {layers - 1}: remove it")
    return [others.get(layer, setting["default"]) for layer in range(layers)]
