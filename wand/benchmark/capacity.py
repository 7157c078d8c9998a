"""How many voices a card can serve at the same time, computed from shapes.

Every stream keeps the keys and values that it still needs. Under full attention these are all columns, P + G; under a
window they are P + W in every layer, whatever the length of the speech. An engine with a paged cache, such as vLLM,
allocates whole blocks of b columns: ``ceil((P + G) / b)`` under full attention. Under a window it holds ``ceil(P / b) +
ceil(W / b) + 1``, because the window may begin and end inside a block.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from wand.attention import Windows
from wand.attention.body import KeyValueShape
from wand.console.tables import show_table
from wand.files.writing import write_text
from wand.model.backbone import Backbone


@dataclass(frozen=True)
class ModelSize:
    """What a model needs on a card.

    Args:
        title: Name of the model.
        dtype: Dtype of weights and cache.
        shape: Shape of the keys and values.
        itemsize: Bytes of one number.
        weight_bytes: Bytes of all weights.
        columns_per_second: Speech columns per second.
        flush_columns: Speech columns after the last frame, for codebooks that are delayed.
        max_columns: Largest number of speech columns; None is no limit.
    """

    title: str
    dtype: str
    shape: KeyValueShape
    itemsize: int
    weight_bytes: int
    columns_per_second: float
    flush_columns: int = 0
    max_columns: int | None = None

    @classmethod
    def of(cls, title: str, backbone: Backbone) -> ModelSize:
        """The size of a model, which may be on the meta device."""
        return cls(
            title=title,
            dtype=str(backbone.dtype).removeprefix("torch."),
            shape=backbone.key_value_shape,
            itemsize=backbone.dtype.itemsize,
            weight_bytes=sum(weight.nbytes for weight in backbone.parameters()),
            columns_per_second=backbone.columns_per_second,
            flush_columns=backbone.layout.flush_columns,
            max_columns=backbone.max_speech_tokens,
        )

    @property
    def layer_bytes(self) -> int:
        """Bytes of one column's keys and values in one layer."""
        return self.shape.groups * (self.shape.key_width + self.shape.value_width) * self.itemsize


@dataclass(frozen=True)
class Card:
    """The memory that streams share.

    Args:
        memory: Bytes of the card.
        share: Share of it for weights and caches. The rest is for activations, the codec and the driver.
        block: Columns in one block of an engine with a paged cache.
        prefix: P, prefix columns of every stream.
    """

    memory: int
    share: float
    block: int
    prefix: int


@dataclass(frozen=True)
class Streams:
    """One way to keep the columns of a stream.

    Args:
        bytes: Bytes of one stream.
        streams: Number of streams that fit at the same time.
    """

    bytes: int
    streams: int


@dataclass(frozen=True)
class CapacityAt:
    """How many streams fit when all of them have spoken for the same time.

    Args:
        seconds: Seconds of speech.
        columns: G, speech columns.
        full: Full attention.
        window: The window.
        paged_full: Full attention in whole blocks.
        paged_window: The window in whole blocks.
    """

    seconds: float
    columns: int
    full: Streams
    window: Streams
    paged_full: Streams
    paged_window: Streams


@dataclass(frozen=True)
class Capacity:
    """The capacity of a card.

    Args:
        model: The model.
        card: The card.
        windows: W, or W of each layer.
        cache_bytes: Bytes that are left for caches.
        lines: The number of streams by seconds of speech.
    """

    model: ModelSize
    card: Card
    windows: int | list[int]
    cache_bytes: int
    lines: Sequence[CapacityAt]


def capacity(model: ModelSize, card: Card, windows: Windows, seconds: Sequence[float]) -> Capacity:
    """Count the streams that fit on a card.

    Args:
        model: The model.
        card: The card.
        windows: The windows of the layers.
        seconds: Seconds of speech of every stream, one line each. Lengths that the model cannot speak are left out.

    Raises:
        ValueError: If the weights leave no room for a cache.
    """
    sizes = [windows.of(layer).size for layer in range(model.shape.layers)]
    plain = windows.plain
    assert plain is not None, "a window is compared with full attention"
    room = int(card.share * card.memory) - model.weight_bytes
    if room <= 0:
        raise ValueError(
            f"the weights of {model.title} take {gib(model.weight_bytes)} of {gib(card.share * card.memory)} GiB "
            f"({card.share:g} of the card): give a larger --memory, or --dtype bfloat16"
        )

    def fit(kept: Sequence[int]) -> Streams:
        held = sum(kept) * model.layer_bytes
        return Streams(held, room // held)

    lines = []
    for length in seconds:
        spoken = round(length * model.columns_per_second) + model.flush_columns
        if model.max_columns is not None and spoken > model.max_columns:
            continue
        full = [card.prefix + spoken for _ in sizes]
        window = [card.prefix + (spoken if size is None else size) for size in sizes]
        paged = [paged_columns(card.prefix, spoken, size, card.block) for size in sizes]
        paged_full = [paged_columns(card.prefix, spoken, None, card.block) for _ in sizes]
        lines.append(CapacityAt(length, spoken, fit(full), fit(window), fit(paged_full), fit(paged)))
    return Capacity(model, card, plain, room, lines)


def paged_columns(prefix: int, spoken: int, window: int | None, block: int) -> int:
    """Columns of the blocks that one layer holds at most.

    Args:
        prefix: P, prefix columns.
        spoken: G, speech columns.
        window: W; None is full attention.
        block: Columns of one block.
    """
    every = -(-(prefix + spoken) // block)
    if window is None:
        return every * block
    return min(every, -(-prefix // block) - (-window // block) + 1) * block


def gib(size: float) -> str:
    """Bytes in GiB."""
    return f"{size / 2**30:.2f}"


def show_capacity(found: Capacity) -> None:
    """Print the table and what it means."""
    model, card, windows = found.model, found.card, found.windows
    window = windows if isinstance(windows, int) else f"{min(windows)} to {max(windows)} by layer"
    kinds = ("full", "window")
    titles = ["seconds", *(f"{kind}: {what}" for kind in kinds for what in ("MiB", "streams")), "more"]
    titles += [f"blocks of {card.block}, {kind}: {what}" for kind in kinds for what in ("MiB", "streams")]
    lines = []
    for line in found.lines:
        own, paged = (line.full, line.window), (line.paged_full, line.paged_window)
        more = f"{line.window.streams / line.full.streams:.1f}x" if line.full.streams else "-"
        lines.append([f"{line.seconds:g}", *_cells(own), more, *_cells(paged)])
    show_table(f"Streams at the same time on a card of {gib(card.memory)} GiB", titles, lines)
    print(
        f"{model.title}, {model.dtype}, prefix {card.prefix} columns, window {window}, "
        f"{model.columns_per_second:g} columns a second.\n"
        f"{card.share:g} of the memory, {gib(card.share * card.memory)} GiB, holds the weights "
        f"({gib(model.weight_bytes)} GiB) and the caches ({gib(found.cache_bytes)} GiB).\n"
        "All streams have spoken for these seconds. Memory is one limit; time for a step is another (`wand benchmark`)."
    )


def save_capacity(found: Capacity, folder: Path) -> Path:
    """Write ``capacity.json``, with sizes in bytes."""
    content = asdict(found)
    content["model"]["shape"] = found.model.shape._asdict()
    path = folder / "capacity.json"
    write_text(path, json.dumps(content, indent=2) + "\n")
    return path


def _cells(kinds: Sequence[Streams]) -> list[str]:
    return [cell for kind in kinds for cell in (f"{kind.bytes / 2**20:.2f}", str(kind.streams))]
