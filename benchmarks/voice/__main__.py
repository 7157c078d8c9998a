"""How well the voice is understood: ``python -m benchmarks.voice --run runs/quickstart --recogniser embedded``.

Speaks lists of sentences through every stage (the original speech, its round trip through the codec, the teacher, the
teacher's weights under the window without training, the student), transcribes all with every recogniser, and prints a
table for each list and recogniser. WER and CER are errors over all words (letters) after Whisper's normaliser; a
sentence counts at most as many wrong words as it has. Brackets: 95 % interval from resampled sentences; differences are
paired. Without ``--run`` and ``--teacher``, it measures the original speech and the codec only.

Takes, transcripts, tables (Markdown and JSON) and spectrograms are kept in the output folder. The same command goes on
where it was interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.voice.sentences import FOLDER, Line, length_class, read_list
from benchmarks.voice.stages import Asked, Stage, make_stages
from benchmarks.voice.tables import Table, make_table
from benchmarks.voice.takes import Takes
from recipes.corpus.voices import VOICES
from wand.console.progress import progress
from wand.evaluation.pictures import draw_spectrograms
from wand.files.writing import write_text
from wand.recognition import EMBEDDED, Recogniser, open_recogniser
from wand.text.espeak import SAMPLE_RATE


def measure(
    file: Path, lines: Sequence[Line], stages: Sequence[Stage], ears: Sequence[Recogniser], out: Path
) -> list[Table]:
    """Speak and transcribe one list, and draw one sentence of it.

    Args:
        file: The list.
        lines: The chosen sentences.
        stages: The stages; the first is the original speech.
        ears: The recognisers.
        out: Folder of the list.

    Returns:
        One table per recogniser.
    """
    sentences = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    takes = {stage.name: Takes(out / stage.name, stage, sentences) for stage in stages}
    original = takes[stages[0].name]
    for own in takes.values():
        own.speak(lines, None if own is original else original)
    drawn = lines[len(lines) // 2]
    sounds = {name: [own.sound(drawn, SAMPLE_RATE)] for name, own in takes.items()}
    draw_spectrograms(sounds, [drawn.text], SAMPLE_RATE, out / "spectrograms.png")
    classes = []
    with progress("lengths of the sentences", len(lines), "sentences") as shown:
        for line in lines:
            classes.append(length_class(line.text))
            shown.advance()
    texts = [line.text for line in lines]
    return [
        make_table(ear.name, texts, classes, {name: own.heard(lines, ear) for name, own in takes.items()})
        for ear in ears
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="run folder of the student (default: no student)")
    parser.add_argument("--teacher", help="folder of an EncodecLM, or embedded (default: that of the run)")
    parser.add_argument("--codec", help="folder of an EnCodec, or embedded (default: that of the run or the teacher)")
    parser.add_argument(
        "--windows", type=int, nargs="+", default=[], help="windows of the untrained weights (default: the run's)"
    )
    parser.add_argument(
        "--recogniser", action="append", help="as in wand test; may be given more than once (default: embedded)"
    )
    parser.add_argument("--voices", nargs="+", default=[*VOICES], help="names of voices (default: %(default)s)")
    parser.add_argument(
        "--sentences",
        type=Path,
        nargs="+",
        default=[FOLDER / "demo.txt", FOLDER / "everyday.txt"],
        help="text files with one sentence on each line (default: the demo and the everyday sentences)",
    )
    parser.add_argument("--limit", type=int, help="number of sentences of each list, spread evenly (default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/voice"), help="output folder (default: %(default)s)")
    given = parser.parse_args(arguments)
    ears = [open_recogniser(name) for name in given.recogniser or [EMBEDDED]]
    if len({ear.name for ear in ears}) < len(ears):
        parser.error(f"two recognisers have the same name: {', '.join(ear.name for ear in ears)}")
    asked = Asked(given.run, given.teacher, given.codec, given.windows)
    stages = make_stages(asked, given.voices, given.out / "references")
    parts = [f"Voices: {', '.join(given.voices)}.\n"]
    made: dict[str, Any] = {"voices": given.voices, "stages": {stage.name: stage.made_of for stage in stages}}
    for file in given.sentences:
        lines = read_list(file, given.voices, given.limit)
        tables = measure(file, lines, stages, ears, given.out / file.stem)
        parts.append("\n\n".join([f"## {file.stem}", *(table.to_markdown() for table in tables)]) + "\n")
        made[file.stem] = [table.to_json() for table in tables]
        print(f"\n{parts[-1]}", flush=True)
    write_text(given.out / "voice.md", "\n".join(parts))
    write_text(given.out / "voice.json", json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
