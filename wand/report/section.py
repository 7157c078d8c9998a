"""The part of a report that shows one run or study."""

from __future__ import annotations

from collections.abc import Sequence
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
from wand.report.listening import find_sentences
from wand.report.source import CONFIG, Source
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
        quality: Charts and tables of the speech.
        cost: Charts and tables of memory and time.
        training: Curves of the training.
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
    quality: tuple[Sequence[BarChart], Sequence[Table]] = ((), ())
    cost: tuple[Sequence[BarChart], Sequence[Table]] = ((), ())
    training: Sequence[LineChart] = ()
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
    config, text = _config(source)
    adaptation = None if config is None else Adaptation.of_config(config, f"{source.folder / CONFIG}")
    spoken = None if result is None else quality_table(result, result_from)
    return Section(
        name=name,
        path=str(source.folder),
        title=name if adaptation is None else adaptation.title,
        sentence="" if adaptation is None else adaptation.sentence(result),
        tiles=() if result is None else tiles(result),
        sentences=[folder.add(sentence, f"{number}-{i:03d}") for i, sentence in enumerate(sentences, 1)],
        sounds_from=sounds_from,
        quality=((), ()) if result is None else (quality_charts(result, result_from), [spoken] if spoken else []),
        cost=((), ()) if result is None else (cost_charts(result, result_from), [cost_table(result, result_from)]),
        training=() if source.run is None else training_charts(source.run),
        config=text,
        result=result,
        result_from=result_from,
    )


def _config(source: Source) -> tuple[DictConfig | None, str]:
    """The config of a run, and its text."""
    if source.run is None or not (source.run / CONFIG).is_file():
        return None, ""
    file = source.run / CONFIG
    return read_config(file)[0], read_text(file)
