"""`wand synthesize`: speak texts with the student or the teacher of a run."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from wand.alignment.times import check_words_file, write_words
from wand.attention import Windows
from wand.checks import check_device
from wand.cli import FLAG, FLAG_HELP
from wand.cli.options import DTYPES, OptionParser, parse_window
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.console.interrupt import Interrupted
from wand.console.progress import progress
from wand.decoding.decoder import Decoder
from wand.files.audio import check_sound_file, write_audio
from wand.files.text import read_lines
from wand.model.backbone import Backbone
from wand.model.sampling import Sampling
from wand.passages.rules import reason_against_passages
from wand.runs.checkpoints import LAST, codec_of_run, load_backbone_and_settings, load_original
from wand.speech.book import check_book, speak_book
from wand.speech.long_text import LONG_TEXTS, parts_of_text
from wand.speech.speaking import SpeakOptions, Speech, check_text, synthesize_each
from wand.speech.voices import check_voice_file, open_voice, save_voice
from wand.training.teacher import COPY, SELF


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the command."""
    parser = OptionParser(prog="wand synthesize", description="Speak texts in the voice of a reference.")
    parser.add_argument("text", nargs="*", help="texts to speak; each gives one sound file")
    parser.add_argument("--file", type=Path, help="text file with one text per line, spoken after the texts given here")
    parser.add_argument(
        "--book",
        type=Path,
        help="text file to speak as one text of any length, or - for standard input, spoken as it arrives; the sound "
        "is written while it is spoken",
    )
    parser.add_argument(
        "--ckpt_path",
        default=LAST,
        help="run folder (its last checkpoint), checkpoint file, or `last` (newest run; default: last)",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        required=True,
        help="sound file of the voice to clone, or a voice saved with --save_voice",
    )
    parser.add_argument(
        "--save_voice", type=Path, help="save the voice in this file (*.safetensors), for later use as --reference"
    )
    parser.add_argument("--reference_text", help="transcript of the reference, for models that use it")
    parser.add_argument("--speaker", help="name of the speaker, for models with named voices")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out.wav"),
        help="sound file to write; several texts give out-001.wav, out-002.wav, ... (default: out.wav)",
    )
    parser.add_argument(
        "--words",
        type=Path,
        help="also write when each word is heard: *.json, *.srt or *.vtt, numbered like --out; for passages",
    )
    parser.add_argument(
        "--system", choices=("student", "teacher"), default="student", help="model that speaks (default: student)"
    )
    parser.add_argument(
        "--window",
        help="window in speech columns, a YAML file with one for each layer, or `full` (default: the run's window for "
        "the student, full for the teacher)",
    )
    parser.add_argument(
        "--max_seconds",
        type=float,
        default=30.0,
        help="longest speech of a text, or of a part of a text that is split, in seconds; a passage has no limit "
        "(default: 30)",
    )
    parser.add_argument(
        "--long_text",
        choices=LONG_TEXTS,
        default="auto",
        help="how texts are spoken: as a `passage`, in one continuous decode; `split` between sentences; `whole`, with "
        "the whole text in the prefix; `auto` is a passage if the alignment heads of the model are known, else split "
        "if the text is longer than those of the training, else whole (default: auto)",
    )
    parser.add_argument(
        "--split", action="store_const", const="split", dest="long_text", help="the same as --long_text split"
    )
    parser.add_argument(
        "--int8", action="store_true", help="use int8 weights (CPU only): faster, with slightly different results"
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="dtype of the weights; bfloat16 halves their memory (default: float32)",
    )
    parser.add_argument(
        "--start", type=int, default=1, help="number of the first text to speak, to go on after an interruption"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed; text i uses seed + i (default: 0)")
    parser.add_argument(
        "--temperature", type=float, help="sampling temperature; 0 is greedy (default: the model's own)"
    )
    parser.add_argument(
        "--top_k", type=int, help="sample from the k most likely tokens; 0 is all (default: the model's own)"
    )
    parser.add_argument(
        "--top_p",
        type=float,
        help="sample from the most likely tokens whose probabilities add up to p (default: the model's own)",
    )
    parser.add_argument(
        "--repetition_penalty",
        type=float,
        help="above 1 makes tokens that were spoken already less likely (default: the model's own)",
    )
    parser.add_device()
    parser.add_argument(FLAG, action="store_true", help=FLAG_HELP)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> list[Speech]:
    """Speak, write sound files, and print how each text ended."""
    options = parse(arguments)
    speaking = _check(options)
    texts = [*options.text, *_read_texts(options.file)]
    if options.book is not None:
        check_book(options.book)
        if texts or options.start != 1:
            raise ValueError("--book is spoken alone: leave out the other texts, --file and --start")
    elif not texts:
        raise ValueError("nothing to speak: give a text, --file with one text per line, or --book with a long text")
    if options.book is None and not 1 <= options.start <= len(texts):
        raise ValueError(f"--start {options.start} is not the number of a text: there are {len(texts)}")
    for text in texts:
        check_text(text)
    backbone, window = _load_system(options)
    backbone = backbone.to(options.device, getattr(torch, options.dtype)).eval()
    backbone.codec = codec_of_run(options.ckpt_path)
    codec = backbone.load_codec().to(options.device)
    check_sound_file(options.out, codec.sample_rate)
    reference = open_voice(options.reference, backbone, codec, options.reference_text, options.speaker)
    if options.save_voice is not None:
        save_voice(reference, options.save_voice, codec)
    if options.words is not None and (reason := reason_against_passages(backbone, window, codec)):
        raise ValueError(
            f"--words knows the words of passages only, and this model cannot speak them, because {reason}"
        )
    decoder = Decoder(backbone, window, int8=options.int8)
    settings = replace(speaking, sampling=_sampling(backbone.sampling, options))
    if options.book is not None:
        speak_book(options.book, options.out, options.words, decoder, codec, reference, settings)
        return []
    _say_why_split(texts, decoder, codec, reference, settings)
    spoken: dict[int, Speech] = {}
    try:
        with progress("speaking", None, "columns", stream=sys.stderr) as columns:
            begun = options.start - 1
            for i, speech in synthesize_each(decoder, codec, texts, reference, settings, columns.advance, begun):
                _write(speech, _file_of(i, len(texts), options.out))
                if options.words is not None:
                    write_words(_file_of(i, len(texts), options.words), speech.words)
                spoken[i] = speech
    except Interrupted as stopped:
        missing = next((i for i in range(begun, len(texts)) if i not in spoken), None)
        if missing is not None:
            command = shlex.join(["wand", "synthesize", *arguments, "--start", str(missing + 1)])
            stopped.report = f"{len(spoken)} of {len(texts) - begun} texts are spoken; go on with: {command}"
            raise
    finally:
        if spoken:
            _show(spoken, len(texts), options.out)
    return [spoken[i] for i in sorted(spoken)]


def _check(options: argparse.Namespace) -> SpeakOptions:
    """Refuse what cannot work, before a model is loaded."""
    check_device(options.device)
    check_sound_file(options.out)
    if options.save_voice is not None:
        check_voice_file(options.save_voice)
    if options.words is not None:
        check_words_file(options.words)
        if options.long_text not in ("auto", "passage"):
            raise ValueError(f"--words knows the words of passages only: leave out --long_text {options.long_text}")
    if options.window is not None:
        _window(options.window)
    return SpeakOptions(_sampling(Sampling(), options), options.seed, options.max_seconds, long_text=options.long_text)


def _say_why_split(
    texts: list[str], decoder: Decoder, codec: Codec, reference: Reference, settings: SpeakOptions
) -> None:
    """Say why texts are split that could be passages in another model."""
    backbone, window = decoder.backbone, decoder.window
    reason = reason_against_passages(backbone, window, codec)
    if settings.long_text != "auto" or reason is None:
        return
    if any(len(parts_of_text(text, "auto", backbone, codec, window, reference)[0]) > 1 for text in texts):
        Console(stderr=True).print(
            f"texts longer than those of the training are split: this model cannot speak passages, because {reason}",
            soft_wrap=True,
        )


def _load_system(options: argparse.Namespace) -> tuple[Backbone, Windows]:
    student, settings = load_backbone_and_settings(options.ckpt_path)
    trained = settings.window
    if options.system == "teacher":
        teacher = settings.teacher
        if teacher is None:
            raise ValueError(f"the run {options.ckpt_path} has no teacher: leave out --system teacher")
        original = teacher in (COPY, SELF)
        backbone = load_original(options.ckpt_path) if original else load_backbone_and_settings(teacher)[0]
        default = None
    else:
        backbone, default = student, trained
    size = default if options.window is None else _window(options.window)
    if options.system == "student" and size is None and trained is not None:
        Console(stderr=True).print(
            f"[yellow]warning:[/] this student was trained with a window of {trained}, not with full attention"
        )
    return backbone, backbone.windows(size)


def _window(text: str) -> int | str | None:
    return None if text == "full" else parse_window(text)


def _sampling(default: Sampling, options: argparse.Namespace) -> Sampling:
    names = ("temperature", "top_k", "top_p", "repetition_penalty")
    return replace(default, **{name: getattr(options, name) for name in names if getattr(options, name) is not None})


def _read_texts(file: Path | None) -> list[str]:
    if file is None:
        return []
    if not file.is_file():
        raise ValueError(f"--file {file} does not exist: give a text file with one text per line")
    return [line.strip() for _, line in read_lines(file)]


def _file_of(number: int, count: int, out: Path) -> Path:
    """The file of one of `count` texts."""
    return out if count == 1 else out.with_stem(f"{out.stem}-{number + 1:03d}")


def _write(speech: Speech, path: Path) -> None:
    assert speech.audio is not None, "there is a codec"
    if len(speech.audio):
        write_audio(path, speech.audio, speech.sample_rate)


def _show(spoken: dict[int, Speech], count: int, out: Path) -> None:
    table = Table("file", "seconds", "ended by", "text")
    for number, speech in sorted(spoken.items()):
        assert speech.audio is not None, "there is a codec"
        shown = str(_file_of(number, count, out)) if len(speech.audio) else "nothing was said"
        table.add_row(shown, f"{len(speech.audio) / speech.sample_rate:.2f}", str(speech.reason), speech.text)
    Console(markup=False, emoji=False).print(table)
