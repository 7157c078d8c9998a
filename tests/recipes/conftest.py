"""A small spoken corpus for the tests of several recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.corpus.corpus import OpenCorpus
from recipes.corpus.speak import speak
from recipes.corpus.voices import EspeakVoice
from wand.demo.corpus import VOICES


def small(folder: Path, hours: float = 0.01) -> OpenCorpus:
    """A corpus that needs no flite."""
    for name in ("everyday", "demo"):
        (folder / f"{name}.txt").write_text("A sentence for the test only.\n")
    return OpenCorpus(
        hours,
        0,
        4,
        4,
        shares={"demo": 0.5, "names": 0.5},
        voices=[EspeakVoice(VOICES[0]), EspeakVoice(VOICES[1])],
        unseen_voice=EspeakVoice(VOICES[2]),
        everyday=folder / "everyday.txt",
        demo=folder / "demo.txt",
    )


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[OpenCorpus, Path]:
    """A small corpus in two voices of espeak-ng, and the folder in which it is spoken."""
    corpus, folder = small(tmp_path_factory.mktemp("lists")), tmp_path_factory.mktemp("speech")
    speak(corpus, folder, processes=0)
    return corpus, folder
