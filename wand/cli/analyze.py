"""`wand analyze`: where the attention of a full-attention model goes while it speaks, and which windows follow."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wand.alignment.ranking import HeadRanking
from wand.attention import AttentionWindow
from wand.checks import check_device, check_number, check_whole_number
from wand.cli import FLAG, FLAG_HELP
from wand.cli.options import OptionParser
from wand.cli.parts.opening import examples_of, folder_of_results, open_data, open_pretrained
from wand.console.progress import progress
from wand.coverage.choice import WANTED, by_layer, recommend
from wand.coverage.picture import save_picture
from wand.coverage.recorder import MassRecorder
from wand.coverage.report import CoverageReport, save, show
from wand.data.datamodule import SpeechDataModule
from wand.data.example import Example
from wand.decoding.requests import Generation
from wand.decoding.stopping import StopReason
from wand.evaluation.takes import speak_examples, spread
from wand.files.writing import check_folder
from wand.kv_cache.sizes import kv_bytes
from wand.runs.checkpoints import RUNS, find_checkpoint, is_export, load_original, run_folder
from wand.speech.synthesizer import Synthesizer

# Sentences that are spoken at the same time.
ROWS = 8


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the command."""
    parser = OptionParser(
        prog="wand analyze",
        description="Measure where the attention of a full-attention model goes while it speaks: on the text, on the "
        "reference, on speech inside and outside of windows. The model speaks sentences itself. Recommends the "
        "smallest window that covers a wanted share, and windows by layer, which model.window reads.",
    )
    parser.add_argument(
        "--ckpt_path",
        help="run folder, checkpoint file or `last` (newest run): its original model is measured, not its student",
    )
    parser.add_argument(
        "--config",
        help="config whose data are read (default: those of the run); without --ckpt_path, its pretrained model is "
        "measured",
    )
    parser.add_argument("--sentences", type=int, default=16, help="number of sentences (default: %(default)s)")
    parser.add_argument(
        "--split",
        choices=("validation", "test"),
        default="validation",
        help="split whose sentences are spoken (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling (default: %(default)s)")
    parser.add_argument(
        "--coverage",
        type=float,
        default=WANTED,
        help="least mean coverage of the recommended window, over layers, heads and steps (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, help="folder for the results (default: RUN/analysis, or runs/analysis-MODEL)"
    )
    parser.add_device()
    parser.add_argument(FLAG, action="store_true", help=FLAG_HELP)
    options = parser.parse_args(arguments)
    check_whole_number("--sentences", options.sentences, least=1)
    check_whole_number("--seed", options.seed)
    check_number("--coverage", options.coverage, "(0, 1]")
    check_device(options.device)
    if options.out is not None:
        check_folder(options.out)
    return options


def main(arguments: list[str]) -> CoverageReport:
    """Let the model speak, measure its attention, and write ``coverage.*`` and ``windows.yaml``."""
    options = parse(arguments)
    name, model, data, folder = _open(options)
    check_folder(folder)
    examples = examples_of(data, model.backbone, options.split)
    model.backbone.to(options.device)
    report = analyze(name, model, spread(examples, options.sentences), options)
    show(report)
    save(report, folder)
    for missing in save_picture(report, folder):
        print(missing)
    print(f"written: {folder}")
    return report


def analyze(name: str, model: Synthesizer, examples: list[Example], options: argparse.Namespace) -> CoverageReport:
    """Let a model speak sentences and measure its attention on what it has said."""
    backbone = model.backbone
    spoken = _speak(model, examples, options.seed)
    said = [(example, one) for example, one in zip(examples, spoken, strict=True) if one.codes.shape[1]]
    if not said:
        raise ValueError(f"{name} has said nothing in {len(examples)} sentences: there is no attention to measure")
    recorder = MassRecorder(backbone)
    ranking = HeadRanking(backbone, AttentionWindow()) if recorder.knows_text else None
    with progress("measure", len(said), "sentences", stream=sys.stderr) as done:
        for example, generation in said:
            codes = generation.codes.cpu()
            recorder.add([example.conditioning], [codes])
            if ranking is not None:
                ranking.add(example.conditioning, codes)
            done.advance()
    mass, layout, config = recorder.mass(), backbone.layout, backbone.decoder.config
    uniform = recommend(mass, layout, options.coverage)
    return CoverageReport(
        model=name,
        split=options.split,
        sentences=len(said),
        stopped=sum(generation.reason == StopReason.STOP_TOKEN for _, generation in said),
        seed=options.seed,
        columns_per_second=backbone.columns_per_second,
        prefix_columns=round(recorder.prefix_columns / recorder.steps),
        mass=mass,
        wanted=options.coverage,
        uniform=uniform,
        by_layer=None if uniform is None else by_layer(mass, layout, uniform),
        fewest=None if uniform is None else by_layer(mass, layout, uniform, options.coverage),
        column_bytes=kv_bytes(config, 1, backbone.dtype.itemsize) // config.num_hidden_layers,
        ranked=[] if ranking is None else ranking.ranked(),
    )


def _speak(model: Synthesizer, examples: list[Example], seed: int) -> list[Generation]:
    with progress("speak", len(examples), "sentences", stream=sys.stderr) as done:
        return speak_examples(model.decoder, model.codec, examples, seed=seed, rows=ROWS, on_done=done.update)


def _open(options: argparse.Namespace) -> tuple[str, Synthesizer, SpeechDataModule, Path]:
    """Name, model under full attention, data, and the folder for the results."""
    path = options.ckpt_path
    if path is None:
        model, data = open_pretrained(options.config)
        name = type(model.backbone).__name__
        opened = Synthesizer(model.backbone, AttentionWindow(), model.codec)
        return f"{name}, pretrained", opened, data, options.out or RUNS / f"analysis-{name}"
    if is_export(path):
        raise ValueError(
            f"{path} is the export of a student, which was trained for a window, and the model with full attention "
            f"is to be measured: give --ckpt_path with its run, or --config with the original model"
        )
    folder = folder_of_results(path, "analysis", options.out)
    data = open_data(path, options.config)
    backbone = load_original(path)
    backbone.codec = data.codec
    checkpoint = find_checkpoint(path)
    name = f"{type(backbone).__name__}, the original model of {run_folder(checkpoint) or checkpoint}"
    return name, Synthesizer(backbone, AttentionWindow(), backbone.find_codec()), data, folder
