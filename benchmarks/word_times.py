"""Compares the times of words with espeak-ng's own: ``python -m benchmarks.word_times --model runs/quickstart``.

The model reads recorded speech of the demo corpus, in all of its voices, each with a reference of its own. The truth of
a word is when espeak-ng begins its first phone. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import chain

import numpy as np

import wand
from recipes.teacher.alignment import symbol_starts
from wand.alignment.times import timed_words
from wand.alignment.words import word_times
from wand.backbones.encodec_lm import SymbolConditioner
from wand.codecs.reference import Reference
from wand.console.tables import markdown
from wand.data.sources.source import Utterance
from wand.demo.corpus import EspeakCorpus
from wand.speech.synthesizer import Synthesizer


def true_begins(
    conditioner: SymbolConditioner, corpus: EspeakCorpus, utterance: Utterance, seconds: float
) -> list[float]:
    """When each word of an utterance begins, in seconds."""
    tokens = conditioner.tokens(utterance.text)
    symbols = "".join(conditioner.symbols[i] for i in tokens.ids)
    starts = symbol_starts(symbols, corpus.phone_times(utterance), seconds)
    # A blank before a word has no sound.
    return [float(starts[first + symbols[first:].startswith(" ")]) for first in tokens.firsts]


def errors_of(model: Synthesizer, corpus: EspeakCorpus, utterances: int) -> dict[str, list[float]]:
    """How much later than in truth each word is found, in seconds, by voice. A word that is not found is 1 s late.

    Args:
        model: A model that reads phones.
        corpus: The recorded speech.
        utterances: Number of sentences of the test split to read.
    """
    backbone, codec = model.backbone, model.codec
    assert codec is not None
    assert isinstance(backbone.conditioner, SymbolConditioner)
    errors: dict[str, list[float]] = defaultdict(list)
    spoken = corpus.utterances("test")
    voices = [*spoken, *corpus.utterances("validation")]
    step = max(1, len(spoken) // utterances)
    for number in range(0, len(spoken), step):
        utterance = spoken[number]
        others = [one for one in voices if one.speaker == utterance.speaker and one.id != utterance.id]
        voice = others[0] if others else utterance
        audio, prompt = (corpus.audio(one)[None, None].to(backbone.device) for one in (utterance, voice))
        codes, reference = (codec.encode(one, corpus.sample_rate)[0] for one in (audio, prompt))
        said = word_times(backbone, model.window, utterance.text, Reference(reference), codes)
        begins = true_begins(backbone.conditioner, corpus, utterance, codes.shape[1] / backbone.frame_rate)
        found = timed_words(said, backbone)
        late = [word.begin - begin for word, begin in zip(found, begins, strict=False)]
        errors[utterance.speaker] += late + [1.0] * (len(begins) - len(found))
    return errors


def table(errors: dict[str, list[float]]) -> str:
    """The errors of each voice and of all together, in milliseconds."""
    lines = []
    for name, late in [*errors.items(), ("all", list(chain(*errors.values())))]:
        milliseconds = 1000 * np.array(late)
        off = np.abs(milliseconds)
        numbers = (np.median(milliseconds), np.median(off), np.quantile(off, 0.9), off.max())
        lines.append([name, str(len(late)), *(f"{number:.0f}" for number in numbers)])
    return markdown(["voice", "words", "median, signed", "median", "90th percentile", "largest"], lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="run, checkpoint or export of an EncodecLM that reads phones")
    parser.add_argument("--utterances", type=int, default=40, help="number of sentences")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    corpus = EspeakCorpus(hours=0.01, test_sentences=options.utterances)
    print(table(errors_of(wand.load(options.model, device=options.device), corpus, options.utterances)))


if __name__ == "__main__":
    main()
