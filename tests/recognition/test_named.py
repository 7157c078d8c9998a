"""A recogniser of the user, named by its import path."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from torch import Tensor, zeros

from wand.recognition import open_recogniser
from wand.recognition.named import class_and_weights

HERE = "tests.recognition.test_named"


class Loudness:
    """Says whether something is to be heard, in its own words."""

    def __init__(self, weights: str, device: str = "cpu", language: str = "en") -> None:
        if not weights.startswith("words/"):
            raise ValueError(f"no words in {weights}")
        self.name = weights.removeprefix("words/")
        self.device = device
        self.language = language

    def transcribe(self, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
        return [self.name if sound.any() else "" for sound in sounds]


class Nameless(Loudness):
    def __init__(self, weights: str, device: str = "cpu", language: str = "en") -> None:
        self.language = language


class NoEar:
    pass


def test_it_is_opened_with_its_weights() -> None:
    ear = open_recogniser(f"{HERE}.Loudness:words/loud", "meta", "de")
    assert isinstance(ear, Loudness)
    assert (ear.name, ear.device, ear.language) == ("loud", "meta", "de")
    assert ear.transcribe([zeros(3), zeros(3) + 1], 16_000) == ["", "loud"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"{HERE}.Loudness:other", "no words in other"),
        (f"{HERE}.Nobody:words", f"'{HERE}.Nobody' cannot be imported"),
        ("no_such_package.Ear:words", "'no_such_package.Ear' cannot be imported"),
        (f"{HERE}.NoEar:words", "no class with a method `transcribe`"),
        (f"{HERE}.zeros:3", "no class with a method `transcribe`"),
        (f"{HERE}.Nameless:words", "has no text `name`"),
    ],
)
def test_what_is_no_recogniser_is_refused_in_one_line(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        open_recogniser(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("recipes.ear.Whisper:/models/tiny.en", ("recipes.ear.Whisper", "/models/tiny.en")),
        (r"recipes.ear.Whisper:C:\models\tiny.en", ("recipes.ear.Whisper", r"C:\models\tiny.en")),
        (r"C:\models\whisper", None),
        (r"C:/models/whisper.v3", None),
        ("/models/a.b:c", None),
        ("openai/whisper-large-v3", None),
        ("embedded", None),
        ("Ear:weights", None),
        ("package.Ear", None),
        ("package.Ear:", None),
    ],
)
def test_paths_and_names_are_no_classes(name: str, meant: tuple[str, str] | None) -> None:
    assert class_and_weights(name) == meant
