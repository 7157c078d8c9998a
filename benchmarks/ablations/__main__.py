"""What the parts of the method are worth: ``python -m benchmarks.ablations --config quickstart``.

Trains the config with the losses of the paper, and with one change of that for each row, with several seeds, and lets
the students speak all test sentences. Every row is compared with the first, paired by seed. The tables go to
``docs/results.md`` and the figures behind them to ``docs/results.jsonl``; both are written again after each run. Runs
whose figures are there are not repeated, and the same command goes on where it was interrupted. Further options go to
``wand fit``, for example ``--trainer.max_steps=200``. The runs are in ``runs/ablations``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from benchmarks.ablations.plan import LORA, ROWS, Run, choose, plan
from benchmarks.ablations.report import write_page
from benchmarks.ablations.results import RunFigures, read_results, write_results
from benchmarks.ablations.runs import FOLDER, Setup
from wand.checks import check_seeds, check_whole_number
from wand.console.interrupt import Interrupted, handling_signals, report
from wand.console.progress import ProgressLines
from wand.lora import check_peft

PAGE = Path("docs/results.md")


def measure(setup: Setup, runs: Sequence[Run], page: Path, command: str, jobs: int = 1) -> list[str]:
    """Do the runs that are not finished, and write page and figures after each of them.

    Args:
        setup: What is trained and how it is heard.
        runs: The runs, in order.
        page: The page to write. The figures are beside it, with the ending ``.jsonl``.
        command: The command that writes the page, for its readers.
        jobs: Number of runs at once.

    Returns:
        What has failed, a line for each run.
    """
    file = page.with_suffix(".jsonl")
    results = read_results(file)
    waiting = [run for run in runs if setup.find(run, results) is None]
    done = len(runs) - len(waiting)
    print(
        f"{len(runs)} runs, {done} of them finished; each run writes its log beside its folder in {FOLDER}", flush=True
    )
    shown = ProgressLines("ablations", len(runs), "runs", done)
    failed = []
    for run, figures in _all(setup, waiting, jobs):
        if isinstance(figures, RunFigures):
            results[figures.key] = figures
            write_results(file, results)
        else:
            failed.append(f"{run}: {figures}")
            print(f"wand: warning: {failed[-1]}", file=sys.stderr, flush=True)
        done += 1
        shown.update(done, str(run))
        write_page(setup, runs, results, page, command)
    write_page(setup, runs, results, page, command)
    return failed


def _all(setup: Setup, runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, RunFigures | ValueError]]:
    """The figures of runs as they are finished, or why there are none."""
    with ThreadPoolExecutor(jobs) as pool:
        begun = {pool.submit(setup.do, run): run for run in runs}
        try:
            for future in as_completed(begun):
                try:
                    figures: RunFigures | ValueError = future.result()
                except ValueError as error:
                    figures = error
                yield begun[future], figures
        finally:
            pool.shutdown(cancel_futures=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Returns:
        Exit status: 0, 1 if a run has failed, 2 after an error of the user, or 128 + the signal that stopped it.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", default="quickstart", help="config to vary (default: quickstart)")
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="ROW",
        help=f"rows besides the baseline (default: all of {', '.join(row.name for row in ROWS[1:])})",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="seeds of every row (default: 0 1 2; 0 to 5 for the first)"
    )
    parser.add_argument(
        "--recognisers", nargs="+", default=["embedded"], help="recognisers, as in wand test (default: embedded)"
    )
    parser.add_argument("--takes", type=int, default=2, help="takes of every test sentence (default: 2)")
    parser.add_argument(
        "--jobs", type=int, default=1, help="number of runs at once, which share the cores (default: 1)"
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write (default: %(default)s)")
    given, options = parser.parse_known_args(arguments)
    try:
        check_whole_number("--jobs", given.jobs, least=1)
        check_whole_number("--takes", given.takes, least=1)
        if given.seeds is not None:
            check_seeds("--seeds", given.seeds)
        threads = max(1, (os.cpu_count() or 1) // given.jobs) if given.jobs > 1 else None
        setup = Setup(given.config, tuple(options), tuple(given.recognisers), given.takes, threads)
        rows = choose(given.rows)
        if any(LORA in row.configs for row in rows):
            check_peft()  # before the first training, not after hours of others
        runs = plan(rows, given.seeds)
        command = shlex.join(
            ["python", "-m", "benchmarks.ablations", *(sys.argv[1:] if arguments is None else arguments)]
        )
        with handling_signals():
            return 1 if measure(setup, runs, given.page, command, given.jobs) else 0
    except ValueError as error:
        print(f"wand: error: {error}", file=sys.stderr)
        return 2
    except Interrupted as stopped:
        report(stopped)
        return stopped.status


if __name__ == "__main__":
    sys.exit(main())
