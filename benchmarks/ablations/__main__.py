"""What the parts of the method are worth: ``python -m benchmarks.ablations --config quickstart``.

Trains the config as it is and with one change for each row, with several seeds, and lets the students speak all test
sentences. Every row is compared with the config as it is, paired by seed. The tables go to ``docs/results.md``, which
is written again after each run. The same command goes on where it was interrupted; finished runs are not repeated.
Further options go to ``wand fit``, for example ``--trainer.max_steps=200``. The runs are in ``runs/ablations``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ablations.plan import ROWS, Run, choose, plan
from benchmarks.ablations.report import write_page
from benchmarks.ablations.runs import FOLDER, Setup
from wand.console.interrupt import Interrupted, handling_signals, report
from wand.console.progress import ProgressLines

PAGE = Path("docs/results.md")


def measure(setup: Setup, runs: Sequence[Run], page: Path) -> list[str]:
    """Do the runs that are not finished, and write the page after each of them.

    Returns:
        What has failed, a line for each run.
    """
    waiting = [run for run in runs if setup.figures(run) is None]
    done = len(runs) - len(waiting)
    print(
        f"{len(runs)} runs, {done} of them finished; each run writes its log beside its folder in {FOLDER}", flush=True
    )
    shown = ProgressLines("ablations", len(runs), "runs", done)
    failed = []
    for run in waiting:
        try:
            setup.do(run)
        except ValueError as error:
            failed.append(f"{run}: {error}")
            print(f"wand: warning: {failed[-1]}", file=sys.stderr, flush=True)
        done += 1
        shown.update(done, str(run))
        write_page(setup, runs, page)
    write_page(setup, runs, page)
    return failed


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
        help=f"rows besides the config as it is (default: all of {', '.join(row.name for row in ROWS[1:])})",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="seeds of every row (default: 0 1 2; 0 to 5 for the first)"
    )
    parser.add_argument(
        "--recognisers", nargs="+", default=["embedded"], help="recognisers, as in wand test (default: embedded)"
    )
    parser.add_argument("--takes", type=int, default=2, help="takes of every test sentence (default: 2)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write (default: %(default)s)")
    given, options = parser.parse_known_args(arguments)
    setup = Setup(given.config, tuple(options), tuple(given.recognisers), given.takes)
    try:
        with handling_signals():
            return 1 if measure(setup, plan(choose(given.rows), given.seeds), given.page) else 0
    except ValueError as error:
        print(f"wand: error: {error}", file=sys.stderr)
        return 2
    except Interrupted as stopped:
        report(stopped)
        return stopped.status


if __name__ == "__main__":
    sys.exit(main())
