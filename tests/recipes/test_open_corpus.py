"""The open-vocabulary corpus: what it may not say, what it must say, and who says it."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from pathlib import Path

import pytest

from recipes.corpus.corpus import OpenCorpus, kind_of, seconds_of
from recipes.corpus.forbidden import Forbidden, spoken_words
from recipes.corpus.natural import sentences
from recipes.corpus.sources import GENERATED, SHARES, always_trained, held_out
from recipes.corpus.voices import EspeakVoice
from wand.data.sources.source import SPLITS, Utterance
from wand.demo.corpus import VOICES, EspeakCorpus

EVERYDAY = Path("benchmarks/sentences/everyday.txt")
SHARED = {kind: SHARES[kind] for kind in GENERATED}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Test sentences; some of the demo's are sentences that a corpus without them would train on."""
    demo = tmp_path_factory.mktemp("lists") / "demo.txt"
    demo.write_text("".join(f"{utterance.text}\n" for utterance in EspeakCorpus(0.2).utterances("train")))
    return {"demo": demo, "everyday": EVERYDAY}


def corpus(lists: dict[str, Path], hours: float = 5.3, seed: int = 0, test_sentences: int = 64) -> OpenCorpus:
    voices = [EspeakVoice(voice) for voice in VOICES[:3]]
    return OpenCorpus(
        hours, seed, 24, test_sentences, shares=SHARED, voices=voices, unseen_voice=EspeakVoice(VOICES[3]), **lists
    )


@pytest.fixture(scope="module")
def made(lists: dict[str, Path]) -> OpenCorpus:
    return corpus(lists)


def plain(text: str) -> str:
    """A text in lower case without punctuation, found in another way than the corpus does it."""
    return f" {' '.join(re.sub('[^a-z ]', ' ', text.lower().replace(chr(39), '')).split())} "


def test_no_test_sentence_and_no_four_words_in_a_row_are_trained(made: OpenCorpus, lists: dict[str, Path]) -> None:
    trained = [plain(utterance.text) for utterance in made.utterances("train")]
    assert len(trained) >= 5000
    whole = {plain(line) for line in lists["demo"].read_text().splitlines()}
    assert whole.isdisjoint(trained)
    said = {" ".join(words[i : i + 4]) for text in trained if (words := text.split()) for i in range(len(words) - 3)}
    for line in EVERYDAY.read_text().splitlines():
        words = plain(line).split()
        assert said.isdisjoint(" ".join(words[i : i + 4]) for i in range(len(words) - 3)), line


def test_the_lists_forbid_sentences_that_would_be_trained(made: OpenCorpus) -> None:
    """Otherwise the test above would pass with any list."""
    mine = made.utterances("train")
    long = next(text for text in (u.text for u in mine) if len(spoken_words(text)) > 6)
    words = spoken_words(long)
    allows = Forbidden([mine[0].text], [f"Somebody said: {' '.join(words[1:5])}!"]).allows
    assert not allows(spoken_words(mine[0].text.upper()))
    assert not allows(words)
    assert allows(words[2:])
    assert not Forbidden([], ["Mind the gap."]).allows(["mind", "the", "gap"])


def test_a_missing_list_is_refused(lists: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"test sentences in .*none\.txt, which is missing"):
        corpus({**lists, "demo": tmp_path / "none.txt"})


def test_held_out_words_are_in_half_of_the_test_only(made: OpenCorpus) -> None:
    unknown = held_out()
    for split in ("train", "validation"):
        assert not any(unknown & {*spoken_words(utterance.text)} for utterance in made.utterances(split))
    test = made.utterances("test")
    kinds = {kind: [u for u in test if kind_of(u) == kind] for kind in ("seen", "unseen")}
    assert [*map(len, kinds.values())] == [40, 40]
    assert all(unknown & {*spoken_words(utterance.text)} for utterance in kinds["unseen"])
    trained = {
        word for utterance in made.utterances("train") for word in spoken_words(utterance.text)
    } | always_trained()
    assert all(trained.issuperset(spoken_words(utterance.text)) for utterance in kinds["seen"])
    assert 3000 < len(unknown) < 4500  # 3 % of 120,000


def test_the_same_seed_gives_the_same_corpus_and_more_hours_go_on(made: OpenCorpus, lists: dict[str, Path]) -> None:
    again = corpus(lists, hours=0.5)
    short = again.utterances("train")
    assert short == made.utterances("train")[: len(short)]
    other = corpus(lists, hours=0.5, seed=1).utterances("train")
    assert {u.text for u in other}.isdisjoint(u.text for u in made.utterances("validation"))
    assert sum(a.text == b.text for a, b in zip(short, other, strict=False)) < 0.05 * len(short)
    copy = pickle.loads(pickle.dumps(again))
    assert copy.fingerprint == again.fingerprint
    assert again.fingerprint != made.fingerprint


def test_splits_share_no_sentence_and_no_id(made: OpenCorpus) -> None:
    every = [utterance for split in SPLITS for utterance in made.utterances(split)]
    assert len({utterance.id for utterance in every}) == len(every)
    assert len({utterance.text for utterance in every}) == len(every)


def test_hours_kinds_and_voices_are_balanced(made: OpenCorpus) -> None:
    train = made.utterances("train")
    seconds = Counter[str]()
    voices: dict[tuple[str, bool], Counter[str]] = {}
    for utterance in train:
        length = seconds_of(utterance.text)
        seconds[kind_of(utterance)] += length  # type: ignore[assignment]
        voices.setdefault((kind_of(utterance), length > 6), Counter())[utterance.speaker] += 1
        assert 0.3 < length < 20.5
    assert seconds.total() == pytest.approx(5.3 * 3600, rel=0.01)
    for kind, share in SHARED.items():
        assert seconds[kind] / seconds.total() == pytest.approx(share / sum(SHARED.values()), rel=0.02)
    for said in voices.values():
        assert len(said) == min(3, said.total())
        assert max(said.values()) - min(said.values()) <= 2
    assert {u.speaker for u in made.utterances("test")[64:]} == {VOICES[3].name}


def test_everyday_english_is_covered(made: OpenCorpus) -> None:
    said = Counter(word for utterance in made.utterances("train") for word in spoken_words(utterance.text))
    usual = "i'm don't couldn't we've it's isn't you're won't because although until would have been"
    assert all(said[word] >= 5 for word in usual.split()), {word: said[word] for word in usual.split()}


def test_an_unknown_speaker_or_kind_is_refused(made: OpenCorpus, lists: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="speaker 'nobody'; this corpus knows anna"):
        made.audio(Utterance("train-demo-0-000000", "hello.", "nobody"))
    with pytest.raises(ValueError, match="no kind of sentence is called 'poems'"):
        OpenCorpus(shares={"poems": 1.0}, **lists)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"Come in," he said. "It is open now."', ["Come in, he said.", "It is open now."]),
        ("He WAS LOUD THERE today.", []),
        ("Xqzt blorf gnarl vvv.", []),
        ("Go.", []),  # too short
        (f"It was {'so ' * 70}big: it was {'so ' * 70}red.", [f"It was {'so ' * 70}big.", f"It was {'so ' * 70}red."]),
    ],
)  # fmt: skip
def test_natural_texts_give_english_sentences_only(text: str, expected: list[str]) -> None:
    assert [*sentences(text)] == expected
