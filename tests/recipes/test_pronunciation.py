"""espeak-ng's phones in the notation of CMU's dictionary, against the dictionary itself."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from rapidfuzz.distance import Levenshtein

from recipes.corpus.corpus import OpenCorpus
from recipes.corpus.lexicon import pronunciations
from recipes.corpus.pronunciation import cmu_phones, ipa_phone, lexicon
from recipes.corpus.voices import VOICES
from wand.text.espeak import phonemes
from wand.text.front_end import phones

# Words that both dictionaries pronounce alike, with every vowel and consonant of American English.
KNOWN = (
    "thing", "though", "measure", "judge", "church", "yellow", "voice", "house", "time", "boat", "day", "food",
    "good", "bird", "cup", "father", "bed", "cat", "sit", "see", "ship", "wish", "hot", "ring", "van", "zoo", "guess",
    "paper", "window", "river", "number", "teacher", "morning", "kitchen", "very", "happy", "coffee", "money",
)  # fmt: skip

# Files of some of the Debian packages that the corpus reads.
CORPUS = ("/usr/share/games/fortunes/art", "/usr/share/state/us-constitution.gz", "/usr/share/doc/flite/examples/alice")


def heard(arpabet: list[str]) -> list[str]:
    """Phones without stress. Reduced vowels and the two back vowels that Americans merge count as one."""
    same = {"ax": "ah", "ih": "ah", "ao": "aa", "uh": "ah"}
    plain = [re.sub(r"\d", "", phone).lower() for phone in arpabet]
    return [same.get(phone, phone) for phone in plain]


def test_words_have_the_phones_of_the_dictionary() -> None:
    for word, ipa in zip(KNOWN, phonemes(KNOWN), strict=True):
        assert heard(cmu_phones(ipa)) in [heard(entry) for entry in pronunciations()[word]], word


def test_many_words_have_nearly_the_phones_of_the_dictionary() -> None:
    entries = pronunciations()
    words = [word for word in sorted(entries) if re.fullmatch("[a-z]{4,}", word)][::400]
    spoken = [heard(cmu_phones(ipa)) for ipa in phonemes(words)]
    wrong = sum(
        min(Levenshtein.distance(heard(entry), said) for entry in entries[word])
        for word, said in zip(words, spoken, strict=True)
    )
    assert wrong < 0.15 * sum(map(len, spoken))  # most are rare names, of which the two guess in different ways


def test_stress_stands_at_the_vowel() -> None:
    assert cmu_phones("hɐlˈoʊ") == ["hh", "ax0", "l", "ow1"]
    assert cmu_phones("kjˈʊɹɹiəs") == ["k", "y", "uh1", "r", "iy0", "ax0", "s"]


def test_joined_words_share_their_phones() -> None:
    alone = {"part": "pˈɑːɹt", "of": "ˈʌv", "a": "ˈeɪ", "plan": "plˈæn"}
    entries = lexicon("part of a plan.", "pˈɑːɹt əvə plˈæn.", alone.__getitem__)
    assert entries == {"part": "p aa1 r t", "of": "ax0 v", "a": "ax0", "plan": "p l ae1 n"}


def test_a_word_is_said_as_it_is_said_most_often() -> None:
    entries = lexicon("the end, the door, the wall.", "ðɪ ˈɛnd, ðə dˈɔːɹ, ðə wˈɔːl.", str)
    assert entries["the"] == "dh ax0"
    assert "it's" not in lexicon("it's late.", "ɪts lˈeɪt.", str)


def test_phones_have_names_in_both_notations() -> None:
    assert [ipa_phone(name) for name in ("ow", "ax", "sh", "er", "pau")] == ["oʊ", "ə", "ʃ", "ɚ", ""]


@pytest.mark.integration
@pytest.mark.skipif(
    not all(map(shutil.which, ("flite", "bible"))) or not all(Path(file).exists() for file in CORPUS),
    reason="the Debian packages of the corpus are not installed",
)
def test_flite_says_the_phones_that_the_front_end_reads() -> None:
    """Measured on 2026-11-26: 0.3 % of the phones of 200 everyday sentences differ."""
    texts = [utterance.text for utterance in OpenCorpus(0.1).utterances("train")[:50]]
    wrong = total = 0
    for text in texts:
        read = [phone for word in re.sub("[.,?!]", " ", phones(text)).split() for phone in cmu_phones(word)]
        expected = heard(read)
        spoken = [phone for phone, _ in VOICES["robert"].speak(text).phones if phone]
        said = heard([phone for ipa in spoken for phone in cmu_phones(ipa)])
        wrong += Levenshtein.distance(expected, said)
        total += len(expected)
    assert wrong < 0.02 * total, f"{wrong} of {total} phones differ"
