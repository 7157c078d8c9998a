"""Natural sentences from texts that Debian packages carry; `README.md` lists the packages and their licences."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from recipes.corpus.lexicon import is_rude, pronunciations
from wand.text.sentences import split_sentences

_FORTUNES = Path("/usr/share/games/fortunes")
# Without ASCII art, code, conversations of programmers, lyrics, dialogues of films, and jokes about groups of people.
_COLLECTIONS = (
    "art", "cookie", "education", "food", "fortunes", "goedel", "humorists", "kids", "law", "literature", "medicine",
    "miscellaneous", "news", "people", "pets", "platitudes", "politics", "riddles", "science", "sports", "tao",
    "wisdom", "work",
)  # fmt: skip
_PROSE = {
    Path("/usr/share/doc/flite/examples/alice"): "flite",
    Path("/usr/share/state/us-constitution.gz"): "miscfiles",
    Path("/usr/share/state/us-declaration.gz"): "miscfiles",
}
_QUOTES = re.compile(r"[`\"()\[\]*_]|(?<!\w)'|'(?!\w)")
_SPEAKABLE = re.compile(r"[A-Z][A-Za-z',;: -]*[.?!]")
# Letters of a sentence of 1 to 20 seconds.
SHORTEST, LONGEST = 12, 270


def _existing(path: Path, package: str) -> Path:
    if not path.exists():
        raise ValueError(f"the corpus reads {path}, which is missing: install the Debian package `{package}`")
    return path


def bible() -> Iterator[str]:
    """Sentences of the King James Bible (`bible-kjv`)."""
    if shutil.which("bible") is None:
        raise ValueError("the corpus reads the Bible with the program `bible`: install the Debian package `bible-kjv`")
    verses = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, text=True, check=True).stdout
    for verse in verses.splitlines():
        yield from sentences(verse.partition(" ")[2])


def prose() -> Iterator[str]:
    """Sentences of two chapters of Alice in Wonderland and of two documents of American law (`flite`, `miscfiles`)."""
    for path, package in _PROSE.items():
        data = _existing(path, package).read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        for paragraph in re.split(r"\n\s*\n", text):
            yield from sentences(re.sub(r"-\n", "-", paragraph))


def fortunes() -> Iterator[str]:
    """Sentences of short quotations (`fortunes`, `fortunes-min`)."""
    for name in _COLLECTIONS:
        text = _existing(_FORTUNES / name, "fortunes").read_text(encoding="utf-8", errors="replace")
        for entry in text.split("\n%\n"):
            said = re.split(r"\n\s*(?:--|\[|~)|\t--", entry)[0]
            if not re.search(r"[{}<>|=\\/@#$]|\n.*\S {4,}\S", said):
                yield from sentences(said)


NATURAL = {"bible": bible, "prose": prose, "fortunes": fortunes}


@cache
def natural_sentences(kind: str) -> tuple[str, ...]:
    """The distinct sentences of one kind, in the order of the text.

    Args:
        kind: One of `NATURAL`.

    Raises:
        ValueError: If a package is not installed.
    """
    return tuple(dict.fromkeys(NATURAL[kind]()))


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text that are English prose of a speakable length. Long ones are cut at colons."""
    plain = _QUOTES.sub(" ", text).replace("--", ", ")
    for sentence in split_sentences(" ".join(plain.split()), None):
        for part in _parts(re.sub(r"\s+(?=[,;:.?!])", "", sentence)):
            if SHORTEST <= len(part) <= LONGEST and _SPEAKABLE.fullmatch(part) and _is_english(part):
                yield part


def _parts(sentence: str) -> Iterable[str]:
    if len(sentence) <= LONGEST:
        return [sentence]
    cut = [part.strip() for part in re.split(r"[:;]\s", sentence)]
    return [part[:1].upper() + part[1:].rstrip(",;:.?!") + "." for part in cut]


def _is_english(text: str) -> bool:
    """Whether nearly all words are in the pronouncing dictionary, and none is rude or shouted."""
    words = re.findall(r"[A-Za-z']+", text)
    known = sum(word.lower() in pronunciations() for word in words)
    shouted = any(word.isupper() and len(word) > 3 for word in words)
    return len(words) > 1 and known >= 0.85 * len(words) and not shouted and not is_rude(text)
