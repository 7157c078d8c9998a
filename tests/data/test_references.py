"""Who is whose reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.data.test_prepare import codec_folder, lm  # noqa: F401 - fixtures
from wand.backbones.encodec_lm import EncodecLM
from wand.data.encoding import Encoder
from wand.data.example import Refusal
from wand.data.references import LONGEST, SHORTEST, References, choose_references, choose_whole_references
from wand.data.sources.manifest import ManifestCorpus
from wand.data.sources.source import SpeechCodes, Utterance
from wand.data.validate import SpeechLimits


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


@pytest.mark.parametrize("cut", [True, False])
def test_the_reference_that_a_manifest_names_is_taken_and_encoded_once(
    lm: EncodecLM,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cut: bool,
) -> None:
    monkeypatch.setattr(EncodecLM, "cut_references", cut)
    lines = [
        {"id": name, "text": "hello there", "codes": [[i] * 60] * lm.num_codebooks, "reference": reference}
        for i, (name, reference) in enumerate(
            [("far", None), ("near", None), ("a", "far"), ("b", "near"), ("c", "far"), ("d", "far"), ("short", None)]
        )
    ]
    lines[-1]["codes"] = [[1]] * lm.num_codebooks
    lines.append({**lines[2], "id": "e", "reference": "short"})
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = ManifestCorpus(str(tmp_path / "corpus.jsonl"), 0.0, 0.0)
    encoder = Encoder(source, None, SpeechLimits.of(lm, 30.0))
    encoded: list[str] = []

    def counting(utterance: Utterance) -> SpeechCodes | Refusal:
        encoded.append(utterance.id)
        return encoder(utterance)

    kept = [(u, source.codes(u)) for u in source.utterances("train") if u.id not in ("far", "short")]
    found = References(source, counting, lm)(kept)
    named = {u.id: one for (u, _), one in zip(kept, found, strict=True)}
    for name, (own, code) in {"a": ("far", 0), "b": ("near", 1), "c": ("far", 0), "d": ("far", 0)}.items():
        one = named[name]
        assert isinstance(one, tuple)
        assert one[0] == own
        assert one[1].codes.shape[1] > 0
        assert torch.equal(one[1].codes, torch.full_like(one[1].codes, code))
        assert (one[1].text is None) == cut
    refused = named["e"]
    assert isinstance(refused, Refusal)
    assert refused.why == "its reference"
    assert encoded == ["far", "short"]
