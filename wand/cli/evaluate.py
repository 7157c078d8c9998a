"""`wand evaluate`: let teacher, untrained windows, students and exports speak the same sentences, and compare them."""

from __future__ import annotations

import argparse
from pathlib import Path

from wand.checks import check_device, check_number, check_seeds, check_whole_number
from wand.cli import FLAG, FLAG_HELP
from wand.cli.options import OptionParser
from wand.cli.parts.opening import examples_of, folder_of_results, open_data
from wand.data.sources.teacher_samples import TeacherSamples
from wand.evaluation.metric import check_metrics
from wand.evaluation.metrics import DEFAULT, KNOWN, open_metric
from wand.evaluation.study.description import Description, describe, settle
from wand.evaluation.study.lists import read_list
from wand.evaluation.study.sentences import ListedSentences, PreparedSentences, Sentences
from wand.evaluation.study.study import Study
from wand.evaluation.study.systems import Speakers, open_speakers
from wand.evaluation.study.table import make_table
from wand.evaluation.study.table_text import show, write_table
from wand.evaluation.takes import speakable, spread
from wand.evaluation.voices import ReferenceVoices
from wand.files.turns import Task
from wand.files.writing import check_folder
from wand.recognition import EMBEDDED, Recogniser, open_recogniser
from wand.runs.checkpoints import is_export, load_original, setting_of_run
from wand.runs.trust import search_current_folder


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the command."""
    parser = OptionParser(
        prog="wand evaluate",
        description="Let systems speak the same sentences: the teacher and the untrained window of the first run, and "
        "every student or export that is named. Recorded speech is a system, too. Every take is a row of rows.jsonl. "
        "The tables show every metric with its 95 % interval, and paired differences from the teacher. A command that "
        "was interrupted goes on when it is given again.",
    )
    parser.add_argument("systems", nargs="+", metavar="RUN_OR_EXPORT", help="run, checkpoint file, export, or `last`")
    parser.add_argument("--students_only", action="store_true", help="leave out the teacher and its windows")
    parser.add_argument("--no_recordings", action="store_true", help="do not measure the recordings as a system")
    parser.add_argument(
        "--windows", type=int, nargs="+", default=[], help="further windows of the untrained weights, in columns"
    )
    parser.add_argument(
        "--list",
        type=Path,
        help="sentences in the format of Seed-TTS-eval, one a line: name|prompt text|prompt sound|text, and perhaps "
        "|recorded sound (default: the test split of the first run)",
    )
    parser.add_argument("--config", help="config whose test split is spoken (default: that of the first run)")
    parser.add_argument("--sentences", type=int, help="number of sentences, spread evenly (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds, one take for each (default: 0)")
    parser.add_argument(
        "--max_seconds",
        type=float,
        default=30.0,
        help="longest speech of a sentence without a recording, in seconds (default: %(default)s)",
    )
    parser.add_argument(
        "--recogniser", nargs="+", help="one or more recognisers, as in wand test (default: that of the first run)"
    )
    parser.add_argument("--language", help="language of the texts (default: that of the model, or en)")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"further metrics: {', '.join(name for name in KNOWN if name not in DEFAULT) or 'a class path'}, or the "
        f"path of your own class; NAME:ARGUMENT gives it an argument (always: {', '.join(DEFAULT)})",
    )
    parser.add_argument(
        "--sounds", type=int, default=10, help="number of sentences whose sounds are kept (default: %(default)s)"
    )
    parser.add_argument(
        "--shard",
        default="1/1",
        metavar="I/N",
        help="make only every N-th group of sentences, from the I-th on; the command that finds all groups finished "
        "makes the tables (default: 1/1)",
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the study (default: evaluation in the first system's folder)"
    )
    parser.add_device()
    parser.add_argument(FLAG, action="store_true", help=FLAG_HELP)
    options = parser.parse_args(arguments)
    _check(options)
    return options


def _check(options: argparse.Namespace) -> None:
    for name, least in (("sentences", 1), ("sounds", 0)):
        if getattr(options, name) is not None:
            check_whole_number(f"--{name}", getattr(options, name), least=least)
    for size in options.windows:
        check_whole_number("--windows", size, least=1)
    check_seeds("--seeds", options.seeds)
    check_number("--max_seconds", options.max_seconds, "(0, 86400]")
    if options.windows and options.students_only:
        raise ValueError("--windows needs the teacher's weights, which --students_only leaves out: give one of them")
    if options.list is not None and options.config is not None:
        raise ValueError("--list and --config both choose the sentences: give one of them")
    options.shard = Task.parse(options.shard)
    check_device(options.device)


def main(arguments: list[str]) -> None:
    """Run the study, or go on with it, and print its tables when all rows are there."""
    options = parse(arguments)
    if options.recogniser or options.metrics:  # only what the user typed may be imported from the current folder
        search_current_folder()
    folder = folder_of_results(options.systems[0], "evaluation", options.out)
    check_folder(folder)
    speakers = open_speakers(options.systems, options.device, options.students_only, options.windows)
    language = options.language or speakers.first.language or "en"
    heard_by = options.recogniser or [_recogniser_of_run(options)]
    measured = list(dict.fromkeys([*DEFAULT, *options.metrics]))
    metrics = [open_metric(name) for name in measured]
    check_metrics(metrics)
    study = Study(
        folder,
        speakers,
        _sentences(options, speakers, language),
        options.seeds,
        _recognisers(heard_by, options.device, language),
        metrics,
        options.sounds,
        options.max_seconds,
        recordings=not options.no_recordings,
    )
    description = settle(describe(study, heard_by, measured), study.folder)
    study.run(options.shard)
    _finish(study, description, options.shard)


def _finish(study: Study, description: Description, task: Task) -> None:
    rows = study.finished()
    if missing := study.missing(rows):
        print(
            f"Shard {task} is finished. {missing} of {missing + len(rows)} rows in {study.folder} are missing: the "
            f"other shards make them, and the last one makes the tables."
        )
        return
    study.write(rows)
    table = make_table([*rows.values()], description)
    write_table(table, description, study.folder)
    show(table, description)
    print(f"The rows, the tables and the sounds are in {study.folder}.")


def _first_run(options: argparse.Namespace) -> str | None:
    return next((path for path in options.systems if not is_export(path)), None)


def _recogniser_of_run(options: argparse.Namespace) -> str:
    run = _first_run(options)
    return (run and setting_of_run(run, "recogniser", str)) or EMBEDDED


def _recognisers(names: list[str], device: str, language: str) -> list[Recogniser]:
    ears = [open_recogniser(name, device, language) for name in names]
    if len({ear.name for ear in ears}) < len(ears):
        raise ValueError(f"two recognisers have the same name: {', '.join(ear.name for ear in ears)}")
    return ears


def _sentences(options: argparse.Namespace, speakers: Speakers, language: str) -> Sentences:
    if options.list is not None:
        lines = spread(read_list(options.list, language), options.sentences)
        return ListedSentences(options.list, lines, speakers.first, speakers.codec)
    run = _first_run(options)
    data = open_data(run or options.systems[0], options.config)
    model = speakers.first
    if isinstance(data.source, TeacherSamples):
        if run is None:
            raise ValueError("the data are the original model's own speech, which an export cannot make: give the run")
        model = load_original(run)
    examples = examples_of(data, model, "test")
    voices = ReferenceVoices(data.source, speakers.codec)
    chosen = speakable(spread(examples, options.sentences), voices, language)
    named = f"the test split of {options.config or run}"
    if not chosen:
        raise ValueError(f"no sentence of {named} can be spoken: give --list, or other data")
    trained = frozenset(utterance.speaker for utterance in data.source.utterances("train"))
    return PreparedSentences(named, examples.fingerprint, chosen, voices, trained)
