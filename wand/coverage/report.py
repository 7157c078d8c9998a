"""What `wand analyze` has found: tables, Markdown, JSON, and the windows as a file that ``model.window`` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from wand.alignment.ranking import RankedHead, heads_that_pass
from wand.alignment.report import COLUMNS as HEAD_COLUMNS
from wand.console.tables import Column, cells, markdown, show_table
from wand.coverage.choice import SIZES, ChosenWindows
from wand.coverage.mass import AttentionMass
from wand.files.writing import write_text

NAME = "coverage"
# Files with windows by layer: as many columns as the recommended window, and the fewest.
WINDOWS, FEWEST = "windows.yaml", "windows-fewest.yaml"
# Aligned heads that are printed.
SHOWN = 5


@dataclass(frozen=True, eq=False)
class CoverageReport:
    """The attention of a model that has spoken some sentences, and the windows that follow from it.

    Args:
        model: Name of the model.
        split: Split whose sentences it has spoken.
        sentences: Number of these sentences.
        stopped: Number of them that it ended by itself.
        seed: Seed of the sampling.
        columns_per_second: Speech columns per second.
        prefix_columns: Mean number of prefix columns that a step saw.
        mass: Where its heads looked.
        wanted: The wanted coverage.
        uniform: The recommended window, the same in every layer; None if none covers as much as is wanted.
        by_layer: Windows by layer with the columns of `uniform`; None without it.
        fewest: The windows by layer that cover as much as is wanted with the fewest columns; None without `uniform`.
        column_bytes: Bytes of the keys and values of one column in one layer.
        ranked: Its heads by how well they follow the text, the best one first; empty if the adapter does not say where
            the text is.
    """

    model: str
    split: str
    sentences: int
    stopped: int
    seed: int
    columns_per_second: float
    prefix_columns: int
    mass: AttentionMass
    wanted: float
    uniform: ChosenWindows | None
    by_layer: ChosenWindows | None
    fewest: ChosenWindows | None
    column_bytes: int
    ranked: Sequence[RankedHead]

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.mass.prefix)

    @property
    def title(self) -> str:
        """What was measured, in words."""
        seconds = self.mass.steps / self.columns_per_second / self.sentences
        return (
            f"{self.model}, with full attention, over {self.sentences} {self.split} sentences that it has spoken "
            f"itself ({seconds:.1f} s on average, {self.stopped} ended by a stop token, seed {self.seed})"
        )

    @property
    def columns_per_sentence(self) -> int:
        """Mean number of speech columns of a sentence."""
        return round(self.mass.steps / self.sentences)

    def kv_bytes(self, sizes: Sequence[int]) -> int:
        """Bytes of the keys and values of the mean prefix and of windows by layer."""
        return self.column_bytes * (self.layers * self.prefix_columns + sum(sizes))

    def verdict(self) -> list[str]:
        """The recommended windows in words."""
        if self.uniform is None:
            return [f"No window of up to {SIZES[-1]} columns covers {self.wanted:.0%}: none is recommended."]
        return [
            f"Recommended window: {self.uniform.sizes[0]}, the smallest one whose mean coverage over layers, heads and "
            f"steps is at least {self.wanted:.0%}.",
            f"by layer: as many columns in all, spread over the layers so that they cover most ({WINDOWS}, for "
            f"model.window). fewest: as much as is wanted, covered with the fewest columns ({FEWEST}).",
        ]

    def to_json(self) -> dict[str, Any]:
        """All figures, in plain values."""
        mass = self.mass
        chosen = {"uniform": self.uniform, "by_layer": self.by_layer, "fewest": self.fewest}
        return {
            "model": self.model,
            "split": self.split,
            "sentences": self.sentences,
            "stopped": self.stopped,
            "seed": self.seed,
            "steps": mass.steps,
            "prefix_columns": self.prefix_columns,
            "speech_columns": self.columns_per_sentence,
            "wanted_coverage": self.wanted,
            "full_attention_kv_bytes": self.kv_bytes([self.columns_per_sentence] * self.layers),
            "recommended_window": None if self.uniform is None else self.uniform.sizes[0],
            "choices": {
                name: {
                    "windows": list(one.sizes),
                    "covered": one.covered,
                    "lowest_layer": one.lowest,
                    "kv_bytes": self.kv_bytes(one.sizes),
                }
                for name, one in chosen.items()
                if one is not None
            },
            "windows": [
                {
                    "window": size,
                    "prefix": mass.prefix.mean().item(),
                    **{name: part.mean().item() for name, part in mass.parts.items()},
                    "generated": mass.generated.mean().item(),
                    "inside_of_generated": _inside_of_generated(mass, size),
                    "covered": mass.covered(size).mean().item(),
                    "lowest_layer": mass.covered(size).mean(1).min().item(),
                    "kv_bytes": self.kv_bytes([size] * self.layers),
                }
                for size in SIZES
            ],
            "heads": [self._head(layer, head) for layer in range(self.layers) for head in range(mass.prefix.shape[1])],
            "aligned_heads": [{**one.head._asdict(), "score": one.score} for one in self.ranked],
        }

    def _head(self, layer: int, head: int) -> dict[str, Any]:
        mass = self.mass
        return {
            "layer": layer,
            "head": head,
            "prefix": mass.prefix[layer, head].item(),
            **{name: part[layer, head].item() for name, part in mass.parts.items()},
            "inside": {str(size): mass.inside(size)[layer, head].item() for size in SIZES},
            "covered": {str(size): mass.covered(size)[layer, head].item() for size in SIZES},
        }


def window_table(report: CoverageReport) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of the coverage table, one window a line."""
    mass = report.mass
    columns: list[Column[int]] = [
        Column("window", str),
        Column("on prefix", lambda size: _percent(mass.prefix.mean())),
        *(Column(name, partial(_mean, part)) for name, part in mass.parts.items()),
        Column("on generated", lambda size: _percent(mass.generated.mean())),
        Column("of that, inside W", lambda size: _percent(_inside_of_generated(mass, size))),
        Column("covered", lambda size: _percent(mass.covered(size).mean())),
        Column("lowest layer", lambda size: _percent(mass.covered(size).mean(1).min())),
        Column("KV MiB", lambda size: f"{report.kv_bytes([size] * report.layers) / 2**20:.3f}"),
    ]
    return cells(columns, SIZES)


def choice_table(report: CoverageReport) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of the recommended windows; no line without a recommendation."""
    named = (("one window", report.uniform), ("by layer", report.by_layer), ("fewest", report.fewest))
    chosen = [(name, one) for name, one in named if one is not None]
    columns: list[Column[tuple[str, ChosenWindows]]] = [
        Column("windows", lambda line: line[0]),
        Column("from the first layer to the last", lambda line: " ".join(map(str, line[1].sizes))),
        Column("covered", lambda line: _percent(line[1].covered)),
        Column("lowest layer", lambda line: _percent(line[1].lowest)),
        Column("KV MiB", lambda line: f"{report.kv_bytes(line[1].sizes) / 2**20:.3f}"),
    ]
    return cells(columns, chosen)


def layer_table(report: CoverageReport, window: int) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of the attention of every layer: means over its heads, and the range of coverage over them."""
    mass = report.mass
    inside, covered = mass.inside(window), mass.covered(window)
    columns: list[Column[int]] = [
        Column("layer", str),
        Column("on prefix", lambda layer: _percent(mass.prefix[layer].mean())),
        *(Column(name, partial(_mean_of_layer, part)) for name, part in mass.parts.items()),
        Column(f"inside {window}", lambda layer: _percent(inside[layer].mean())),
        Column("outside", lambda layer: _percent(1 - covered[layer].mean())),
        Column("lowest head", lambda layer: _percent(covered[layer].min())),
        Column("highest head", lambda layer: _percent(covered[layer].max())),
    ]
    return cells(columns, range(report.layers))


def show(report: CoverageReport) -> None:
    """Print the tables and what follows from them."""
    show_table("Attention while speaking", *window_table(report))
    print(f"{report.title}.")
    for line in _legend(report):
        print(line)
    if report.uniform is not None:
        show_table("Windows", *choice_table(report), words=2)
    for line in report.verdict():
        print(line)
    if report.ranked:
        show_table("Heads that follow the text", *cells(HEAD_COLUMNS, report.ranked[:SHOWN]), words=0)


def save(report: CoverageReport, folder: Path) -> None:
    """Write ``coverage.json`` and ``coverage.md``, and the recommended windows by layer, if there are any."""
    write_text(folder / f"{NAME}.json", json.dumps(report.to_json(), indent=2) + "\n")
    write_text(folder / f"{NAME}.md", to_markdown(report))
    for name, chosen in ((WINDOWS, report.by_layer), (FEWEST, report.fewest)):
        if chosen is None:
            (folder / name).unlink(missing_ok=True)  # an earlier analysis may have recommended windows
        else:
            write_text(folder / name, windows_file(report, chosen))


def windows_file(report: CoverageReport, chosen: ChosenWindows) -> str:
    """Windows by layer, in the form that ``model.window`` reads. Layers that are not listed have the default."""
    default = max(chosen.sizes, key=chosen.sizes.count)
    others = {layer: size for layer, size in enumerate(chosen.sizes) if size != default}
    about = f"# Cover {chosen.covered:.1%} of the attention of {report.model}, made by wand analyze."
    return f"{about}\ndefault: {default}\nlayers: {others}\n"


def to_markdown(report: CoverageReport) -> str:
    """The whole report as Markdown."""
    window = drawn_window(report)
    parts = [
        f"# Attention while speaking\n\n{report.title}.",
        markdown(*window_table(report)),
        "\n".join(f"* {line}" for line in _legend(report)),
        "\n".join(["## Recommended windows", "", *report.verdict()]),
        *([markdown(*choice_table(report))] if report.uniform is not None else []),
        f"## By layer, window {window}",
        markdown(*layer_table(report, window)),
    ]
    if report.ranked:
        passing = ", ".join(f"({layer}, {head})" for layer, head in aligned_heads(report)) or "none"
        parts += [
            "## Heads that follow the text",
            f"As `wand align` ranks them, here over the model's own speech. Marked in the picture: {passing}.",
            markdown(*cells(HEAD_COLUMNS, report.ranked[:SHOWN])),
        ]
    return "\n\n".join(parts) + "\n"


def drawn_window(report: CoverageReport) -> int:
    """The window of the picture: the recommended one, or else the largest of the table."""
    return SIZES[-1] if report.uniform is None else report.uniform.sizes[0]


def aligned_heads(report: CoverageReport) -> list[tuple[int, int]]:
    """Layer and head of every head that reaches the threshold of `wand align`."""
    return [(head.layer, head.head) for one in report.ranked for head in heads_that_pass([one])]


def _legend(report: CoverageReport) -> list[str]:
    split = "text, reference: its parts; reference is all of the prefix that is not the text. "
    return [
        f"Means over layers, heads and steps. on prefix: share of the attention that is on the prefix. "
        f"{split if report.mass.parts else ''}of that, inside W: share of the attention on the speech that is "
        f"on the last W columns. covered: on the prefix or inside W. lowest layer: coverage of the layer that has the "
        f"least.",
        f"KV MiB: keys and values of one row with {report.prefix_columns} prefix columns; full attention keeps "
        f"{report.kv_bytes([report.columns_per_sentence] * report.layers) / 2**20:.3f} at the end of an average "
        f"sentence.",
    ]


def _inside_of_generated(mass: AttentionMass, window: int) -> float:
    return (mass.inside(window).mean() / mass.generated.mean()).item()


def _mean(part: Tensor, _: int) -> str:
    return _percent(part.mean())


def _mean_of_layer(part: Tensor, layer: int) -> str:
    return _percent(part[layer].mean())


def _percent(share: Any) -> str:
    return f"{100 * float(share):.1f} %"
