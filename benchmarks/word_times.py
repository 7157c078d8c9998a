"""How exact the times of words are: ``python -m benchmarks.word_times --model runs/quickstart``.

Recorded speech: the voices of the embedded speech say sentences of `benchmarks.voice`, which no training contains. The
model reads the recordings, and its times are compared with those of the synthesiser: a word begins with its first
phone. With ``--ear``, the folder of a Whisper model, the model also speaks these sentences, and its times are compared
with those that Whisper hears. How far Whisper is from the synthesiser in the recordings shows what that can tell.

Prints Markdown. Positive times are late. A word that the model has not reached is 1 s late; of the words of Whisper,
only those count that it has heard right.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise

import numpy as np
from rapidfuzz.distance import Levenshtein
from torch import Tensor

import wand
from benchmarks.voice.sentences import FOLDER, Line, read_list
from benchmarks.voice.stages import reference_of
from recipes.corpus.pronunciation import cmu_phones
from recipes.corpus.voices import VOICES, Spoken
from recipes.ear import Whisper
from wand.alignment.times import TimedWord, timed_words
from wand.alignment.words import word_times
from wand.backbones.encodec_lm import SymbolConditioner
from wand.codecs.reference import Reference
from wand.console.progress import progress
from wand.console.tables import markdown
from wand.files.audio import resample
from wand.passages.passage import Passage
from wand.speech.speaking import SpeakOptions
from wand.speech.synthesizer import Synthesizer
from wand.text.espeak import SAMPLE_RATE

RECORDED, EAR, GENERATED = (
    "Recorded speech, the model against the synthesiser",
    "Recorded speech, Whisper against the synthesiser",
    "Generated speech, the model against Whisper",
)
NOT_REACHED = 1.0  # seconds
# Seconds by which words are late, by voice.
Late = dict[str, list[float]]


def chosen_lines(voices: Sequence[str], sentences: int) -> list[Line]:
    """Sentences, half of each list, with the voices in turn."""
    demo = sentences // 2
    return [
        *read_list(FOLDER / "demo.txt", voices, demo),
        *read_list(FOLDER / "everyday.txt", voices, sentences - demo),
    ]


def synthesiser_times(conditioner: SymbolConditioner, text: str, reference: Reference, spoken: Spoken) -> list[float]:
    """When a synthesiser begins each word of a text, in seconds; NaN for a word of which it says no phone.

    Its phones are aligned with those that the model reads, both in CMU's notation.
    """
    passage = Passage(conditioner, reference, text)
    given = passage.conditioning(0, passage.end)
    ids = given["ids"][slice(*conditioner.text_span(given)), 0].tolist()
    symbols = "".join(conditioner.symbols[i] for i in ids)
    edges = [*(onset for _, onset in passage.words(0, passage.end)), passage.end]
    read = [(word, phone) for word, own in enumerate(pairwise(edges)) for phone in cmu_phones(symbols[slice(*own)])]
    said = [(begin, phone) for phones, begin in spoken.phones for phone in cmu_phones(phones)]
    begins: dict[int, float] = {}
    for step in Levenshtein.opcodes(*([phone.rstrip("01") for _, phone in phones] for phones in (read, said))):
        for i, j in zip(range(step.src_start, step.src_end), range(step.dest_start, step.dest_end), strict=False):
            begins.setdefault(read[i][0], said[j][0])
    return [begins.get(word, np.nan) for word in range(len(edges) - 1)]


def read_words(model: Synthesizer, text: str, reference: Reference, audio: Tensor) -> list[TimedWord]:
    """The words of a recording, which the model reads."""
    codec = model.codec
    assert codec is not None
    sound = resample(audio, SAMPLE_RATE, codec.sample_rate).to(model.backbone.device)
    codes = codec.encode(sound[None, None], codec.sample_rate)[0]
    return timed_words(word_times(model.backbone, model.window, text, reference, codes), model.backbone)


def same_words(words: Iterable[str], heard: Iterable[str]) -> Iterator[tuple[int, int]]:
    """The numbers of words that are equal, in the best alignment of both texts."""
    own, others = ([_letters(word) for word in text] for text in (words, heard))
    for step in Levenshtein.opcodes(own, others):
        if step.tag == "equal":
            yield from zip(range(step.src_start, step.src_end), range(step.dest_start, step.dest_end), strict=True)


def _letters(word: str) -> str:
    return "".join(letter for letter in word.lower() if letter.isalnum())


def late_words(model: Synthesizer, lines: Sequence[Line], ear: Whisper | None = None) -> dict[str, Late]:
    """By how many seconds words are late, by what was compared and by voice.

    Args:
        model: A model that reads phones.
        lines: What the voices say.
        ear: Hears the recordings and the speech of the model; None compares recordings with the synthesiser only.
    """
    conditioner, codec = model.backbone.conditioner, model.codec
    assert isinstance(conditioner, SymbolConditioner)
    assert codec is not None
    late: dict[str, Late] = {title: defaultdict(list) for title in (RECORDED, EAR, GENERATED)[: 3 if ear else 1]}
    references = {voice: reference_of(voice, codec) for voice in {line.voice for line in lines}}
    with progress("sentences", len(lines), "sentences") as shown:
        for line in lines:
            spoken, reference = VOICES[line.voice].speak(line.text), references[line.voice]
            truth = synthesiser_times(conditioner, line.text, reference, spoken)
            words = read_words(model, line.text, reference, spoken.audio)
            begins = [word.begin for word in words]
            begins += [begin + NOT_REACHED for begin in truth[len(words) :]]
            late[RECORDED][line.voice] += _differences(zip(begins, truth, strict=True))
            if ear is not None:
                heard = ear.words(spoken.audio, SAMPLE_RATE)
                pairs = same_words((word.text for word in words), (word.text for word in heard))
                late[EAR][line.voice] += _differences((heard[j].begin, truth[i]) for i, j in pairs)
                (speech,) = model.generate(line.text, reference, SpeakOptions(seed=line.number, long_text="passage"))
                assert speech.audio is not None
                heard = ear.words(speech.audio, speech.sample_rate)
                pairs = same_words((word.text for word in speech.words), (word.text for word in heard))
                late[GENERATED][line.voice] += _differences((speech.words[i].begin, heard[j].begin) for i, j in pairs)
            shown.advance()
    return late


def _differences(pairs: Iterable[tuple[float, float]]) -> list[float]:
    return [time - truth for time, truth in pairs if not np.isnan(truth)]


def table(late: Late) -> str:
    """The times of each voice and of all together, in milliseconds."""
    lines = []
    for name, own in [*late.items(), ("all", list(chain(*late.values())))]:
        milliseconds = 1000 * np.array(own)
        off = np.abs(milliseconds)
        numbers = (np.median(milliseconds), np.median(off), np.quantile(off, 0.9), off.max())
        lines.append([name, str(len(own)), *(f"{number:.0f}" for number in numbers)])
    return markdown(["voice", "words", "median, signed", "median", "90th percentile", "largest"], lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="run, checkpoint or export of an EncodecLM that reads phones")
    parser.add_argument("--sentences", type=int, default=40, help="number of sentences (default: %(default)s)")
    parser.add_argument("--voices", nargs="+", default=[*VOICES], help="names of voices (default: %(default)s)")
    parser.add_argument("--ear", help="folder of a Whisper model, see recipes/ear (default: none)")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    model = wand.load(given.model, device=given.device)
    ear = None if given.ear is None else Whisper(given.ear)
    for title, late in late_words(model, chosen_lines(given.voices, given.sentences), ear).items():
        print(f"{title}:\n\n{table(late)}\n")


if __name__ == "__main__":
    main()
