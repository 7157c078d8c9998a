"""Texts of many lengths as one passage: ``python -m benchmarks.long_speech runs/quickstart``.

Joins sentences that no training contains, until the recordings of a voice reach a length. The student speaks each text
as one passage, in one continuous decode, and sentence by sentence (splitting). Recognisers hear both; sounds are cut in
their pauses, so that each hears at most 25 s at once. After each length, prints Markdown with every figure of both
systems and their paired differences.

Speeches, transcripts and the report (Markdown and JSON) are kept in the output folder. The same command goes on where
it was interrupted, and another recogniser hears the speeches that are there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.long_speech.figures import Grid
from benchmarks.long_speech.hearing import hear
from benchmarks.long_speech.record import SYSTEMS, Record, keys
from benchmarks.long_speech.report import Length, to_markdown
from benchmarks.long_speech.speaking import speak
from benchmarks.long_speech.texts import LongText, long_texts
from recipes.corpus.voices import VOICES
from wand.codecs import Codec
from wand.codecs.encodec import digest
from wand.console.progress import progress
from wand.decoding.decoder import Decoder
from wand.files.writing import write_text
from wand.recognition import EMBEDDED, Piecewise, Recogniser, open_recogniser
from wand.runs.checkpoints import load_backbone_and_settings


def measure(
    decoder: Decoder,
    codec: Codec,
    texts: dict[float, list[LongText]],
    seeds: int,
    rows: int,
    ears: Sequence[Recogniser],
    out: Path,
    sounds: Path | None = None,
) -> Iterator[Length]:
    """Speak and hear all texts, one length after the other.

    Args:
        decoder: The model, in eval mode, and its window.
        codec: Its codec.
        texts: The texts of each length, one for each voice.
        seeds: Number of takes of each text.
        rows: Rows of an engine.
        ears: The recognisers.
        out: Folder of the record.
        sounds: Folder for sound files, one for each length and system; None writes none.

    Raises:
        ValueError: If the model cannot speak passages, or the folder has other speeches.
    """
    lm = decoder.backbone
    heads = [tuple(head) for head in lm.alignment_heads]
    record = Record(out, f"model {digest(lm)}, window {decoder.window.plain}, alignment heads {heads}")
    for seconds, own in texts.items():
        by_voice = {text.voice: text for text in own}
        spoken: Grid = {}
        for system in SYSTEMS:
            speak(decoder, codec, own, seconds, seeds, system, rows, record)
            asked = list(keys(seconds, list(by_voice), seeds, system))
            with progress(f"{seconds:g} s, hearing {system}", len(asked), "speeches") as shown:
                for key in asked:
                    hear(record, key, by_voice[key.voice], codec, ears, sounds if key == asked[0] else None)
                    shown.advance()
            facts = [record.facts(key) for key in asked]
            spoken[system] = [facts[i : i + seeds] for i in range(0, len(facts), seeds)]
        yield Length.of(seconds, own, spoken, ears)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of the quickstart")
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[60, 150, 600], help="lengths in seconds (default: 60 150 600)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="takes of each text (default: %(default)s)")
    parser.add_argument("--voices", nargs="+", default=[*VOICES], help="names of voices (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=8, help="speeches at the same time (default: %(default)s)")
    parser.add_argument("--recogniser", nargs="+", default=[EMBEDDED], help="as in wand test (default: embedded)")
    parser.add_argument("--sounds", type=Path, help="folder for one sound file per length and system (default: none)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/long-speech"), help="output folder (default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    ears = [Piecewise(open_recogniser(name)) for name in given.recogniser]
    if len({ear.name for ear in ears}) < len(ears):
        parser.error(f"two recognisers have the same name: {', '.join(ear.name for ear in ears)}")
    lm, settings = load_backbone_and_settings(given.run)
    codec = lm.load_codec()
    texts = long_texts(codec, given.seconds, given.voices)
    decoder = Decoder(lm, lm.windows(settings.window))
    lengths: list[Length] = []
    for length in measure(decoder, codec, texts, given.seeds, given.rows, ears, given.out, given.sounds):
        lengths.append(length)
        report = f"Voices: {', '.join(given.voices)}; {given.seeds} seeds; {given.rows} rows.\n\n{to_markdown(lengths)}"
        plain = {f"{one.seconds:g}": one.to_json() for one in lengths}
        write_text(given.out / "long-speech.json", json.dumps(plain, indent=1, allow_nan=False) + "\n")
        write_text(given.out / "long-speech.md", report)
        print(f"\n{report}", flush=True)


if __name__ == "__main__":
    main()
