"""Sampling settings: the draw of a token against a plain loop over its definition."""

from __future__ import annotations

import math
import random
from typing import Any

import torch

from tests.fuzz.harness import Case, Group
from tests.fuzz.values import NAN, NOT_NUMBERS, NOT_POSITIVE, NOT_WHOLE
from wand.decoding.sampler import Sampler
from wand.decoding.uniform import uniform
from wand.model.sampling import RepetitionAware, Sampling

WRONG: dict[str, list[Any]] = {
    "temperature": [-1, -1e-9, *NOT_NUMBERS],
    "top_k": [-1, *NOT_WHOLE],
    "top_p": [1.1, 2, 1e9, *NOT_POSITIVE],
    "repetition_penalty": NOT_POSITIVE,
    "already_spoken": [[-1], [1.5], "abc", 5, [None], [NAN]],
    "repetition": [0.5, "yes", {"window": 10}],
}
WRONG_RULES: dict[str, list[Any]] = {
    "window": [0, -3, *NOT_WHOLE],
    "share": [-0.1, 1.5, *NOT_NUMBERS],
    "exclude": [None, "yes", 2],
}


class SamplingGroup(Group):
    """Settings and logits of all sizes."""

    name = "sampling"

    def valid(self, random: random.Random) -> Case:
        tokens = random.choice([1, 2, 7, 50])
        settings = {
            "temperature": random.choice([0, 0, 1, 0.7, 1e-3, 1e-30, 100.0]),
            "top_k": random.choice([0, 1, 2, 5, tokens, 10**9]),
            "top_p": random.choice([1, 1, 0.9, 0.5, 1e-6, 1e-30]),
            "repetition_penalty": random.choice([1, 1, 1.5, 0.5, 1e6]),
        }
        torch.manual_seed(random.randrange(2**32))
        logits = torch.randn(1, 1, tokens) * random.choice([1, 10, 0])
        spoken = random.sample(range(tokens), random.randint(0, tokens // 2))
        seed = random.randrange(2**40)

        def act() -> int:
            return int(Sampler(Sampling(**settings, already_spoken=spoken), [seed])(logits)[0, 0])

        def check(token: object) -> None:
            number = float(uniform(torch.tensor([seed]), torch.tensor([0]), 2)[0, 0])
            right, close = drawn(logits[0, 0].tolist(), settings, spoken, number)
            assert token in {right, *close}, f"token {token} instead of {right}"

        return Case(f"{settings}, {tokens} tokens, {spoken} spoken, seed {seed}", act, check)

    def invalid(self, random: random.Random) -> Case:
        if random.random() < 0.2:
            name = random.choice(sorted(WRONG_RULES))
            value = random.choice(WRONG_RULES[name])
            return Case(f"RepetitionAware({name}={value!r})", lambda: RepetitionAware(**{name: value}), names=(name,))
        name = random.choice(sorted(WRONG))
        value = random.choice([one for one in WRONG[name] if (name, one) != ("repetition", None)])
        return Case(f"Sampling({name}={value!r})", lambda: Sampling(**{name: value}), names=(name,))


def drawn(logits: list[float], settings: dict[str, Any], spoken: list[int], number: float) -> tuple[int, list[int]]:
    """The token, and tokens that rounding could give instead, by loops over plain numbers."""
    penalty, temperature = settings["repetition_penalty"], settings["temperature"]
    for token in spoken:
        logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    if temperature == 0:
        best = max(logits)
        close = [t for t, logit in enumerate(logits) if logit >= best - 1e-6 * abs(best)]
        return logits.index(best), close
    logits = [logit / temperature for logit in logits]
    kept = set(range(len(logits)))
    if 0 < settings["top_k"] < len(logits):
        least = sorted(logits, reverse=True)[settings["top_k"] - 1]
        kept = {t for t in kept if logits[t] >= least}
    before, likely, borderline = 0.0, set(), set()
    weights = _softmax(logits, kept)
    for token in sorted(kept, key=lambda t: -logits[t]):
        if before < settings["top_p"] or settings["top_p"] == 1:
            likely.add(token)
        if abs(before - settings["top_p"]) < 1e-5:
            borderline.add(token)
        before += weights[token]
    ties = len({round(weight, 12) for weight in weights.values()}) < len(weights)
    answers = []
    for chosen in filter(
        None, [likely, *([likely ^ borderline] if borderline - likely or likely - borderline else [])]
    ):
        weights, total = _softmax(logits, chosen), 0.0
        for token in sorted(chosen):
            if total - 1e-5 <= number < total + weights[token] + 1e-5 and weights[token] > 0:
                answers.append((not total <= number < total + weights[token], token))
            total += weights[token]
    answers.sort()
    return answers[0][1], sorted(kept) if ties else [token for _, token in answers]


def _softmax(logits: list[float], kept: set[int]) -> dict[int, float]:
    largest = max(logits[t] for t in kept)
    powers = {t: math.exp(logits[t] - largest) for t in kept}
    return {t: power / sum(powers.values()) for t, power in powers.items()}
