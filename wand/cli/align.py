"""`wand align`: find the attention heads of a model that look at the text that is spoken."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from wand.alignment.ranking import THRESHOLD, HeadRanking
from wand.alignment.reading import check_readable
from wand.alignment.record import write_record
from wand.alignment.report import AlignmentReport, save, show
from wand.checks import check_device, check_number, check_whole_number
from wand.cli import FLAG, FLAG_HELP
from wand.cli.options import OptionParser
from wand.cli.parts.opening import examples_of, folder_of_model, open_data, open_pretrained
from wand.console.progress import progress
from wand.data.datamodule import SpeechDataModule
from wand.data.sources.teacher_samples import TeacherSamples
from wand.evaluation.takes import spread
from wand.files.writing import check_folder
from wand.model.alignment import AlignmentHead
from wand.model.backbone import Backbone
from wand.passages.rules import reason_against_passages
from wand.runs.checkpoints import RUNS, is_export, load_original
from wand.speech.synthesizer import Synthesizer, load


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the command."""
    parser = OptionParser(
        prog="wand align",
        description="Find and rank the attention heads that look at the text that is spoken. The model reads recorded "
        "sentences of the validation split. If the best head passes the threshold, it is noted in alignment.json "
        "of the run or export, and long texts are spoken as passages; else an empty list is noted, and they are split.",
    )
    parser.add_argument("--ckpt_path", help="run folder, checkpoint file, `last` (newest run), or folder of an export")
    parser.add_argument(
        "--config",
        help="config whose data are read (default: those of the run); without --ckpt_path, its pretrained model is "
        "ranked under its window, and nothing is noted",
    )
    parser.add_argument("--sentences", type=int, default=32, help="number of recorded sentences (default: 32)")
    parser.add_argument(
        "--threshold", type=float, default=THRESHOLD, help="least score of a head that passes (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for the whole ranking (default: RUN/align, or runs/align-MODEL)"
    )
    parser.add_device()
    parser.add_argument(FLAG, action="store_true", help=FLAG_HELP)
    options = parser.parse_args(arguments)
    check_whole_number("--sentences", options.sentences, least=1)
    check_number("--threshold", options.threshold, "(0, 1]")
    check_device(options.device)
    if options.out is not None:
        check_folder(options.out)
    return options


def main(arguments: list[str]) -> AlignmentReport:
    """Rank the heads, print them, and note the best one in the folder of the model."""
    options = parse(arguments)
    opened = _open(options)
    check_folder(opened.out)
    model, examples = opened.model, examples_of(opened.data, opened.speaker, "validation")
    backbone = model.backbone.to(options.device)
    ranking = HeadRanking(backbone, model.window)
    chosen = spread(examples, options.sentences)
    with progress("align", len(chosen), "sentences", stream=sys.stderr) as done:
        for example in chosen:
            ranking.add(example.conditioning, example.codes)
            done.advance()
    report = AlignmentReport(opened.name, model.window.plain, len(chosen), options.threshold, ranking.ranked())
    show(report)
    save(report, opened.out)
    for line in _note(opened, report):
        print(line)
    return report


def _note(opened: _Opened, report: AlignmentReport) -> list[str]:
    """Note the heads, and say what follows."""
    model, heads, before = opened.model, report.heads, opened.model.backbone.alignment_heads
    said = _names(heads) if heads else "an empty list"
    model.backbone.alignment_heads = heads
    if opened.folder is None:
        lines = [f"Nothing is noted for a pretrained model. In alignment.json of a run it would be {said}."]
    else:
        lines = [f"Written to {write_record(opened.folder, model.backbone, report.about())}: {said}."]
        reason = reason_against_passages(model.backbone, model.window, model.codec)
        if reason is not None and heads:
            lines.append(f"This model cannot speak passages, because {reason}: long texts are split.")
        else:
            lines.append("So long texts are split." if reason else "So long texts are spoken as passages.")
    if before and before != heads:
        lines.append(f"Until now, its weights or its alignment.json have named {_names(before)}.")
    return [*lines, f"The whole ranking is in {opened.out}."]


def _names(heads: tuple[AlignmentHead, ...]) -> str:
    return ", ".join(f"head ({head.layer}, {head.head})" for head in heads)


@dataclass(frozen=True, eq=False)
class _Opened:
    """A model and its data.

    Args:
        name: Name of the model, for tables.
        model: The model.
        data: Its data.
        speaker: The model whose data they are.
        folder: The folder in which its heads are noted; None if there is none.
        out: Folder for the ranking.
    """

    name: str
    model: Synthesizer
    data: SpeechDataModule
    speaker: Backbone
    folder: Path | None
    out: Path


def _open(options: argparse.Namespace) -> _Opened:
    """Open the model and name its data. Refuses what cannot be ranked, before data are made."""
    path = options.ckpt_path
    if path is None:
        return _open_pretrained(options)
    folder = folder_of_model(path, "its heads are noted in the folder of a run or an export, so give one of these")
    check_folder(folder)
    data = open_data(path, options.config)
    model = load(path)
    check_readable(model.backbone)
    speaker = model.backbone
    if isinstance(data.source, TeacherSamples):
        if is_export(folder):
            raise ValueError("the data are the original model's own speech, which an export cannot make: give the run")
        speaker = load_original(path)
    name = f"{type(model.backbone).__name__} of {folder}"
    return _Opened(name, model, data, speaker, folder, options.out or folder / "align")


def _open_pretrained(options: argparse.Namespace) -> _Opened:
    model, data = open_pretrained(options.config)
    check_readable(model.backbone)
    name = type(model.backbone).__name__
    return _Opened(f"{name}, pretrained", model, data, model.backbone, None, options.out or RUNS / f"align-{name}")
