"""What a path holds for a report: a run with its tests, or a study."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wand.evaluation.result_files import TABLE
from wand.evaluation.study.description import STUDY
from wand.runs.checkpoints import LAST, find_checkpoint, run_folder

CONFIG = "config.yaml"
COVERAGE = "coverage"
EVENTS = "events.out.tfevents.*"


@dataclass(frozen=True)
class Source:
    """The folders that one section of a report is made from.

    Args:
        folder: The run or the study. Files are named relative to it.
        run: The run; None for a study outside a run.
        test: The folder of ``wand test``, or else of the test at the end of the fit; None if there is neither.
        study: The folder of ``wand evaluate``; None if there is none.
        analysis: The folder of ``wand analyze``; None if there is none.
    """

    folder: Path
    run: Path | None = None
    test: Path | None = None
    study: Path | None = None
    analysis: Path | None = None

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    def named(self, file: Path) -> str:
        """The name of a file in the folder."""
        return file.relative_to(self.folder).as_posix()

    def begin(self, folder: Path) -> str:
        """The begin of the names of the files in one of the folders."""
        return "" if folder == self.folder else f"{self.named(folder)}/"


def find_source(path: str | Path) -> Source:
    """Find what a path holds.

    Args:
        path: A run folder, a checkpoint in it, ``last`` (the newest run), or the folder of a study.

    Raises:
        ValueError: If it holds nothing that can be reported.
    """
    folder = Path(path)
    if str(path) == LAST or folder.is_file():
        found = run_folder(find_checkpoint(path))
        if found is None:
            raise ValueError(f"{path} is in no run folder: give the folder of a run or of a study")
        folder = found
    if not folder.is_dir():
        raise ValueError(f"no folder at {path}: give the folder of a run or of a study, or `last`")
    if (folder / STUDY).is_file():
        if not (folder / TABLE).is_file():
            raise ValueError(f"the study {folder} is not finished: it has no {TABLE} yet")
        return Source(folder, study=folder)
    source = Source(
        folder,
        run=folder,
        test=_first(folder / name for name in ("test", "closing") if (folder / name / TABLE).is_file()),
        study=_first(file.parent for file in folder.glob(f"evaluation/{TABLE}") if (file.parent / STUDY).is_file()),
        analysis=_first(file.parent for file in folder.glob(f"analysis/{COVERAGE}.md")),
    )
    if not (source.test or source.study or source.analysis or any(folder.glob(EVENTS))):
        raise ValueError(
            f"{folder} holds nothing to report: it has no {STUDY}, no test/{TABLE}, no closing/{TABLE}, no analysis "
            f"and no curves of a training"
        )
    return source


def _first(folders: Iterable[Path]) -> Path | None:
    return next(iter(folders), None)
