"""Sentences from frames: a small language for grammars, with open slots that a lexicon fills."""

from __future__ import annotations

import random
import re
from pathlib import Path

from recipes.corpus.figures import FIGURES
from recipes.corpus.lexicon import Lexicon, inflected

_CHOICE = re.compile(r"\(([^()]*)\)")
_SLOT = re.compile(r"<([\w-]+)(?::(\w+))?>")
_WEIGHT = re.compile(r"(\d+)\* ")
_ARTICLE = re.compile(r"\b([Aa])n? (?=([\w'-]+))")
FOLDER = Path(__file__).parent / "frames"


class Grammar:
    """A grammar in a text file.

    A line ``name:`` begins a rule, and every indented line below it is one of its alternatives. ``3* `` before an
    alternative makes it three times as probable. Inside an alternative, ``(a|b|)`` chooses one of several texts, and
    ``<name>`` is replaced by a draw of another rule. ``<name:past>`` also inflects the first word, a verb: `base`, `s`,
    `past`, `done` or `ing`. Names in capitals, such as ``<NOUN>``, are drawn from a lexicon. ``a`` becomes ``an``
    before a vowel. Every grammar knows the rules of the file ``common``, and the figures of `recipes.corpus.figures`,
    such as ``<money>``.

    Args:
        name: Name of the file in `frames`.
        lexicon: Fills the open slots.
    """

    def __init__(self, name: str, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self.rules = {**_rules(FOLDER / "common.txt"), **_rules(FOLDER / f"{name}.txt")}

    def draw(self, rng: random.Random, rule: str = "sentence") -> str:
        """Draw a text. The first letter is a capital.

        Args:
            rng: Random number generator.
            rule: The rule to begin with.
        """
        text = " ".join(self._expand(rng, f"<{rule}>").split())
        text = re.sub(r" (?=[.,?!])", "", text)
        text = _ARTICLE.sub(self._article, text)
        return text[:1].upper() + text[1:]

    def _expand(self, rng: random.Random, text: str) -> str:
        while _CHOICE.search(text):
            text = _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), text)
        return _SLOT.sub(lambda found: self._fill(rng, found[1], found[2]), text)

    def _fill(self, rng: random.Random, name: str, form: str | None) -> str:
        if name.isupper():
            return self.lexicon.draw(rng, name)
        if name in FIGURES:
            return FIGURES[name](rng)
        alternatives, weights = self.rules[name]
        drawn = self._expand(rng, rng.choices(alternatives, weights)[0])
        return inflected(drawn, form) if form else drawn

    def _article(self, found: re.Match[str]) -> str:
        return f"{found[1]}n " if self.lexicon.begins_with_vowel(found[2]) else f"{found[1]} "


def frame_words(name: str) -> set[str]:
    """All words of a grammar's rules, in lower case.

    Args:
        name: Name of the file in `frames`.
    """
    rules = {**_rules(FOLDER / "common.txt"), **_rules(FOLDER / f"{name}.txt")}
    texts = " ".join(text for alternatives, _ in rules.values() for text in alternatives)
    return set(re.findall(r"[a-z']+", _SLOT.sub(" ", texts).lower()))


def _rules(path: Path) -> dict[str, tuple[list[str], list[int]]]:
    rules: dict[str, tuple[list[str], list[int]]] = {}
    name = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            weight = _WEIGHT.match(line.strip())
            alternatives, weights = rules.setdefault(name, ([], []))
            alternatives.append(line.strip()[weight.end() if weight else 0 :])
            weights.append(int(weight[1]) if weight else 1)
        elif not line.startswith("#"):
            name = line.rstrip(":")
    return rules
