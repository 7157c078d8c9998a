"""Saved voices, long texts in parts, speech as it comes: with the embedded codec and a random model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import wand
from tests.workplace import SHAPE, Workplace
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.codecs import EncodecCodec
from wand.codecs.reference import Reference
from wand.decoding.stopping import StopReason
from wand.demo.corpus import VOICES
from wand.files.audio import read_audio, write_audio
from wand.model.batch import make_batch
from wand.speech.speaking import SpeakOptions
from wand.speech.synthesizer import Synthesizer
from wand.speech.voices import open_voice, save_voice
from wand.text.espeak import synthesize

TEXT = "so it is. why not? every word is heard, and then another one is heard as well."


@pytest.fixture(scope="module")
def model() -> Synthesizer:
    torch.manual_seed(0)
    lm = EncodecLM(architecture=EncodecLMArchitecture(**SHAPE, reference_seconds=0.5)).eval()
    return Synthesizer(lm, AttentionWindow(8), lm.load_codec())


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    write_audio(tmp_path / "voice.wav", 0.1 * torch.randn(16_000), 16_000)
    return tmp_path / "voice.wav"


def test_a_saved_voice_is_the_voice(model: Synthesizer, sound: Path, tmp_path: Path) -> None:
    voice = model.read_voice(sound, "what is said")
    save_voice(voice, tmp_path / "voices" / "anna.safetensors", model.codec)
    again = model.read_voice(tmp_path / "voices" / "anna.safetensors")
    assert torch.equal(again.codes, voice.codes)
    assert voice.audio is not None
    assert again.audio is not None
    assert torch.equal(again.audio, voice.audio)
    assert (again.text, again.speaker, again.global_codes) == ("what is said", None, None)


def test_silence_before_a_voice_is_no_part_of_it(model: Synthesizer, tmp_path: Path) -> None:
    """The model hears the first half second only."""
    first, later = [], []
    for i, voice in enumerate(VOICES[:3]):
        sound = synthesize("so they went home in the rain.", voice)
        write_audio(tmp_path / f"{i}.wav", sound, 16_000)
        write_audio(tmp_path / f"{i}-late.wav", torch.cat([torch.zeros(16_000), sound, torch.zeros(8_000)]), 16_000)
        first.append(model.read_voice(tmp_path / f"{i}.wav"))
        later.append(model.read_voice(tmp_path / f"{i}-late.wav"))
    for own, late in zip(first, later, strict=True):
        assert own.audio is not None
        assert late.audio is not None
        assert torch.equal(own.audio, read_audio(tmp_path / f"{first.index(own)}.wav", 16_000))
        start = len(late.audio) - len(own.audio)
        assert abs(start) < 0.2 * 16_000
    heard = [model.backbone.conditioner("so it is.", late)["ids"][:25, 0] for late in later]
    for i in range(3):
        for j in range(i):
            assert (heard[i] == heard[j]).float().mean() < 0.5


def test_codes_of_a_saved_voice_that_the_model_does_not_have_are_refused(model: Synthesizer, tmp_path: Path) -> None:
    for code in (256, -1, 99_999):
        codes = torch.zeros(8, 5, dtype=torch.long)
        codes[2, 3] = code
        save_voice(Reference(codes), tmp_path / "voice.safetensors", None)
        with pytest.raises(ValueError, match=rf"code {code} in row 2, frame 3 is not a code of the model, .* 0 to 255"):
            model.read_voice(tmp_path / "voice.safetensors")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"text": 5}, "its text 5 is not a string"),
        ({"speaker": [1]}, r"its speaker \[1\] is not a string"),
        ({"audio": torch.zeros(2, 9, dtype=torch.int16)}, r"its audio is torch.int16 \[2, 9\]"),
        ({"global_codes": torch.tensor([1, torch.nan])}, "its global codes have values that are not finite"),
        ({"global_codes": torch.zeros(1, 4, dtype=torch.long)}, r"its global codes are \[1, 4\], not \[G\]"),
    ],
)
def test_a_saved_voice_with_wrong_types_is_refused(
    model: Synthesizer, tmp_path: Path, wrong: dict[str, Any], words: str
) -> None:
    path = tmp_path / "voice.safetensors"
    save_voice(Reference(**{"codes": torch.zeros(8, 5, dtype=torch.long), **wrong}), path, None)
    with pytest.raises(ValueError, match=f"voice.safetensors cannot be read as a saved voice: {words}") as error:
        model.read_voice(path)
    assert "\n" not in str(error.value)


def test_a_stream_refuses_its_text_at_the_call(model: Synthesizer) -> None:
    with pytest.raises(ValueError, match="the text is empty"):
        model.stream("", Reference(torch.zeros(8, 5, dtype=torch.long)))


def test_files_that_are_no_voice_are_refused(model: Synthesizer, tmp_path: Path) -> None:
    path = tmp_path / "voice.safetensors"
    path.write_bytes(b"no voice")
    with pytest.raises(ValueError, match="cannot be read as a saved voice"):
        model.read_voice(path)
    save_voice(Reference(torch.zeros(2, 5, dtype=torch.long)), path, None)
    with pytest.raises(ValueError, match="another model: its codes have 2 rows, EncodecLM has 8"):
        open_voice(path, model.backbone, None)
    with pytest.raises(ValueError, match=r"is named \*\.safetensors"):
        save_voice(Reference(torch.zeros(8, 5, dtype=torch.long)), tmp_path / "voice.wav", None)
    save_voice(Reference(torch.zeros(8, 5, dtype=torch.long)), path, EncodecCodec(num_codebooks=3))
    with pytest.raises(ValueError, match="a voice in another codec"):
        model.read_voice(path)


def test_a_text_in_parts_is_its_parts_with_pauses_between(model: Synthesizer, sound: Path) -> None:
    voice = model.read_voice(sound)
    text = " ".join([TEXT] * 4)
    (whole,) = model.generate(text, voice, SpeakOptions(max_seconds=1, long_text="split", seed=3))
    from wand.text.sentences import split_sentences

    parts = split_sentences(text)
    assert len(parts) > 1
    alone = [model.generate(part, voice, SpeakOptions(max_seconds=1, seed=3 + i))[0] for i, part in enumerate(parts)]
    assert torch.equal(whole.codes, torch.cat([one.codes for one in alone], dim=1))
    pauses = (len(parts) - 1) * round(0.2 * 16_000)
    assert whole.audio is not None
    assert len(whole.audio) == whole.codes.shape[1] * 320 + pauses
    reasons = [one.reason for one in alone]
    assert whole.reason == next((r for r in reasons if r != StopReason.STOP_TOKEN), StopReason.STOP_TOKEN)
    (single,) = model.generate(text, voice, SpeakOptions(max_seconds=1, seed=3))
    assert single.codes.shape[1] <= 50


def test_a_stream_is_the_same_speech(model: Synthesizer, sound: Path) -> None:
    (whole,) = model.generate(TEXT, sound, SpeakOptions(max_seconds=3, seed=5))
    options = SpeakOptions(max_seconds=3, seed=5, first_seconds=0.1, chunk_seconds=0.4)
    parts = list(model.stream(TEXT, sound, options))
    assert len(parts) > 2
    assert torch.equal(torch.cat([part.codes for part in parts], dim=1), whole.codes)
    assert parts[0].codes.shape[1] == 5
    assert whole.audio is not None
    torch.testing.assert_close(torch.cat([part.audio for part in parts]), whole.audio, atol=2e-5, rtol=1e-4)
    assert [part.reason for part in parts] == [None] * (len(parts) - 1) + [whole.reason]


def test_int8_speaks(model: Synthesizer, sound: Path) -> None:
    rounded = Synthesizer(model.backbone, model.window, model.codec, int8=True)
    (spoken,) = rounded.generate(TEXT, sound, SpeakOptions(max_seconds=1))
    assert spoken.codes.shape[1] > 0
    assert rounded.decoder.lean is not None


def test_the_command_saves_a_voice_and_speaks_with_it(run: Workplace, tmp_path: Path) -> None:
    reference, voice = "runs/quickstart/samples/0-reference.wav", str(tmp_path / "anna.safetensors")
    common = ("--ckpt_path", "runs/quickstart", "--max_seconds", "0.5", "--split", "--int8")
    first, second = str(tmp_path / "a.wav"), str(tmp_path / "b.wav")
    run.run("synthesize", "hello. so it is.", "--reference", reference, "--save_voice", voice, "--out", first, *common)
    run.run("synthesize", "hello. so it is.", "--reference", voice, "--out", second, *common)
    assert Path(first).read_bytes() == Path(second).read_bytes()


def test_a_model_saves_a_voice(model: Synthesizer, sound: Path, tmp_path: Path) -> None:
    voice = model.read_voice(sound)
    model.save_voice(tmp_path / "voice.safetensors", voice)
    (own,) = model.generate(TEXT, tmp_path / "voice.safetensors", SpeakOptions(max_seconds=0.5))
    (expected,) = model.generate(TEXT, voice, SpeakOptions(max_seconds=0.5))
    assert torch.equal(own.codes, expected.codes)
    assert own.sample_rate == 16_000


def test_a_model_is_loaded_and_speaks_in_half_precision(run: Workplace, tmp_path: Path) -> None:
    reference = "runs/quickstart/samples/0-reference.wav"
    half = wand.load("runs/quickstart", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.backbone.parameters()} == {torch.bfloat16}
    assert cache_bytes(half, reference) * 2 == cache_bytes(wand.load("runs/quickstart"), reference)
    out = str(tmp_path / "out.wav")
    common = ("--ckpt_path", "runs/quickstart", "--max_seconds", "0.5", "--dtype", "bfloat16")
    run.run("synthesize", "hello. so it is.", "--reference", reference, "--out", out, *common)
    assert Path(out).stat().st_size > 44


def cache_bytes(model: Synthesizer, reference: str) -> int:
    said = model.backbone.conditioner("so", model.read_voice(reference))
    _, cache = model.decoder.prefill(make_batch(model.backbone.conditioner, model.backbone.layout, [said]))
    return cache.nbytes
