"""Error rates of the recogniser: letters, words and phones, by condition, by voice, and in words it never heard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, field

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from recipes.recogniser.labels import Labels, by_word
from recipes.recogniser.speech import Speech, kind_of
from wand.console.tables import markdown
from wand.recognition.network import RecogniserNetwork, greedy_letters, greedy_phones, pad

BATCH = 16


@dataclass
class Count:
    """Wrong symbols, and all symbols that were said."""

    wrong: int = 0
    said: int = 0

    def add(self, wrong: int, said: int) -> None:
        """Add the symbols of a sentence."""
        self.wrong += wrong
        self.said += said

    def __str__(self) -> str:
        return f"{100 * self.wrong / self.said:.2f}" if self.said else "-"


@dataclass
class Errors:
    """Error rates of some sentences.

    Args:
        letters: Letters, blanks included.
        words: Words.
        phones: Phones.
        new_letters: Letters of words that are in no training sentence.
        new_phones: Phones of these words.
    """

    letters: Count = field(default_factory=Count)
    words: Count = field(default_factory=Count)
    phones: Count = field(default_factory=Count)
    new_letters: Count = field(default_factory=Count)
    new_phones: Count = field(default_factory=Count)

    def add(self, heard: Labels, said: Labels, phones_by_word: Sequence[Sequence[str]], known: set[str]) -> None:
        """Add a sentence.

        Args:
            heard: What the recogniser heard.
            said: What was said.
            phones_by_word: The phones that were said, by word.
            known: The words of the training sentences.
        """
        words = said.letters.split()
        self.words.add(Levenshtein.distance(heard.letters.split(), words), len(words))
        spelled = [f"{word} " for word in words[:-1]] + words[-1:]
        for total, new, found, parts in (
            (self.letters, self.new_letters, heard.letters, spelled),
            (self.phones, self.new_phones, heard.phones, phones_by_word),
        ):
            for word, part, wrong in zip(words, parts, wrong_by_part(found, parts), strict=True):
                total.add(wrong, len(part))
                if word not in known:
                    new.add(wrong, len(part))


def wrong_by_part(heard: Sequence[str], parts: Sequence[Sequence[str]]) -> list[int]:
    """Wrong symbols of each part of a sequence, along a shortest edit path.

    An inserted symbol counts for the part before it.
    """
    part_of = [i for i, part in enumerate(parts) for _ in part]
    wrong = [0] * len(parts)
    for edit in Levenshtein.editops([symbol for part in parts for symbol in part], list(heard)):
        wrong[part_of[max(edit.src_pos - (edit.tag == "insert"), 0)] if part_of else 0] += 1
    return wrong


@torch.inference_mode()
def listen(network: RecogniserNetwork, sounds: Sequence[Tensor]) -> list[Labels]:
    """What a network with phones hears in sounds ``[N]`` at 16 kHz."""
    heard: list[Labels] = []
    for first in range(0, len(sounds), BATCH):
        scores = network(*pad(sounds[first : first + BATCH]))
        letters, phones = greedy_letters(scores.letters, scores.steps), greedy_phones(scores.phones[-1], scores.steps)
        heard += map(Labels, letters, phones)
    return heard


def known_words(speech: Speech) -> set[str]:
    """All words of the sentences of a split."""
    return {word for label in speech.labels for word in label.letters.split()}


def evaluate(network: RecogniserNetwork, speech: Speech, known: set[str]) -> dict[tuple[str, str], Errors]:
    """Error rates by group of sentences and by condition.

    Args:
        network: The network, in eval mode.
        speech: The sentences.
        known: The words of the training sentences.

    Returns:
        Errors of the groups ``all``, ``known words``, ``new words`` (sentences without and with words that are in no
        training sentence), every kind of sentence and every voice, in each condition.
    """
    found: dict[tuple[str, str], Errors] = {}
    judged = [i for i, label in enumerate(speech.labels) if label.letters and label.phones]
    grouped = {i: by_word(speech.labels[i].phones, speech.labels[i].letters.split()) for i in judged}
    for condition in speech.conditions:
        heard = listen(network, [speech.sound(i, condition) for i in judged])
        for i, labels in zip(judged, heard, strict=True):
            for group in groups(speech, i, known):
                errors = found.setdefault((group, condition), Errors())
                errors.add(labels, speech.labels[i], grouped[i], known)
    return found


def groups(speech: Speech, index: int, known: set[str]) -> list[str]:
    """The groups of a sentence."""
    trained = known.issuperset(speech.labels[index].letters.split())
    utterance = speech.utterances[index]
    return [
        "all",
        "known words" if trained else "new words",
        f"kind {kind_of(speech.source, utterance)}",
        f"voice {utterance.speaker}",
    ]


def table(errors: dict[tuple[str, str], Errors], wanted: Callable[[str], bool] = lambda group: True) -> str:
    """Markdown table of error rates in percent, for the groups that are wanted."""
    titles = ["speech", "condition", "CER", "WER", "PER", "CER, new words", "PER, new words"]
    rows = _ordered(key for key in errors if wanted(key[0]))
    return markdown(titles, [[*key, *(str(Count(*count)) for count in astuple(errors[key]))] for key in rows])


def _ordered(keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(keys, key=lambda key: (key[0].startswith(("kind", "voice")), key[0]))
