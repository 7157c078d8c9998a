"""The page of a report, and the folder that it is written to."""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from wand.evaluation.result import TestResult
from wand.files.writing import check_folder, partial_of, put_in_place, write_text
from wand.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from wand.report.figures import Table, student_table
from wand.report.folder import LEFT_BY_SYSTEMS, MARK, PAGE, PICTURES, SOUNDS, ReportFolder
from wand.report.section import Section, make_section
from wand.report.source import Source
from wand.version import __version__


def write_report(sources: Sequence[Source], out: Path) -> Path:
    """Write the report of runs and studies.

    Args:
        sources: The runs and studies; each gets a section.
        out: The folder to write. An older report in it is replaced.

    Returns:
        The page.

    Raises:
        ValueError: If the folder holds something else than a report, or a file of a run cannot be read.
    """
    check_report_folder(out)
    target = Path(os.path.realpath(out))  # a link to a folder stays
    made = partial_of(target)
    made.mkdir(parents=True)
    try:
        folder = ReportFolder(made)
        names = unique_names(sources)
        sections = [
            make_section(source, name, number, folder)
            for number, (source, name) in enumerate(zip(sources, names, strict=True), 1)
        ]
        write_text(made / PAGE, render(sections))
        put_in_place(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return out / PAGE


def check_report_folder(out: Path) -> None:
    """Check that a folder can be written, and that nothing but an older report would be lost.

    Raises:
        ValueError: If it cannot, or something would.
    """
    check_folder(out)
    if not out.is_dir() or not any(out.iterdir()):
        return
    page = out / PAGE
    if not page.is_file() or MARK not in page.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"--out {out} holds other files than a report: give a new folder")
    others = sorted({file.name for file in out.iterdir()} - {PAGE, SOUNDS, PICTURES, *LEFT_BY_SYSTEMS})
    if others:
        raise ValueError(f"--out {out} holds {others[0]}, which is no part of a report: move it, or give a new folder")


def unique_names(sources: Sequence[Source]) -> list[str]:
    """The names of folders; those that appear several times become paths."""
    counts = Counter(source.name for source in sources)
    return [source.name if counts[source.name] == 1 else str(source.folder) for source in sources]


def render(sections: Sequence[Section]) -> str:
    """The page as HTML. All texts and names are escaped."""
    environment = Environment(
        loader=PackageLoader("wand.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    students = compare_students(sections)
    return environment.get_template("index.html").render(
        sections=sections,
        students=students,
        trials=trials(sections),
        title=sections[0].title if len(sections) == 1 else f"{len(sections)} runs and studies",
        versions=versions(),
        written=datetime.now().strftime("%d %B %Y, %H:%M"),
        size={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
    )


def compare_students(sections: Sequence[Section]) -> Table | None:
    """The students of the runs in one table; None with fewer than two."""
    found = [
        (section, row)
        for section in sections
        if section.result is not None
        for row in section.result.rows
        if row.system.name == "student"
    ]
    if len(found) < 2:
        return None
    first = found[0][0].result
    assert first is not None
    rows = [row for _, row in found]
    spoken = all(row.speech is not None for row in rows)
    common = [
        metric for metric in first.metrics if spoken and all(metric.name in r.speech.metrics for r in rows if r.speech)
    ]
    result = TestResult(rows, {}, common, first.recogniser)
    source = ", ".join(f"{section.name}/{section.result_from}" for section, _ in found)
    return student_table([(section.name, row) for section, row in found], result, source)


def trials(sections: Sequence[Section]) -> list[dict[str, object]]:
    """The sentences of all sections for the blind comparison: id, text, and the sounds by the name of their system.

    The same sentence of several sections is one, so that the students of several runs can be compared.
    """
    merged: dict[tuple[str, str], dict[str, str]] = {}
    for section in sections:
        for sentence in section.sentences:
            for player in sentence.players:
                label = player.system if len(sections) == 1 else f"{section.name}: {player.system}"
                merged.setdefault((sentence.id, sentence.text), {})[label] = player.src
    return [{"id": id, "text": text, "sounds": sounds} for (id, text), sounds in merged.items()]


def versions() -> dict[str, str]:
    """What wrote the report."""
    return {
        "wand": __version__,
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "lightning": version("lightning"),
        "Python": platform.python_version(),
        "machine": f"{platform.system()}, {platform.machine()}",
    }
