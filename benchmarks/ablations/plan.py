"""The rows of the ablations, and the order of their runs: those that decide the recipe come first.

The baseline has the losses of the paper. Every other row changes one thing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

SEEDS = range(3)
DECIDING_SEEDS = range(6)
# The config with the losses of the paper, whatever the given config has.
LOSSES = "ablations/both"
# The shipped config that adds LoRA.
LORA = "lora"
# The config that trains on speech of the teacher, not on the recorded speech of the given config.
TEACHER_SPEECH = "ablations/teacher-speech"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the baseline with a change.

    Args:
        name: Name of the row, and of its run folders.
        title: The row in words.
        overlays: Configs with the change.
        options: Further options of ``wand fit``.
        windowed: Whether the row has windows of its own, so that the untrained weights speak under them, too.
        decides: Whether the row decides the recipe. It is trained with more seeds.
    """

    name: str
    title: str
    overlays: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    windowed: bool = False
    decides: bool = False

    @property
    def configs(self) -> tuple[str, ...]:
        """The configs that change the one that is given to the command."""
        return (LOSSES, *self.overlays)


def _window(size: int) -> Row:
    name = f"window-{size}"
    return Row(name, f"W = {size}", (f"ablations/{name}",), windowed=True)


BASELINE = Row("both", "both losses", windowed=True, decides=True)
ROWS = (
    BASELINE,
    Row("kl-only", "distillation alone", ("ablations/kl-only",), decides=True),
    Row("no-curriculum", "no curriculum", ("ablations/no-curriculum",), decides=True),
    _window(16),
    _window(64),
    _window(8),
    _window(128),
    Row("layer-windows", "windows by layer, equal bytes", ("ablations/layer-windows",), windowed=True),
    Row("layer-windows-fewest", "windows by layer, half the bytes", ("ablations/layer-windows-fewest",), windowed=True),
    Row("ce-only", "cross-entropy alone", ("ablations/ce-only",)),
    Row(
        "kl-only-no-curriculum",
        "distillation alone, no curriculum",
        ("ablations/kl-only", "ablations/no-curriculum"),
    ),
    Row("no-soft-mask", "no soft mask", ("ablations/no-soft-mask",)),
    Row("lora", "LoRA", (LORA,), ("--model.optimizer.learning_rate=2e-3",)),
    Row("teacher-speech", "the teacher's own speech", (TEACHER_SPEECH,)),
    Row("forward-kl", "forward KL", ("ablations/forward-kl",)),
    Row("reverse-kl", "reverse KL", ("ablations/reverse-kl",)),
    Row("jsd", "Jensen-Shannon divergence", ("ablations/jsd",)),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One training.

    Args:
        row: Its row.
        seed: Its seed.
        first: Whether it is the first run of its row. The weights without training speak once.
    """

    row: Row
    seed: int
    first: bool = False

    @property
    def systems(self) -> tuple[str, ...]:
        """The systems that speak: all for the baseline, further untrained weights for the rows with other windows."""
        if not (self.first and self.row.windowed):
            return ("student",)
        return ("teacher", "untrained", "student") if self.row is BASELINE else ("untrained", "student")

    def __str__(self) -> str:
        return f"{self.row.name}, seed {self.seed}"


def choose(names: Sequence[str] | None) -> list[Row]:
    """The rows of these names (None for all), in the order of the plan, after the baseline that all are compared with.

    Raises:
        ValueError: If there is no row of a name.
    """
    known = [row.name for row in ROWS]
    for name in names or ():
        if name not in known:
            raise ValueError(f"--rows {name}: there is no such row, only {', '.join(known)}")
    return [row for row in ROWS if names is None or row.name in names or row is BASELINE]


def plan(rows: Sequence[Row], seeds: Sequence[int] | None = None) -> list[Run]:
    """The runs, in order.

    The rows that decide the recipe take turns, a seed each, so that pairs to compare come early. The others follow one
    by one.

    Args:
        rows: The rows.
        seeds: Seeds of every row; None for 3 seeds, and 6 for the rows that decide the recipe.
    """
    runs = {
        row: [Run(row, seed, i == 0) for i, seed in enumerate(seeds or (DECIDING_SEEDS if row.decides else SEEDS))]
        for row in rows
    }
    turns = zip(*(own for row, own in runs.items() if row.decides), strict=True)
    others = (own for row, own in runs.items() if not row.decides)
    return [*chain.from_iterable(turns), *chain.from_iterable(others)]
