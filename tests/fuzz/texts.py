"""Texts: front ends, ends of sentences and error rates against plain loops."""

from __future__ import annotations

import random
import unicodedata
from typing import Any

from tests.fuzz.harness import Case, Group
from tests.fuzz.values import WORDS
from wand.demo.sentences import sentence
from wand.metrics.words import errors
from wand.text.front_end import FRONT_ENDS, letters
from wand.text.plain_words import plain_words
from wand.text.sentences import split_sentences

MARKS = ("", "", ".", ",", "?", "!", ";", "...", " -", "!?")
OTHER_SCRIPTS = ["你好世界", "こんにちは", "مرحبا", "한국어", "สวัสดี", "привет", "γειά", "नमस्ते"]


class TextGroup(Group):
    """Texts of words that the front ends know, with marks and white space of all kinds; and others."""

    name = "texts"

    def valid(self, random: random.Random) -> Case:
        make = random.choice([self._letters, self._phones, self._sentences, self._plain, self._errors])
        return make(random)

    def _letters(self, random: random.Random) -> Case:
        words = [random.choice(WORDS) + random.choice(("", ",", ".", "?", "!")) for _ in range(random.randint(1, 9))]
        typed = "".join(_case(random, word) + random.choice((" ", "  ", "\n", "\t", "\r\n")) for word in words)
        return Case(f"letters {typed!r}", lambda: letters(typed), lambda found: _equal(found, " ".join(words)))

    def _phones(self, random: random.Random) -> Case:
        """Phrases between marks are read one by one."""
        phrases = [" ".join(random.choices(WORDS, k=random.randint(1, 4))) for _ in range(random.randint(1, 4))]
        marks = [random.choice((",", ".", "?", "!")) for _ in phrases]
        text = " ".join(phrase + mark for phrase, mark in zip(phrases, marks, strict=True))
        phones = FRONT_ENDS["phones"]

        def check(found: object) -> None:
            alone = [phones(phrase) + mark for phrase, mark in zip(phrases, marks, strict=True)]
            _equal(found, " ".join(alone))

        return Case(f"phones of {text!r}", lambda: phones(text), check)

    def _sentences(self, random: random.Random) -> Case:
        said = [_sentence(random) for _ in range(random.randint(1, 8))]
        text = random.choice((" ", "  ", "\n")).join(said)
        limit = random.choice([None, 10, 40, 200])

        def check(found: Any) -> None:
            _equal("".join("".join(found).split()), "".join(text.split()))
            assert all(part and part == part.strip() for part in found)
            if limit is None:
                assert list(found) == [" ".join(one.split()) for one in said]
            else:
                assert all(len(part) <= limit or " " not in part for part in found)

        return Case(f"{text!r} in parts of {limit}", lambda: split_sentences(text, limit), check)

    def _plain(self, random: random.Random) -> Case:
        words = random.choices(WORDS, k=random.randint(1, 9))
        typed = " ".join(_case(random, word) + random.choice(MARKS) for word in words)
        return Case(f"plain words of {typed!r}", lambda: plain_words(typed), lambda f: _equal(f, " ".join(words)))

    def _errors(self, random: random.Random) -> Case:
        said = random.choices(WORDS, k=random.randint(1, 7))
        heard = [word for word in said if random.random() < 0.8]
        heard.insert(random.randint(0, len(heard)), random.choice(WORDS))
        a, b = " ".join(heard), " ".join(said)
        right = (distance(a, b), len(b), distance(heard, said), len(said))
        return Case(f"errors of {a!r} against {b!r}", lambda: errors(a, b + "."), lambda found: _equal(found, right))

    def invalid(self, random: random.Random) -> Case:
        kind = random.choice(["script", "script", "words", "limit"])
        if kind == "script":
            text = " ".join(random.choices(WORDS, k=2)) + " " + random.choice(OTHER_SCRIPTS)
            return Case(f"phones of {text!r}", lambda: FRONT_ENDS["phones"](text), names=(text.split()[-1][0],))
        if kind == "words":
            text = random.choice(["", " ", "?!", "...", "—", "\u200b", "()"])
            return Case(f"errors against {text!r}", lambda: errors("yes", text), names=("no words",))
        if kind == "empty":
            text = random.choice(["\ud800", "a\ud800b", "\udcff"])
            return Case(f"phones of {text!r}", lambda: FRONT_ENDS["phones"](text), names=("\\ud",))
        limit = random.choice([0, -1, 9, 1.5, float("nan"), "20", True])
        return Case(f"parts of {limit!r}", lambda: split_sentences("one. two.", limit), names=("limit",))


def _case(random: random.Random, word: str) -> str:
    return random.choice([word, word.upper(), word.capitalize(), unicodedata.normalize("NFD", word)])


def _sentence(random: random.Random) -> str:
    # The corpus also has two sentences joined by a full stop.
    own = (
        sentence(random).replace(". ", " ")
        if random.random() < 0.5
        else " ".join(random.choices(WORDS, k=random.randint(2, 30)))
    )
    if own.rstrip(".?!").endswith(" a"):  # one letter before a full stop is an initial
        own = f"{own.rstrip('.?!')} window"
    return own.rstrip(".?!").capitalize() + random.choice(".?!")


def _equal(found: object, right: object) -> None:
    assert found == right, f"{found!r} instead of {right!r}"


def distance(a: Any, b: Any) -> int:
    """The edit distance of two sequences, by its recursion over prefixes."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, start=1):
        last, row = row, [i]
        for j, other in enumerate(b, start=1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (one != other)))
    return row[-1]
