"""The ranking of heads over several speeches, against scores that are computed from all attention at once."""

from __future__ import annotations

from dataclasses import astuple

import pytest
import torch

from tests.conftest import random_codes
from wand.alignment.ranking import HeadRanking, RankedHead, heads_that_pass
from wand.alignment.reading import read_speech
from wand.alignment.report import AlignmentReport
from wand.alignment.scores import HeadScores, score_shares
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.model.alignment import AlignmentHead
from wand.passages.rules import largest_skip

WINDOW = AttentionWindow(8)


def test_scores_are_means_over_speeches(tiny_lm: EncodecLM) -> None:
    ranking, scores = HeadRanking(tiny_lm, WINDOW), {}
    for text in ("one two three.", "no.", "so they went home in the rain."):
        conditioning = tiny_lm.conditioner(text, Reference(random_codes(tiny_lm, 9)))
        codes = random_codes(tiny_lm, 20)
        ranking.add(conditioning, codes)

        def note(head: AlignmentHead, shares: torch.Tensor) -> None:
            scores.setdefault(head, []).append(score_shares(shares, largest_skip(tiny_lm)))

        read_speech(tiny_lm, WINDOW, conditioning, codes, note)
    ranked = ranking.ranked()
    assert len(ranked) == len(scores) == 8
    for one in ranked:
        own = scores[one.head]
        assert one.score == pytest.approx(sum(each.score for each in own) / 3)
        means = torch.tensor([astuple(each) for each in own], dtype=torch.float64).mean(0).tolist()
        assert list(astuple(one.scores)) == pytest.approx(means)
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)


def ranked(*scores: float) -> list[RankedHead]:
    parts = HeadScores(text=0.5, steps=1, pace=1, reach=1)
    return [RankedHead(AlignmentHead(3, i), score, parts) for i, score in enumerate(scores)]


def test_the_best_head_passes_at_the_threshold() -> None:
    assert heads_that_pass(ranked(0.8, 0.75), 0.8) == (AlignmentHead(3, 0),)
    assert heads_that_pass(ranked(0.8, 0.75), 0.81) == ()
    report = AlignmentReport("a model", 8, 3, 0.81, ranked(0.8, 0.75))
    assert report.verdict() == (
        "No head passes the threshold 0.81: head (3, 0) has the score 0.800, the next best, (3, 1), has 0.750."
    )


def test_a_model_that_does_not_know_where_its_text_is_cannot_be_ranked(
    tiny_lm: EncodecLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_lm, "conditioner", object())
    with pytest.raises(ValueError, match="object does not say which columns of the prefix are the text"):
        HeadRanking(tiny_lm, WINDOW)
