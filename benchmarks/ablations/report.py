"""The page of results: the tables of the paper, all rows, and a sentence for each row, computed from the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.ablations.figures import Line, Measure, Results, collect
from benchmarks.ablations.plan import BASELINE, Run
from benchmarks.ablations.results import Key, RunFigures
from benchmarks.ablations.runs import Setup
from benchmarks.ablations.statistics import Difference
from benchmarks.ablations.windows import windows_section
from wand.console.tables import markdown
from wand.files.writing import write_text


def write_page(setup: Setup, runs: Sequence[Run], measured: Mapping[Key, RunFigures], page: Path, command: str) -> None:
    """Write the page from the runs that are finished; nothing before the first of the baseline is.

    Args:
        setup: What is trained and how it is heard.
        runs: The runs of the page.
        measured: The figures of finished runs.
        page: The page.
        command: The command that writes it, for readers.
    """
    found = {run: figures for run in runs if (figures := setup.find(run, measured)) is not None}
    results = collect(found)
    if results is None:
        return
    parts = [
        f"# What each part of the method is worth\n\n{_about(setup, runs, results, command)}",
        f"## Losses\n\n{_table(results, _losses(results))}",
        f"## Curriculum\n\n{_table(results, _curriculum(results))}",
        f"## Windows\n\n{windows_section(results)}",
        f"## All rows\n\n{_all_rows(results)}",
        f"## What each row shows\n\n{_sentences(results)}",
    ]
    write_text(page, "\n\n".join(parts) + "\n")


def _about(setup: Setup, runs: Sequence[Run], results: Results, command: str) -> str:
    """How the figures were made."""
    last = max(results.about, key=lambda figures: figures.date)
    machines = sorted({figures.machine for figures in results.about})
    baseline = results.baseline
    sentences = len(next(iter(last.systems["student"].heard.values())).letters)
    takes = f"{setup.takes} takes each, with the same seeds in every row" if setup.takes > 1 else "one take each"
    return (
        f"Written by `{command}`, {last.date}; "
        f"{len(results.about)} of {len(runs)} runs are finished. {'; '.join(machines)}. Heard by: "
        f"{', '.join(results.recognisers)}.{_of_recordings(results)}\n\n"
        f"Each row is a separate training. *{baseline.title}* is the config with the losses of the paper; every other "
        f"row changes one thing of it. All {sentences} test sentences of the config's data are spoken, {takes}, by the "
        f"checkpoint that agrees most with the teacher; rates are over all letters and words, and a take has at most "
        f"as many errors as its text has letters and words. KL and agreement are those of the recorded test "
        f"sentences. A difference is that to *{baseline.title}*, paired by seed; brackets: 95 % interval of Student's "
        f"t over the seeds of the training. It says how much the seed of the training matters, not how much the choice "
        f"of the sentences does. A difference whose interval holds 0 is not resolved. About one in twenty of the "
        f"differences without an effect appears as resolved."
    )


def _of_recordings(results: Results) -> str:
    """How the recordings are heard, after a round trip through the codec."""
    if results.recorded is None:
        return ""
    rates = ", ".join(f"{100 * heard.cer:.2f} % ({name})" for name, heard in results.recorded.items())
    return f" CER of the recordings after a round trip through the codec: {rates}."


def _losses(results: Results) -> list[Line]:
    names = ("ce-only", "kl-only", BASELINE.name)
    return [*_references(results), *(results.lines[name] for name in names if name in results.lines)]


def _curriculum(results: Results) -> list[Line]:
    names = ("no-curriculum", "no-soft-mask", BASELINE.name, "kl-only-no-curriculum", "kl-only")
    return [results.lines[name] for name in names if name in results.lines]


def _references(results: Results) -> list[Line]:
    own = results.untrained.get(BASELINE.name)
    return [line for line in (results.teacher, own) if line is not None]


def _other_windows(results: Results) -> list[Line]:
    return [line for name, line in results.untrained.items() if name != BASELINE.name]


def _seeds(line: Line) -> str:
    return str(len(line.by_seed)) if line.trained else "-"


def _table(results: Results, lines: Sequence[Line]) -> str:
    """The mean of every measure."""
    cells = [[line.title, _seeds(line), *(m.show(line.mean(m)) for m in results.measures)] for line in lines]
    return markdown(["", "seeds", *(measure.title for measure in results.measures)], cells)


def _all_rows(results: Results) -> str:
    """Mean and difference of every measure, and the bytes of the cache."""
    lines = []
    for line in [*_references(results), *results.lines.values(), *_other_windows(results)]:
        size = next(iter(line.by_seed.values())).kv_bytes / 2**20
        cells = [line.title, _seeds(line), f"{size:.2f}"]
        for measure in results.measures:
            cells.append(measure.show(line.mean(measure)))
            if line is results.baseline:
                cells.append("")
            else:
                cells.append(_show(measure, line.against(results.baseline, measure)))
        lines.append(cells)
    titles = ["", "seeds", f"cache after {results.about[0].seconds:g} s, MiB"]
    for measure in results.measures:
        titles += [measure.title, "difference"]
    return markdown(titles, lines)


def _show(measure: Measure, difference: Difference) -> str:
    """A difference with its interval, or that it is not resolved."""
    if difference.interval is None:
        return f"{measure.show(difference.mean, True)} (one seed)"
    low, high = (measure.show(bound, True) for bound in difference.interval)
    shown = f"{measure.show(difference.mean, True)} [{low}, {high}]"
    return f"**{shown}**" if difference.resolved else f"not resolved: {shown}"


def _sentences(results: Results) -> str:
    lines = [line for name, line in results.lines.items() if name != BASELINE.name]
    return "\n".join(
        sentence(line, results.baseline, results.measures) for line in [*results.untrained.values(), *lines]
    )


def sentence(line: Line, baseline: Line, measures: Sequence[Measure]) -> str:
    """What a line shows against the baseline, and what it does not."""
    shown, hidden, count = [], [], 0
    for measure in measures:
        difference = line.against(baseline, measure)
        count = difference.seeds
        if difference.interval is None:
            continue
        low, high = difference.interval
        if difference.resolved:
            better = (difference.mean < 0) == measure.less_is_better
            bounds = sorted((abs(low), abs(high)))
            shown.append(
                f"{measure.title} is {'better' if better else 'worse'} by {measure.show(abs(difference.mean))} "
                f"{measure.unit} [{measure.show(bounds[0])}, {measure.show(bounds[1])}]"
            )
        else:
            hidden.append(
                f"{measure.title} (from {measure.show(low, True)} to {measure.show(high, True)} {measure.unit})"
            )
    said = f"* **{line.title}** against *{baseline.title}*"
    if count < 2:
        return f"{said}: one seed shows no difference and excludes none."
    said += f", {count} seeds. "
    said += f"It shows: {'; '.join(shown)}. " if shown else "It shows no difference. "
    if hidden:
        said += f"It does not show a difference of {'; '.join(hidden)}: not resolved, all of this range is possible. "
    if not line.trained:
        said += (
            f"Without training there is one set of weights: the intervals come from the seeds of *{baseline.title}*."
        )
    return said.strip()
