"""The part of a report that shows one run or study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from omegaconf import DictConfig

from wand.evaluation.result import TestResult
from wand.evaluation.result_files import TABLE, read_result
from wand.files.text import read_text
from wand.report.adaptation import Adaptation, Tile, tiles
from wand.report.charts import BarChart, LineChart
from wand.report.curves import training_charts
from wand.report.figures import Table, cost_charts, cost_table, quality_charts, quality_table
from wand.report.folder import Playable, ReportFolder
from wand.report.listening import check_inside, find_sentences
from wand.report.long_text import find_long_text
from wand.report.markdown import read_tables
from wand.report.source import CONFIG, COVERAGE, Source
from wand.report.study import study_charts, study_sentence, study_tables, study_versions
from wand.runs.old_names import read_config


@dataclass(frozen=True)
class Section:
    """What the page shows of one run or study.

    Args:
        name: Its name, which differs from those of the other sections.
        path: Its path, as the user gave it.
        title: The model and its window; the name, if they are not known.
        sentence: What was adapted and what came out; empty if that is not known.
        tiles: Figures that are shown large.
        sentences: What there is to listen to.
        sounds_from: The folder of the sounds.
        long_text: One long text; None if the run has none.
        long_notes: How it was spoken.
        quality: Charts and tables of the speech.
        cost: Charts and tables of memory and time.
        coverage: Tables of where the attention goes.
        coverage_picture: Its picture, relative to the page; None without one.
        training: Curves of the training.
        versions: Versions with which a study was made, by name.
        config: The config of the run; empty if there is none.
        result: The figures of the run's test.
        result_from: The file with these figures.
    """

    name: str
    path: str
    title: str
    sentence: str = ""
    tiles: Sequence[Tile] = ()
    sentences: Sequence[Playable] = ()
    sounds_from: str = ""
    long_text: Playable | None = None
    long_notes: Sequence[str] = ()
    quality: tuple[Sequence[BarChart], Sequence[Table]] = ((), ())
    cost: tuple[Sequence[BarChart], Sequence[Table]] = ((), ())
    coverage: Sequence[Table] = ()
    coverage_picture: str | None = None
    training: Sequence[LineChart] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    result: TestResult | None = field(default=None, repr=False)
    result_from: str = ""


def make_section(source: Source, name: str, number: int, folder: ReportFolder) -> Section:
    """Collect what the page shows.

    Args:
        source: The run or study.
        name: The name of the section.
        number: Its number, from 1, for the names of its files.
        folder: The folder of the report, which gets the sounds and pictures.
    """
    result = None if source.test is None else read_result(source.test)
    result_from = "" if source.test is None else source.named(source.test / TABLE)
    sentences, sounds_from = find_sentences(source)
    long_text = find_long_text(source)
    config, text = _config(source)
    adaptation = None if config is None else Adaptation.of_config(config, f"{source.folder / CONFIG}")
    return Section(
        name=name,
        path=str(source.folder),
        title=name if adaptation is None else adaptation.title,
        sentence=_sentence(source, adaptation, result),
        tiles=() if result is None else tiles(result),
        sentences=[folder.add(sentence, f"{number}-{i:03d}") for i, sentence in enumerate(sentences, 1)],
        sounds_from=sounds_from,
        long_text=None if long_text is None else folder.add(long_text[1], f"{number}-long"),
        long_notes=[] if long_text is None else long_text[0].notes,
        quality=_quality(source, result, result_from),
        cost=((), ()) if result is None else (cost_charts(result, result_from), [cost_table(result, result_from)]),
        coverage=_coverage(source),
        coverage_picture=_picture(source, folder, f"{number}-{COVERAGE}"),
        training=() if source.run is None else training_charts(source.run),
        versions={} if source.study is None else study_versions(source.study),
        config=text,
        result=result,
        result_from=result_from,
    )


def _sentence(source: Source, adaptation: Adaptation | None, result: TestResult | None) -> str:
    if adaptation is not None:
        return adaptation.sentence(result)
    return "" if source.study is None else study_sentence(source.study)


def _quality(source: Source, result: TestResult | None, result_from: str) -> tuple[Sequence[BarChart], Sequence[Table]]:
    """Charts and tables of the study, which is larger, then those of the test."""
    charts, tables = list[BarChart](), list[Table]()
    if source.study is not None:
        begin = source.begin(source.study)
        charts += study_charts(source.study, begin)
        tables += study_tables(source.study, begin)
    if result is not None and (spoken := quality_table(result, result_from)) is not None:
        charts = charts or quality_charts(result, result_from)
        tables.append(spoken)
    return charts, tables


def _coverage(source: Source) -> list[Table]:
    if source.analysis is None:
        return []
    file = source.analysis / f"{COVERAGE}.md"
    return read_tables(file, source.named(file))


def _picture(source: Source, folder: ReportFolder, stem: str) -> str | None:
    if source.analysis is None or not (file := source.analysis / f"{COVERAGE}.png").is_file():
        return None
    check_inside(file, source.folder)
    return folder.add_picture(file, stem)


def _config(source: Source) -> tuple[DictConfig | None, str]:
    """The config of a run, and its text."""
    if source.run is None or not (source.run / CONFIG).is_file():
        return None, ""
    file = source.run / CONFIG
    return read_config(file)[0], read_text(file)
