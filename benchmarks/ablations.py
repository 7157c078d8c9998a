"""Ablations of the method: ``python -m benchmarks.ablations --config quickstart``.

Fits the config as it is, without distillation, without cross-entropy, and without the curriculum, with every seed. Then
it tests each run (all test sentences, one take) and writes ``runs/ablations.md``. Finished runs are not repeated, nor
tests that the same recogniser has heard. Further options go to ``wand fit``, for example ``--trainer.max_steps 200``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from wand.console.tables import markdown
from wand.recognition import open_recogniser

# Every seed is a separate training, so one take of each sentence is enough.
TEST = ["--table.full.seeds=1", "--table.full.windows=[]", "--table.full.student_full=false", "--table.full.sounds=0"]
VARIANTS = {
    "whole method": None,
    "no distillation": "no-kd",
    "no cross-entropy": "no-ce",
    "no curriculum": "no-curriculum",
}


def run_name(variant: str, seed: int) -> str:
    """Name of a run and of its folder."""
    return f"ablation-{variant.replace(' ', '-')}-{seed}"


def measure(config: str, variant: str, seed: int, options: list[str], recogniser: str | None = None) -> dict[str, Any]:
    """The table of one variant and seed. Fits and tests only if the results do not exist yet.

    Args:
        config: The config to vary.
        variant: One of `VARIANTS`.
        seed: Seed of the run.
        options: Further options of the fit.
        recogniser: The recogniser of the test, as in ``wand test``; None takes that of the run.
    """
    folder = Path("runs") / run_name(variant, seed)
    overlay = VARIANTS[variant]
    if not (folder / "closing").is_dir():
        overlays = [] if overlay is None else ["--config", overlay]
        seeds = [f"--seed_everything={seed}", f"--data.seed={seed}", f"--name={folder.name}"]
        wand("fit", "--config", config, *overlays, *seeds, *options)
    file = folder / "test" / "table.json"
    ear = None if recogniser is None else open_recogniser(recogniser).name
    if not file.is_file() or (ear is not None and _read(file).get("recogniser") != ear):
        chosen = [] if recogniser is None else [f"--recogniser={recogniser}"]
        wand("test", "--ckpt_path", str(folder), *chosen, *TEST)
    return _read(file)


def _read(file: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(file.read_text())
    return table


def wand(*arguments: str) -> None:
    """Run a wand command in a separate process."""
    subprocess.run([sys.executable, "-m", "wand.cli", *arguments], check=True)


def to_markdown(tables: dict[str, list[dict[str, Any]]]) -> str:
    """One line per variant: the mean of the student's figures, and the figure of every seed."""
    first = next(iter(tables.values()))[0]
    lines = []
    for name in ("teacher", "untrained"):
        row = next(row for row in first["rows"] if row["system"]["name"] == name)
        lines.append([name, *_cells([(row, None)])])
    for variant, runs in tables.items():
        students = [next(row for row in run["rows"] if row["system"]["name"] == "student") for run in runs]
        won_back = [run["won_back"].get("cer") for run in runs]
        lines.append([variant, *_cells(list(zip(students, won_back, strict=True)))])
    table = markdown(["variant", "CER %", "WER %", "agree %", "KL", "won back of CER %"], lines)
    return f"{table}\n\nHeard by {first.get('recogniser')}.\n"


def _cells(rows: list[tuple[dict[str, Any], dict[str, Any] | None]]) -> list[str]:
    columns = [
        [100 * row["speech"]["cer"] for row, _ in rows],
        [100 * row["speech"]["wer"] for row, _ in rows],
        [100 * row["agreement"] for row, _ in rows],
        [row["kl"] for row, _ in rows],
        [100 * won["share"] for _, won in rows if won is not None],
    ]
    digits = (1, 1, 1, 4, 0)
    return [_mean(values, places) for values, places in zip(columns, digits, strict=True)]


def _mean(values: list[float], places: int) -> str:
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{places}f}"
    return mean if len(values) == 1 else f"{mean} ({', '.join(f'{value:.{places}f}' for value in values)})"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="quickstart", help="config to vary (default: quickstart)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of the runs (default: 0 1)")
    parser.add_argument("--recogniser", help="recogniser of the tests, as in wand test (default: that of the config)")
    arguments, options = parser.parse_known_args()
    tables = {
        variant: [measure(arguments.config, variant, seed, options, arguments.recogniser) for seed in arguments.seeds]
        for variant in VARIANTS
    }
    text = to_markdown(tables)
    Path("runs/ablations.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
