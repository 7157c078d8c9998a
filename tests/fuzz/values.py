"""Values that users type wrongly, and the numbers at the edges of what is allowed."""

from __future__ import annotations

import random
from typing import Any

NAN, INF = float("nan"), float("inf")
NOT_NUMBERS: list[Any] = [NAN, INF, -INF, "abc", None, [1], {}, True, 1 + 2j]
NOT_POSITIVE: list[Any] = [0, -1, -1e-9, *NOT_NUMBERS]
NOT_WHOLE: list[Any] = [1.5, "2", *NOT_NUMBERS]
NOT_WHOLE_POSITIVE: list[Any] = [0, -1, -(10**9), *NOT_WHOLE]
NOT_SEEDS: list[Any] = [2**63, 2**64, -(2**63) - 1, 10**30, *NOT_WHOLE]
SEEDS = [0, 1, -1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63)]
WORDS = [
    "the",
    "wind",
    "had",
    "a",
    "small",
    "window",
    "and",
    "she",
    "heard",
    "every",
    "word",
    "of",
    "it",
    "then",
    "he",
    "said",
    "no",
    "yes",
    "go",
    "on",
]


def text_of(random: random.Random, words: int = 6) -> str:
    """Some words with marks between them, in letters that the front end `letters` knows."""
    said = [
        random.choice(WORDS) + random.choice(["", "", "", ",", ".", "?", "!", "-"])
        for _ in range(random.randint(1, words))
    ]
    return " ".join(said)
