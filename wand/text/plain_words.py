"""The plain words that error rates compare. Two texts that are read aloud alike become equal."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from num2words import CONVERTER_CLASSES, num2words
from whisper_normalizer.english import EnglishTextNormalizer

from wand.text.characters import base_language, clean
from wand.text.english_numbers import LONGEST

# Languages that are written without blanks between words, so that only the letters can be compared.
_WITHOUT_BLANKS = {"bo", "dz", "ja", "km", "lo", "my", "th", "yue", "zh"}
# Languages that write 1,000.5; the others write 1.000,5.
_DECIMAL_POINT = {
    "am", "bn", "en", "gu", "he", "hi", "ja", "km", "kn", "ko", "lo", "ml", "mr", "ms", "my", "ne", "pa", "si", "sw",
    "ta", "te", "th", "tl", "ur", "yi", "yue", "zh",
}  # fmt: skip
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
# Amharic numbers of num2words are right up to 1,000. Some longer ones never return.
_LONGEST_OF = {"am": 3}
_LONG_NUMBER = re.compile(rf"\d{{{LONGEST}}}(?=\d)")


def has_blanks(language: str) -> bool:
    """Whether a language writes blanks between its words, so that words can be counted."""
    return base_language(language) not in _WITHOUT_BLANKS


def plain_words(text: str, language: str = "en") -> str:
    """The words of a text without case, punctuation and ways of spelling, separated by blanks.

    English goes through Whisper's normaliser (Radford et al. 2022, appendix C), which writes numbers as digits. In
    other languages, accents and vowel signs stay, punctuation and symbols become blanks, and numbers are spelled out
    where num2words knows the language. Chinese, Japanese, Thai and their like have no blanks.

    Args:
        text: A text or a transcript.
        language: Language of the text, as an ISO 639 code (``en``, ``zh``) with or without a region (``en-us``).
    """
    text = _join_thousands(unicodedata.normalize("NFKC", clean(text)), base_language(language))
    if base_language(language) == "en":
        # The normaliser drops what stands in brackets, but a voice reads it. It fails on thousands of digits.
        text = _LONG_NUMBER.sub(r"\g<0> ", re.sub(r"[()\[\]{}<>]", " ", text))
        return _letters_and_digits(_whisper()(text), ".%$¢€£'")
    text = _NUMBER.sub(lambda number: f" {_spell(number[0], base_language(language))} ", text)
    text = _letters_and_digits(text.lower(), "")
    return text if has_blanks(language) else text.replace(" ", "")


@cache
def _whisper() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


def _letters_and_digits(text: str, kept: str) -> str:
    """Blanks for punctuation and symbols, except the kept ones inside words. Marks (vowel signs, accents) stay."""
    plain = "".join(
        " " if unicodedata.category(letter)[0] in "PSZ" and letter not in kept else letter
        for letter in text
        if unicodedata.category(letter) != "Cf"  # joiners inside words
    )
    return " ".join(word for word in plain.split() if any(letter.isalnum() for letter in word))


def _join_thousands(text: str, language: str) -> str:
    """Remove the separators of thousands: 1.000.000 and 1 000 000 become 1000000."""
    point, comma = (r"\.", ",") if language in _DECIMAL_POINT else (",", r"\.")
    # A separator that stands twice separates thousands in every language.
    for separator, least in ((comma, 1), (point, 2), ("['’ ]", 1)):
        groups = rf"(?<![\d.,])\d{{1,3}}(?:{separator}\d{{3}}){{{least},}}(?![\d]|{separator}\d)"
        text = re.sub(groups, lambda number: re.sub(r"\D", "", number[0]), text)
    return text


def _spell(number: str, language: str) -> str:
    """A number in words, or as it is written if num2words cannot say it."""
    whole, _, decimals = number.replace(",", ".").partition(".")
    if language not in CONVERTER_CLASSES or len(whole) > _LONGEST_OF.get(language, LONGEST):
        return number
    value = int(whole) if not decimals else float(f"{whole}.{decimals}")
    try:
        return str(num2words(value, lang=language)) or number
    except (ArithmeticError, LookupError, NotImplementedError, RecursionError, TypeError, ValueError):
        # Each language fails in its own way: Kannada overflows at 10 digits, Hungarian has no word for 6 decimals.
        return number
