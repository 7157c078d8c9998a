"""Long texts are spoken, stored and heard once, and the figures are those of the speeches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from benchmarks.long_speech.__main__ import measure
from benchmarks.long_speech.figures import DIFFERENCE, RATIO, Mistakes, error_figures, mistakes, sound_figures
from benchmarks.long_speech.record import PASSAGE, SPLITTING, SYSTEMS, Facts
from benchmarks.long_speech.report import to_markdown
from benchmarks.long_speech.texts import LongText, all_sentences, long_texts, sentences_of
from benchmarks.voice.stages import reference_of, speak
from recipes.corpus.voices import VOICES
from wand.backbones.encodec_lm import EncodecLM
from wand.decoding.decoder import Decoder
from wand.recognition import Piecewise, open_recogniser
from wand.text.espeak import SAMPLE_RATE

SENTENCES = ("the water is very cold.", "my uncle opened the golden box.")


class Deaf:
    """A recogniser that hears nothing."""

    name = "deaf"
    language = "en"

    def transcribe(self, sounds: Sequence[torch.Tensor], sample_rate: int) -> list[str]:
        return [""] * len(sounds)


@pytest.fixture(scope="module")
def voice() -> EncodecLM:
    lm = EncodecLM(pretrained="embedded")
    lm.load_pretrained()
    return lm.eval()


@pytest.fixture(scope="module")
def text(voice: EncodecLM) -> LongText:
    joint = len(speak(" ".join(SENTENCES), "fiona")) / SAMPLE_RATE
    return LongText("fiona", SENTENCES, reference_of("fiona", voice.load_codec()), 4.0, joint)


def test_both_systems_speak_the_text_and_nothing_is_done_twice(
    voice: EncodecLM, text: LongText, tmp_path: Path
) -> None:
    decoder, codec, texts = Decoder(voice, voice.windows(32)), voice.load_codec(), {4.0: [text]}
    ear = Piecewise(open_recogniser())
    (made,) = measure(decoder, codec, texts, 1, 2, [ear], tmp_path, tmp_path / "sounds")
    for system in SYSTEMS:
        (facts,), own = made.spoken[system][0], made.errors["embedded"][system]
        assert facts.sentences == list(SENTENCES)
        assert facts.computing > 0
        assert own["cer"].value < 0.3
        assert made.mistakes["embedded"][system][0][0].missing == []
        first, second = facts.sound["begins"]
        assert first < 0.3
        assert 1.0 < second < 2.5
        assert abs(facts.sound["seconds"] / text.joint - 1) < 0.25
    # The passage has no pause between its sentences, splitting has one.
    assert made.sound[RATIO]["seam_pause"].value < 0.6
    assert [word for word, _, _ in made.spoken[PASSAGE][0][0].words] == text.text.split()
    assert len(list((tmp_path / "sounds").iterdir())) == len(SYSTEMS)
    assert json.loads(json.dumps(made.to_json(), allow_nan=False))["texts"][0]["sentences"] == 2
    lines = [line for line in to_markdown([made]).splitlines() if line.startswith("| 4 |")]
    assert len(lines) == 6

    codes = {path.name: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("fiona*")}
    assert next(measure(decoder, codec, texts, 1, 2, [ear], tmp_path)).to_json() == made.to_json()
    assert {path: path.stat().st_mtime_ns for path in times} == times
    (heard,) = measure(decoder, codec, texts, 1, 2, [ear, Deaf()], tmp_path)
    assert repr(heard.errors["embedded"]) == repr(made.errors["embedded"])  # one text has no interval: NaN
    assert heard.errors["deaf"][PASSAGE]["cer"].value == 1.0
    assert all(path.stat().st_mtime_ns == times[path] for path in times if path.suffix == ".safetensors")
    (tmp_path / "4s" / "fiona-0-splitting.json").unlink()
    list(measure(decoder, codec, texts, 1, 1, [ear], tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*.safetensors")} == codes

    other = {4.0: [LongText("fiona", SENTENCES[:1], text.reference, 2.0, 2.0)]}
    with pytest.raises(ValueError, match="another text"):
        list(measure(decoder, codec, other, 1, 2, [ear], tmp_path))
    with pytest.raises(ValueError, match="another model"):
        list(measure(Decoder(voice, voice.windows(16)), codec, texts, 1, 2, [ear], tmp_path))


def test_a_model_without_alignment_heads_is_refused(
    voice: EncodecLM, text: LongText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice, "alignment_heads", ())
    with pytest.raises(ValueError, match="alignment heads"):
        list(measure(Decoder(voice, voice.windows(32)), voice.load_codec(), {4.0: [text]}, 1, 2, [], tmp_path))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_shorter_texts_are_the_beginnings_of_longer_ones(voice: EncodecLM) -> None:
    texts = long_texts(voice.load_codec(), [15, 6], ["marcus", "fiona"])
    for short, long in zip(texts[6], texts[15], strict=True):
        assert short.voice == long.voice
        assert long.sentences[: len(short.sentences)] == short.sentences
        assert 6 <= short.summed < 15 <= long.summed
        assert 0.9 < long.joint / long.summed < 1.1
    with pytest.raises(ValueError, match="choose from robert"):
        long_texts(voice.load_codec(), [6], ["nobody"])


def test_the_texts_of_voices_are_different_sentences() -> None:
    texts = [sentences_of(voice) for voice in VOICES]
    assert all(sorted(own) == sorted(all_sentences()) for own in texts)
    assert len(all_sentences()) == len({*all_sentences()}) == 600
    assert len({text for own in texts for text in own[:37]}) == 8 * 37


def facts(**changed: object) -> Facts:
    sound = {"seconds": 10.0, "active": 8.0, "begins": [0.0, 4.0], "pitch_drift": 0.5, "level_drift": -1.0}
    seams = {"seam_pitch": [2.0], "seam_level": [1.0], "seam_pause": [0.2], "sentence_pitch": [1.0], "rate_drift": 0.1}
    return Facts(["one two.", "three four."], ["stop token"], [], [], 1.0, 0.0, sound | seams | changed)


def test_sentences_begin_with_their_first_word() -> None:
    spoken = facts()
    spoken.words = [("one", 0.1, 0.5), ("two. three", 0.5, 1.2), ("four.", 1.2, 1.5)]
    assert spoken.begins() == [0.1, 0.5]
    spoken.words = [("one", 0.1, 0.5), ("two.", 0.5, 0.9), ("three", 0.9, 1.2)]
    assert spoken.begins() == [0.1, 0.9]
    spoken.words = spoken.words[:2]
    assert spoken.begins() == [0.1]


def test_a_sentence_that_was_not_reached_is_missing_at_the_end() -> None:
    found = mistakes(facts(begins=[0.0], seconds=12.0), "one two", "en")
    assert found.missing == ["three four."]
    assert sum(letters for _, letters in found.thirds) == sum(letters for _, letters in found.slices)
    (first, _), (last, letters) = found.slices
    assert first == 0
    assert last == letters > 0
    assert found.skip[0] > 0


def test_error_rates_are_pooled_and_their_differences_are_paired() -> None:
    def grid(extra: int) -> list[list[Mistakes]]:
        counts = torch.randint(0, 20, (4, 3, 3)).tolist()
        return [
            [Mistakes([(n + extra, 100) for n in own], [], [], (0, ""), (0, "")) for own in voice] for voice in counts
        ]

    torch.manual_seed(0)
    splitting = grid(0)
    torch.manual_seed(0)
    figures = error_figures({PASSAGE: grid(2), SPLITTING: splitting})
    counts = torch.tensor([[[wrong for wrong, _ in one.thirds] for one in own] for own in splitting]).double() / 100
    assert figures[SPLITTING]["cer"].value == pytest.approx(float(counts.mean()))
    assert figures[SPLITTING]["growth"].value == pytest.approx(float((counts[..., 2] - counts[..., 0]).mean()))
    assert figures[SPLITTING]["cer"].low < figures[SPLITTING]["cer"].value < figures[SPLITTING]["cer"].high
    # Every speech is worse by the same amount, so there is no doubt about the difference.
    paired = figures[DIFFERENCE]["cer"]
    assert [paired.value, paired.low, paired.high, paired.upper] == pytest.approx([0.02] * 4)
    assert figures[DIFFERENCE]["growth"].upper == pytest.approx(0.0, abs=1e-12)


def test_figures_of_the_sound_are_medians_and_ratios() -> None:
    smooth = [[facts(seam_pitch=[0.1, 0.3]), facts(seam_pitch=[0.5])], [facts(seam_pitch=[]), facts(pitch_drift=-0.5)]]
    rough = [[facts(), facts()], [facts(), facts(seconds=20.0)]]
    figures = sound_figures({PASSAGE: smooth, SPLITTING: rough}, [10.0, 20.0])
    assert figures[PASSAGE]["seam_pitch"].value == pytest.approx(0.3)
    assert figures[RATIO]["seam_pitch"].value == pytest.approx(0.15)
    assert figures[PASSAGE]["pitch_drift_size"].value == 0.5
    assert figures[PASSAGE]["duration"].value == pytest.approx(40 / 60)
    assert figures[RATIO]["duration"].value == pytest.approx(40 / 50)
    assert figures[PASSAGE]["letters_per_second"].value == pytest.approx(4 * 15 / 32)
