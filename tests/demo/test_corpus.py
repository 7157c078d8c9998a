import pickle

import pytest
import torch

from wand.data.sources.source import SPLITS, SpeechSource, Utterance
from wand.demo.corpus import UNSEEN_VOICE, VOICES, EspeakCorpus


def test_is_a_picklable_source() -> None:
    corpus = EspeakCorpus(hours=0.02)
    assert isinstance(corpus, SpeechSource)
    copy = pickle.loads(pickle.dumps(corpus))
    assert copy.fingerprint == corpus.fingerprint
    utterance = corpus.utterances("test")[0]
    assert torch.equal(copy.audio(utterance), corpus.audio(utterance))


def test_splits_are_disjoint_over_seeds_and_hours() -> None:
    texts: dict[str, set[str]] = {split: set() for split in SPLITS}
    for seed, hours in ((0, 2.0), (1, 1.0), (2, 0.1)):
        corpus = EspeakCorpus(hours=hours, seed=seed, validation_sentences=200, test_sentences=200)
        for split in SPLITS:
            utterances = corpus.utterances(split)
            assert len({utterance.text for utterance in utterances}) == len(utterances)
            assert len({utterance.id for utterance in utterances}) == len(utterances)
            texts[split] |= {utterance.text for utterance in utterances}
    assert not texts["train"] & texts["validation"]
    assert not texts["train"] & texts["test"]
    assert not texts["validation"] & texts["test"]


def test_the_unseen_voice_is_in_the_test_split_only() -> None:
    corpus = EspeakCorpus(hours=0.2, test_sentences=40)
    speakers = {split: [u.speaker for u in corpus.utterances(split)] for split in SPLITS}
    assert set(speakers["train"]) == set(speakers["validation"]) == {voice.name for voice in VOICES}
    assert speakers["test"].count(UNSEEN_VOICE.name) == 10
    assert len(speakers["test"]) == 50


def test_durations() -> None:
    corpus = EspeakCorpus(hours=0.1)
    seconds = torch.tensor([len(corpus.audio(u)) / corpus.sample_rate for u in corpus.utterances("train")])
    assert float(((seconds > 1.8) & (seconds < 15)).float().mean()) > 0.9
    assert float(seconds.min()) > 1.0
    assert float(seconds.max()) < 18
    assert float(seconds.sum()) == pytest.approx(360, rel=0.1)


def test_fingerprint_follows_what_determines_the_audio() -> None:
    prints = {
        EspeakCorpus(hours=0.02).fingerprint,
        EspeakCorpus(hours=0.02, seed=1).fingerprint,
        EspeakCorpus(hours=0.03).fingerprint,
        EspeakCorpus(hours=0.02, test_sentences=65).fingerprint,
    }
    assert len(prints) == 4
    assert EspeakCorpus(hours=0.02).fingerprint in prints


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hours": 0.0}, r"hours must lie in \(0, 1000\], got 0.0"),
        ({"validation_sentences": 0}, "validation_sentences must be at least 1, got 0"),
        ({"test_sentences": -1}, "test_sentences must be at least 1, got -1"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EspeakCorpus(**arguments)  # type: ignore[arg-type]


def test_unknown_split_and_speaker_are_refused() -> None:
    corpus = EspeakCorpus(hours=0.02)
    with pytest.raises(ValueError, match="got 'dev'"):
        corpus.utterances("dev")
    with pytest.raises(ValueError, match="speaker 'zoe'"):
        corpus.audio(Utterance("x", "hello.", "zoe"))
