"""Characters of a text: one form for equal texts, and the scripts that a language is written in."""

from __future__ import annotations

import re
import unicodedata

import regex

# Number of the rules of this room. It is part of every conditioner's fingerprint, so that data that were prepared with
# other rules are prepared again.
RULES = 3

# Characters that exist only as another form of a letter: ligatures, full-width letters, half-width kana.
_FORMS = re.compile("[\ufb00-\ufb4f\uff00-\uffef]+")
_QUOTES = str.maketrans(
    "\u2018\u2019\u201a\u201b\u02bc\u2032`\u00b4\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", "'" * 8 + '"' * 7
)
# Invisible characters inside words: zero-width space, word joiner, soft hyphen, byte order mark, text direction.
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]+")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
# The joiners change letters of Arabic and Indic scripts. Between other letters they mean nothing.
_JOINERS = regex.compile(
    r"(?<![\p{Arabic}\p{Syriac}\p{Devanagari}\p{Bengali}\p{Gurmukhi}\p{Gujarati}\p{Oriya}\p{Tamil}\p{Telugu}"
    r"\p{Kannada}\p{Malayalam}\p{Sinhala}\p{Emoji_Presentation}\ufe0f])[\u200c\u200d]+"
)

# The script of each language that is not written in Latin letters, by its ISO 639 code.
_SCRIPTS = {
    **dict.fromkeys(("am", "ti"), ("Ethiopic",)),
    **dict.fromkeys(("ar", "fa", "ur", "ug", "sd", "ps"), ("Arabic",)),
    **dict.fromkeys(("ba", "be", "bg", "cv", "kk", "ky", "mk", "mn", "nog", "ru", "tg", "tt", "uk"), ("Cyrillic",)),
    **dict.fromkeys(("sr", "uz"), ("Cyrillic", "Latin")),
    **dict.fromkeys(("hi", "mr", "ne", "kok"), ("Devanagari",)),
    **dict.fromkeys(("bn", "as", "bpy"), ("Bengali",)),
    **dict.fromkeys(("zh", "cmn", "yue", "hak"), ("Han", "Bopomofo")),
    "chr": ("Cherokee",),
    "el": ("Greek",),
    "grc": ("Greek",),
    "gu": ("Gujarati",),
    "he": ("Hebrew",),
    "hy": ("Armenian",),
    "hyw": ("Armenian",),
    "ja": ("Han", "Hiragana", "Katakana"),
    "ka": ("Georgian",),
    "km": ("Khmer",),
    "kn": ("Kannada",),
    "ko": ("Hangul", "Han"),
    "lo": ("Lao",),
    "ml": ("Malayalam",),
    "my": ("Myanmar",),
    "shn": ("Myanmar",),
    "or": ("Oriya",),
    "pa": ("Gurmukhi",),
    "si": ("Sinhala",),
    "ta": ("Tamil",),
    "te": ("Telugu",),
    "th": ("Thai",),
}
_ALL_SCRIPTS = sorted({script for scripts in _SCRIPTS.values() for script in scripts})
EMPTY = "the text is empty: give at least one word"
# Better known by the language.
_LANGUAGES = {"Han": "Chinese", "Hiragana": "Japanese", "Katakana": "Japanese", "Hangul": "Korean"}
# A single Greek letter is a symbol in every language ("the angle α").
_SYMBOL = regex.compile(r"(?<!\p{L})\p{Greek}(?!\p{L})")


def compose(text: str) -> str:
    """The text with composed accents (NFC), without invisible characters, with blanks for control characters.

    Texts that look the same become equal, and nothing that is spoken is lost. Line breaks and tabs stay.
    """
    text = _JOINERS.sub("", _INVISIBLE.sub("", unicodedata.normalize("NFC", text)))
    return _CONTROL.sub(" ", text)


def is_empty(text: str) -> bool:
    """Whether a text has nothing but blanks and invisible characters."""
    return not compose(text).strip()


def check_not_empty(text: str) -> None:
    """Check that a text is not empty.

    Raises:
        ValueError: If it is.
    """
    if is_empty(text):
        raise ValueError(EMPTY)


def clean(text: str) -> str:
    """`compose`, and also plain quotes, plain forms of letters, and blanks for all white space."""
    text = _FORMS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), compose(text))
    return " ".join(text.translate(_QUOTES).split())


def base_language(language: str) -> str:
    """The language without region or variant: ``en`` for ``en-us``, ``zh`` for ``cmn``."""
    base = re.split(r"[-_]", language.lower())[0]
    return "zh" if base == "cmn" else base


def check_scripts(text: str, language: str) -> None:
    """Check that a language is written in the letters of a text. Latin letters are allowed in every language.

    Raises:
        ValueError: If it is not. The message names the script, its letters and the language.
    """
    allowed = {"Latin", "Common", "Inherited", *_SCRIPTS.get(base_language(language), ())}
    inside = "".join(rf"\p{{{script}}}" for script in allowed)
    foreign = regex.findall(rf"[[\p{{L}}\p{{M}}]--[{inside}]]+", _SYMBOL.sub("", text), regex.V1)
    if foreign:
        raise ValueError(
            f"the text {text!r} has {_script(foreign[0])} letters ({foreign[0]}), which the front end for {language} "
            f"cannot read: write the text in that language, or use a model for the other"
        )


def _script(letters: str) -> str:
    """The name of the first letter's script or language, for example `Cyrillic` or `Chinese`."""
    for script in _ALL_SCRIPTS:
        if regex.match(rf"\p{{{script}}}", letters):
            return _LANGUAGES.get(script, script)
    return unicodedata.name(letters[0], "unknown").split()[0].capitalize()
