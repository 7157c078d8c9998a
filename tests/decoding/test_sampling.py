"""Samplers against brute force, and against the distribution they claim to draw from."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wand.decoding.sampler import Sampler
from wand.model.sampling import MASKED, RepetitionAware, Sampling, keep_top_k, keep_top_p, penalise_repetition

VOCABULARY = 8
seeds = st.integers(0, 10_000)


def random_logits(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def kept(filtered: torch.Tensor) -> set[int]:
    return set((filtered > MASKED / 2).nonzero().flatten().tolist())


@given(seeds, st.integers(0, VOCABULARY + 2))
def test_top_k(seed, k):
    logits = random_logits(seed)
    ranked = sorted(range(VOCABULARY), key=lambda token: -logits[token])
    filtered = keep_top_k(logits, k)
    assert kept(filtered) == set(ranked[:k] if k > 0 else ranked)
    assert all(filtered[token] == logits[token] for token in kept(filtered))


@given(seeds, st.floats(0.01, 1.0))
def test_top_p(seed, p):
    logits = random_logits(seed)
    probabilities = logits.double().softmax(-1)
    expected, mass = set(), 0.0
    for token in sorted(range(VOCABULARY), key=lambda token: -logits[token]):
        if mass < p:
            expected.add(token)
            mass += float(probabilities[token])
    filtered = keep_top_p(logits, p)
    assert kept(filtered) == expected
    assert all(filtered[token] == logits[token] for token in kept(filtered))


def test_filters_treat_rows_apart():
    logits = random_logits(3, 2, 4)
    for name, filtered in {"k": keep_top_k(logits, 3), "p": keep_top_p(logits, 0.6)}.items():
        for row in range(2):
            for codebook in range(4):
                alone = logits[row, codebook]
                expected = keep_top_k(alone, 3) if name == "k" else keep_top_p(alone, 0.6)
                assert torch.equal(filtered[row, codebook], expected)


@given(seeds, st.sampled_from([0.5, 1.0, 1.3]), st.lists(st.booleans(), min_size=VOCABULARY, max_size=VOCABULARY))
def test_repetition_penalty(seed, penalty, spoken):
    logits = random_logits(seed)
    expected = []
    for value, said in zip(logits.tolist(), spoken, strict=True):
        expected.append(value if not said else value / penalty if value > 0 else value * penalty)
    torch.testing.assert_close(penalise_repetition(logits, torch.tensor(spoken), penalty), torch.tensor(expected))


def test_the_sampler_remembers_what_each_codebook_has_spoken():
    logits = random_logits(5, 2, 3)
    sampler = Sampler(Sampling(temperature=0, repetition_penalty=3.0), seeds=[0, 1])
    said: dict[tuple[int, int], set[int]] = {}
    for _ in range(6):
        tokens = sampler(logits)
        sampler.remember(tokens)
        for row in range(2):
            for codebook in range(3):
                before = said.setdefault((row, codebook), set())
                scores = [
                    (v / 3 if v > 0 else v * 3) if token in before else v
                    for token, v in enumerate(logits[row, codebook].tolist())
                ]
                assert int(tokens[row, codebook]) == max(range(VOCABULARY), key=scores.__getitem__)
                before.add(int(tokens[row, codebook]))
    assert any(len(tokens) > 1 for tokens in said.values())


def test_some_tokens_count_as_spoken_from_the_first_step():
    logits = random_logits(5, 2, 3)
    penalty, tokens = 3.0, [0, 4]
    sampler = Sampler(Sampling(temperature=0, repetition_penalty=penalty, already_spoken=tokens), seeds=[0, 1])
    told = Sampler(Sampling(temperature=0, repetition_penalty=penalty), seeds=[0, 1])
    told(logits)
    for token in tokens:
        told.remember(torch.full((2, 3), token))
    first = sampler(logits)
    assert torch.equal(first, told(logits))
    assert not torch.equal(first, logits.argmax(-1))


def test_temperature_zero_is_greedy():
    logits = random_logits(0, 3, 2)
    assert torch.equal(Sampler(Sampling(temperature=0), [0, 1, 2])(logits), logits.argmax(-1))


@pytest.mark.parametrize("temperature", [0.0, 0.7, 100.0])
def test_forbidden_tokens_are_never_drawn(temperature):
    forbidden = torch.zeros(2, VOCABULARY, dtype=torch.bool)
    forbidden[0, [0, 7]] = True
    forbidden[1, 1:] = True
    sampler = Sampler(Sampling(temperature=temperature), range(200), forbidden)
    logits = torch.zeros(200, 2, VOCABULARY)
    logits[..., [0, 7]] = 5
    for _ in range(20):
        tokens = sampler(logits)
        assert not torch.isin(tokens[:, 0], torch.tensor([0, 7])).any()
        assert (tokens[:, 1] == 0).all()


SETTINGS = {
    "plain": Sampling(),
    "cold": Sampling(temperature=0.5),
    "top-k": Sampling(top_k=3),
    "top-p": Sampling(top_p=0.7),
    "all": Sampling(temperature=1.5, top_k=5, top_p=0.8),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_frequencies_are_those_of_the_distribution(settings):
    logits = random_logits(1, 1)
    draws = 4000
    tokens = Sampler(settings, range(draws))(logits.expand(draws, 1, -1))[:, 0]
    frequencies = torch.bincount(tokens, minlength=VOCABULARY) / draws
    scaled = keep_top_p(keep_top_k(logits[0] / settings.temperature, settings.top_k), settings.top_p)
    probabilities = scaled.softmax(-1)
    spread = (probabilities * (1 - probabilities) / draws).sqrt()
    assert ((frequencies - probabilities).abs() <= 4 * spread).all()


def test_steps_of_one_row_draw_anew():
    sampler = Sampler(Sampling(), [7])
    tokens = torch.cat([sampler(torch.zeros(1, 2, VOCABULARY)) for _ in range(2000)])
    frequencies = torch.bincount(tokens.flatten(), minlength=VOCABULARY) / tokens.numel()
    assert (frequencies - 1 / VOCABULARY).abs().max() < 0.03
    # Codebooks of a step are drawn independently.
    assert abs(float((tokens[:, 0] == tokens[:, 1]).float().mean()) - 1 / VOCABULARY) < 0.03


@given(st.permutations([3, 14, 15, 92]), st.integers(1, 4))
def test_a_row_draws_by_its_own_seed_whoever_is_beside_it(order, rows):
    chosen = order[:rows]
    settings = Sampling(temperature=0.8, top_p=0.9, repetition_penalty=1.2)
    steps = [{seed: random_logits(100 * step + seed, 2) for seed in order} for step in range(5)]
    together = Sampler(settings, chosen)
    alone = [Sampler(settings, [seed]) for seed in chosen]
    for logits in steps:
        tokens = together(torch.stack([logits[seed] for seed in chosen]))
        for row, (seed, sampler) in enumerate(zip(chosen, alone, strict=True)):
            assert torch.equal(tokens[row], sampler(logits[seed][None])[0])


@pytest.mark.parametrize(
    "settings",
    [{"temperature": -0.1}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}, {"repetition_penalty": 0.0}],
    ids=str,
)
def test_settings_outside_their_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=name):
        Sampling(**settings)


def upstream_distribution(
    probabilities: torch.Tensor, lately: list[int], k: int, p: float, rule: RepetitionAware
) -> torch.Tensor:
    """The chance of every token, as a loop: likely tokens while mass < p and fewer than k, then perhaps once more."""
    order = probabilities.argsort(descending=True).tolist()
    kept: list[int] = []
    mass = 0.0
    for token in order:
        if mass >= p or len(kept) >= k:
            break
        kept.append(token)
        mass += float(probabilities[token])
    chances = torch.zeros_like(probabilities)
    for token in kept:
        chance = float(probabilities[token]) / mass
        if lately[-rule.window :].count(token) < rule.window * rule.share:
            chances[token] += chance
            continue
        again = probabilities.clone()
        if rule.exclude:
            again[token] = 0
        chances += chance * again / again.sum()
    return chances


@pytest.mark.parametrize("rule", [RepetitionAware(), RepetitionAware(exclude=False), RepetitionAware(4, 0.5)], ids=str)
@pytest.mark.parametrize(("k", "p"), [(3, 0.95), (25, 0.6)])
def test_what_was_just_spoken_is_drawn_once_more(rule: RepetitionAware, k: int, p: float) -> None:
    rows = 40_000
    probabilities = torch.tensor([0.35, 0.25, 0.2, 0.1, 0.1], dtype=torch.float64)
    sampler = Sampler(Sampling(top_k=k, top_p=p, repetition=rule), range(rows))
    sampler.prepare(1, 5)
    lately = [0, 3, 3, 1, 0, 3, 3, 3, 4, 3, 0, 2, 0]
    for token in lately:
        sampler.remember(torch.full((rows, 1), token))
    drawn = sampler(probabilities.log().expand(rows, 1, -1)).flatten()
    share = torch.bincount(drawn, minlength=5) / rows
    torch.testing.assert_close(
        share.double(), upstream_distribution(probabilities, lately, k, p, rule), atol=0.012, rtol=0
    )


def test_tokens_that_the_model_does_not_have_cannot_be_spoken_already() -> None:
    sampler = Sampler(Sampling(repetition_penalty=1.1, already_spoken=[2, 5]), [0])
    with pytest.raises(ValueError, match="already_spoken 5 is no token of the model, which has 0 to 4"):
        sampler(torch.zeros(1, 1, 5))
