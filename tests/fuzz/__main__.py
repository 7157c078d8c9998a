"""`python -m tests.fuzz --cases 10000 --seed 1`: run every group, and print what came of the cases."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.fuzz.groups import GROUPS
from tests.fuzz.harness import BAD, OUTCOMES, WRONGLY_REFUSED, Outcome, run_case
from tests.fuzz.running import FOLDER, enter, group_of, outcomes


def main() -> int:
    """Returns 0 if every case came out as it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="number of cases of all groups (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all cases (default: 0)")
    parser.add_argument("--group", choices=sorted(GROUPS), action="append", help="only this group (may be repeated)")
    parser.add_argument("--case", type=int, help="only the case of this number, with its traceback")
    parser.add_argument("--workers", type=int, default=2, help="number of processes (default: 2)")
    parser.add_argument("--markdown", type=Path, help="file for the table")
    options = parser.parse_args()
    names = options.group or list(GROUPS)
    with tempfile.TemporaryDirectory(prefix="wand-fuzz-") as folder:
        os.environ[FOLDER] = folder
        if options.case is not None:
            enter()
            outcome = run_case(group_of(names[0]), options.seed, options.case)
            print(f"{outcome.kind}: {outcome.what}\n{outcome.detail}")
            return int(outcome.kind in (BAD, WRONGLY_REFUSED))
        found = _collect(outcomes(names, options.cases // len(names), options.seed, options.workers), options.cases)
    table = _table(found)
    print(table)
    if options.markdown is not None:
        options.markdown.write_text(f"Seed {options.seed}.\n\n{table}\n")
    return int(any(counts[BAD] + counts[WRONGLY_REFUSED] for counts in found.values()))


def _collect(results: Iterable[tuple[str, list[Outcome]]], total: int) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    begin, done, shown = time.monotonic(), 0, 0.0
    for name, some in results:
        found.setdefault(name, Counter()).update(outcome.kind for outcome in some)
        done += len(some)
        for outcome in some:
            if outcome.kind in (BAD, WRONGLY_REFUSED):
                print(
                    f"{name} --case {outcome.index}: {outcome.kind}: {outcome.what[:200]}: {outcome.detail}", flush=True
                )
        if time.monotonic() - shown > 10 or done == total:
            shown = time.monotonic()
            print(f"{done} of {total} cases, {name}, {shown - begin:.0f} s", file=sys.stderr, flush=True)
    return found


def _table(found: dict[str, Counter[str]]) -> str:
    rows = [
        [name, str(sum(counts.values())), *(str(counts[kind]) for kind in OUTCOMES)] for name, counts in found.items()
    ]
    total = sum(found.values(), Counter[str]())
    rows.append(["all", str(sum(total.values())), *(str(total[kind]) for kind in OUTCOMES)])
    lines = [["group", "cases", *OUTCOMES], ["---"] * (2 + len(OUTCOMES)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
