"""Speech of 30 and 60 seconds in a single pass: ``python -m benchmarks.long_speech runs/quickstart``.

Test sentences of one voice are joined until their recordings reach the length. The transcript is aligned with the whole
text once. Errors are counted separately for the text of every ten seconds of the recording. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.console.tables import markdown
from wand.data.example import Example
from wand.decoding.decoder import Decoder
from wand.demo.corpus import VOICES, EspeakCorpus
from wand.evaluation.systems import ComparedSystem, compared_systems
from wand.evaluation.takes import speak_examples
from wand.files.audio import write_audio
from wand.metrics.edits import errors_by_part
from wand.model.backbone import Backbone
from wand.recognition import EMBEDDED, Recogniser, open_recogniser
from wand.runs.checkpoints import load_backbone_and_settings, load_original
from wand.speech.speaking import decode_all

SLICE = 10.0


def joined(
    corpus: EspeakCorpus, backbone: Backbone, codec: Codec, seconds: float, voices: Sequence[str]
) -> list[tuple[Example, dict[int, str]]]:
    """One long utterance per voice, and its text by slice: a sentence belongs to the slice in which it begins."""
    spoken = defaultdict(list)
    for utterance in corpus.utterances("test"):
        spoken[utterance.speaker].append(utterance)
    made = []
    for voice in voices:
        first, *rest = spoken[voice]
        reference = codec.encode(corpus.audio(first)[None, None], codec.sample_rate)[0]
        texts: dict[int, list[str]] = defaultdict(list)
        codes: list[torch.Tensor] = []
        length = 0.0
        while length < seconds and rest:
            utterance = rest.pop(0)
            codes.append(codec.encode(corpus.audio(utterance)[None, None], codec.sample_rate)[0])
            texts[int(length // SLICE)].append(utterance.text)
            length += codes[-1].shape[1] / backbone.frame_rate
        if length < seconds:
            raise ValueError(f"voice {voice} has only {length:.0f} s of test sentences: make the corpus larger")
        text = " ".join(sentence for part in texts.values() for sentence in part)
        conditioning = backbone.conditioner(text, Reference(reference))
        whole = Example(f"{voice}-{seconds:g}", text, voice, conditioning, torch.cat(codes, dim=1))
        made.append((whole, {i: " ".join(part) for i, part in texts.items()}))
    return made


def table(
    systems: Sequence[tuple[ComparedSystem, Backbone]],
    long: Sequence[tuple[Example, dict[int, str]]],
    codec: Codec,
    recogniser: Recogniser,
    sounds: Path | None,
) -> str:
    """Markdown table with the CER of every slice, the duration, and how the speech ended."""
    slices = 1 + max(i for _, parts in long for i in parts)
    titles = ["system", "W", *(f"{i * SLICE:g}-{(i + 1) * SLICE:g} s" for i in range(slices))]
    lines = []
    for system, backbone in systems:
        spoken = speak_examples(Decoder(backbone, system.window), codec, [example for example, _ in long])
        audio = decode_all(codec, [one.codes for one in spoken])
        wrong, letters = [0] * slices, [0] * slices
        for heard, (_, parts) in zip(recogniser.transcribe(audio, codec.sample_rate), long, strict=True):
            for i, (count, size) in zip(parts, errors_by_part(heard, list(parts.values())), strict=True):
                wrong[i] += count
                letters[i] += size
        reasons = [str(one.reason) for one in spoken]
        lasted = sum(one.codes.shape[1] for one in spoken) / sum(example.codes.shape[1] for example, _ in long)
        ended = ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
        size = "full" if system.window.is_full else str(system.window.plain)
        rates = [f"{100 * c / n:.1f}" if n else "-" for c, n in zip(wrong, letters, strict=True)]
        lines.append([system.name, size, *rates, f"{lasted:.2f}", ended])
        if sounds is not None:
            write_audio(sounds / f"{long[0][0].id}-{system.name}.wav", audio[0], codec.sample_rate)
    return markdown([*titles, "duration", "ended by"], lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of the quickstart")
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[30, 60], help="lengths in seconds (default: 30 60)"
    )
    parser.add_argument("--voices", type=int, default=len(VOICES), help="number of voices (default: %(default)s)")
    parser.add_argument("--sounds", type=Path, help="folder for one sound file per system (default: none)")
    parser.add_argument("--recogniser", default=EMBEDDED, help="as in wand test (default: %(default)s)")
    arguments = parser.parse_args()
    recogniser = open_recogniser(arguments.recogniser)
    student, settings = load_backbone_and_settings(arguments.run)
    weights = {"teacher": load_original(arguments.run).eval(), "student": student.eval()}
    compared = compared_systems(student.windows(settings.window), True, student_full=True)
    systems = [(system, weights[system.weights]) for system in compared]
    codec = student.load_codec()
    corpus = EspeakCorpus(hours=0.01, test_sentences=256)
    voices = [voice.name for voice in VOICES[: arguments.voices]]
    for seconds in arguments.seconds:
        long = joined(corpus, student, codec, seconds, voices)
        print(f"\n{seconds:g} seconds, {len(voices)} voices, CER % by slice of the text, heard by {recogniser.name}\n")
        print(table(systems, long, codec, recogniser, arguments.sounds), flush=True)


if __name__ == "__main__":
    main()
