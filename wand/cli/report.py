"""`wand report`: write a page about runs and studies."""

from __future__ import annotations

import argparse
from pathlib import Path

from wand.cli import FLAG, FLAG_HELP
from wand.cli.options import OptionParser
from wand.report.long_text import speak_long_text
from wand.report.page import check_report_folder, write_report
from wand.report.source import find_source


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the command."""
    parser = OptionParser(
        prog="wand report",
        description="Write a folder with one page about runs and studies: what was adapted and what came out, sounds "
        "to listen to and to compare blindly, tables, charts, the curves of the training and the config. The page "
        "opens from the disk and needs no network.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN_OR_STUDY",
        help="run folder, checkpoint file, `last` (newest run), or the folder of a study of `wand evaluate`",
    )
    parser.add_argument(
        "--out", type=Path, help="folder to write; an older report in it is replaced (default: `report` in the first)"
    )
    parser.add_argument(
        "--long_text",
        type=Path,
        metavar="FILE",
        help="text file that the student of each run speaks first, in one continuous decode and sentence by sentence; "
        "kept in RUN/evaluation/long, which later reports show",
    )
    parser.add_argument(FLAG, action="store_true", help=FLAG_HELP)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> Path:
    """Write the report and say where it is."""
    options = parse(arguments)
    sources = [find_source(path) for path in options.runs]
    out = options.out if options.out is not None else sources[0].folder / "report"
    check_report_folder(out)
    if options.long_text is not None:
        for source in sources:
            speak_long_text(source, options.long_text)
    page = write_report(sources, out)
    print(f"The report is in {page}: open it in a browser.")
    return page
