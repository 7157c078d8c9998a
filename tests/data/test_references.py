"""Who is whose reference."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wand.data.references import LONGEST, SHORTEST, choose_references, choose_whole_references
from wand.data.sources.source import Utterance


def test_references_are_others_of_the_same_speaker():
    utterances = [Utterance(f"u{i}", "a", "xyyx"[i % 4]) for i in range(16)] + [Utterance("lone", "a", "z")]
    frames = [60 + 20 * i for i in range(17)]
    chosen = choose_references(utterances, frames, keep=110)
    for i, (index, start) in enumerate(chosen):
        assert utterances[index].speaker == utterances[i].speaker
        assert (index == i) == (utterances[i].id == "lone")
        assert 0 <= start <= max(0, frames[index] - 110)
    assert chosen == choose_references(utterances, frames, keep=110)
    assert len({index for index, _ in chosen}) > 4


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.floats(0.3, 30)), max_size=12))
def test_whole_references_are_others_of_a_fitting_length(given_):
    utterances = [Utterance(f"u{i}", "a", speaker) for i, (speaker, _) in enumerate(given_)]
    seconds = [length for _, length in given_]
    chosen = choose_whole_references(utterances, seconds)
    for i, index in enumerate(chosen):
        others = [j for j, u in enumerate(utterances) if u.speaker == utterances[i].speaker and j != i]
        assert index in (others or [i])
        if any(SHORTEST <= seconds[j] <= LONGEST for j in others):
            assert SHORTEST <= seconds[index] <= LONGEST
        elif any(seconds[j] <= LONGEST for j in others):
            assert seconds[index] <= LONGEST
    assert chosen == choose_whole_references(utterances, seconds)
