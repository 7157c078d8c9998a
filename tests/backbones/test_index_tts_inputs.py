"""What goes into IndexTTS: its text, its reference, and the frozen network that hears it."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.backbones.contract import columns_of_tokens
from tests.backbones.index_tts import GOLDEN, LETTERS, codes, conditioning, load, pieces, sound, write_release
from wand.attention import AttentionWindow
from wand.backbones.index_tts import IndexTTS
from wand.backbones.index_tts.conditioning import LATENTS, log_mel
from wand.backbones.index_tts.inputs import IndexTTSConditioner, PieceTokenizer, clean_text
from wand.codecs.reference import Reference
from wand.model.batch import make_batch


@pytest.fixture
def model(tmp_path: Path) -> IndexTTS:
    return load(write_release(tmp_path / "release"))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Hello, there.", "HELLO, THERE."),
        ("  so it is\n", "SO IT IS"),
        ("one\ntwo", "ONE TWO"),
        ("你好世界是 hello world 的中文", "你 好 世 界 是 HELLO WORLD 的 中 文"),
        ("你好，世界！好吗？", "你 好 , 世 界 ! 好 吗 ?"),
        ("wait... what；yes：no", "WAIT… WHAT,YES,NO"),
        ("“quoted” (aside) [note]", "'QUOTED' 'ASIDE' 'NOTE'"),
        ("克里斯·诺兰—约~翰", "克 里 斯 - 诺 兰 - 约 - 翰"),
        ("安静，，，好", "安 静 … 好"),
        ("嗯，呣", "恩 , 母"),
        ("It's here. What's that? It’s SHE'S", "IT IS HERE. WHAT IS THAT? IT IS SHE IS"),
        ("the spirit's, Anna's, let's, its, it'sa", "THE SPIRIT'S, ANNA'S, LET'S, ITS, IT'SA"),
        ("ju4 qu1 xu5 jue2 qun2 xuan4", "JV4 QV1 XV5 JVE2 QVN2 XVAN4"),
        ("XUAN4 jü4 qüe1 xün2 jve2", "XVAN4 JV4 QVE1 XVN2 JVE2"),
        ("学xue2xi2，局ju2", "学 XVE2XI2, 局 JV2"),
        ("jiu4 lu4 zhu3 quick just xu ju6 aju4", "JIU4 LU4 ZHU3 QUICK JUST XU JU6 AJU4"),
        ("안녕", "안 녕"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_texts_are_cleaned(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


def test_text_is_read_by_the_model_of_the_release(model: IndexTTS) -> None:
    made = model.conditioner("Hi, 你好!", sound(0.5))
    tokenizer = PieceTokenizer(pieces())
    ids = {letter: tokenizer(letter)[-1] for letter in LETTERS}
    blank = tokenizer("A B")[2]
    spelled = [blank, *(ids[c] for c in "HI,"), blank, ids["你"], blank, ids["好"], blank, ids["!"]]
    assert made["text"].tolist() == [0, *spelled, 1]
    assert model.conditioner.length(made) == 32 + len(spelled) + 3


def test_a_prefix_from_tokens_is_that_of_the_text(model: IndexTTS) -> None:
    voice = sound(0.5)
    tokens, begin, end = columns_of_tokens(model.conditioner, text := "“Hi…” he said — 你好, so.", voice)
    assert tokens.words == ("“Hi…”", "he", "said —", "你", "好,", "so.")
    assert begin == LATENTS + 1
    assert tuple(model.conditioner(text, voice)["text"][begin - LATENTS : end - LATENTS].tolist()) == tokens.ids
    blank = tokens.ids[0]
    assert all(tokens.ids[first] == blank for first in tokens.firsts)


def test_units_of_a_text_have_its_tokens(model: IndexTTS) -> None:
    text = "So it is. He said: go on, then. 你好 “Yes” — and no one went."
    units = [" So it is.".strip(), " He said: go on,", " then. 你好", " “Yes” — and no one went."]
    assert "".join(units) == text
    ids = [id for unit in units for id in model.conditioner.tokens(unit).ids]
    assert tuple(ids) == model.conditioner.tokens(text).ids


def test_marks_in_a_text_are_left_out(model: IndexTTS) -> None:
    """Start and stop are the model's to set."""

    class Marking(PieceTokenizer):
        def __call__(self, text: str) -> list[int]:
            return [0, *super().__call__(text), 1]

    marking = IndexTTSConditioner(model.shape, Marking(pieces()))
    voice = sound(0.5)
    assert torch.equal(marking("hello", voice)["text"], model.conditioner("hello", voice)["text"])


def test_texts_that_cannot_be_spoken_are_refused(model: IndexTTS) -> None:
    voice = sound(0.5)
    with pytest.raises(ValueError, match=r"does not know: '2' .*numbers"):
        model.conditioner("at 2", voice)
    assert len(model.conditioner("ab " * 13, voice)["text"]) <= 42
    with pytest.raises(ValueError, match=r"takes 41 tokens, the model has positions for 40"):
        model.conditioner("a" * 40, voice)
    longest = model.conditioner("a" * 39, voice)
    batch = make_batch(model.conditioner, model.layout, [longest])
    assert model.embed_prefix(batch).shape[1] == 32 + 42 + 1


def test_a_reference_needs_sound(model: IndexTTS) -> None:
    with pytest.raises(ValueError, match="needs the audio of the reference"):
        model.conditioner("hello", Reference(torch.zeros(1, 5)))
    with pytest.raises(ValueError, match="240 samples"):
        model.conditioner("hello", sound(0.01))


def test_a_long_reference_is_heard_for_fifteen_seconds(model: IndexTTS) -> None:
    voice = sound(20)
    assert voice.audio is not None
    mel = model.conditioner("hello", voice)["mel"]
    assert mel.shape == (1 + 15 * 24_000 // 256, 100)
    assert torch.equal(mel, log_mel(voice.audio[: 15 * 24_000]))


def slow_log_mel(audio: np.ndarray) -> np.ndarray:
    """By the definition: frames, Hann window, magnitudes, triangles that are straight in Hz between points in mel."""
    padded = np.pad(audio, 512, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    frames = [np.abs(np.fft.rfft(padded[i : i + 1024] * window)) for i in range(0, len(padded) - 1023, 256)]
    highest = 2595 * np.log10(1 + 12_000 / 700)
    points = 700 * (10 ** (np.linspace(0, highest, 102) / 2595) - 1)
    hertz = np.arange(513) * 24_000 / 1024
    bands = np.zeros((513, 100))
    for band in range(100):
        low, middle, high = points[band : band + 3]
        for i, f in enumerate(hertz):
            bands[i, band] = max(0.0, min((f - low) / (middle - low), (high - f) / (high - middle)))
    return np.log(np.maximum(np.stack(frames) @ bands, 1e-7))


@pytest.mark.parametrize("loudness", [0.1, 0.0])
def test_the_mel_is_its_definition(loudness: float) -> None:
    audio = loudness * torch.randn(3000, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(slow_log_mel(audio.double().numpy())).float()
    torch.testing.assert_close(log_mel(audio), expected, atol=1e-3, rtol=0)


@torch.no_grad()
def test_references_of_any_length_are_heard_as_each_alone(model: IndexTTS) -> None:
    model.double()  # so that nothing but padding could make a difference
    mel = GOLDEN.inputs["cond_mel"][0].T
    given = [{**conditioning(model, 0), "mel": mel[:frames]} for frames in (40, 29, 3, 12)]
    batch = make_batch(model.conditioner, model.layout, given).conditioning
    together = model.voice_latents(batch["mel"], batch["frames"])
    for row, one in enumerate(given):
        alone = model.voice_latents(one["mel"][None], torch.tensor([len(one["mel"])]))[0]
        torch.testing.assert_close(together[row], alone, atol=1e-11, rtol=0)


def test_what_hears_is_frozen(model: IndexTTS) -> None:
    """No gradient, never in training mode; all else is trained."""
    model.train()
    networks = (model.conditioning_encoder, model.perceiver_encoder)
    assert model.decoder.training
    assert not any(module.training for network in networks for module in network.modules())
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    expected = ("conditioning_encoder.", "perceiver_encoder.", "text_head.")
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(expected)}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    batch = make_batch(model.conditioner, model.layout, [conditioning(model, 0)], [codes(0)])
    model(batch, AttentionWindow(4)).square().mean().backward()
    optimiser.step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}


def test_sentencepiece_is_asked_for_when_a_text_comes(model: IndexTTS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ValueError, match=r"pip install sentencepiece, or wand-tts\[indextts\]"):
        pickle.loads(pickle.dumps(model.conditioner))("hello", sound(0.5))


@pytest.mark.parametrize("content", [b"", b"nothing", pieces()[:300]])
def test_a_damaged_tokenizer_is_refused(model: IndexTTS, content: bytes) -> None:
    model.use_files({**model.files, "bpe.model": content})
    with pytest.raises(ValueError, match=r"bpe\.model is not a SentencePiece model") as error:
        model.conditioner("hello", sound(0.5))
    assert "\n" not in str(error.value)


def test_a_tokenizer_of_another_model_is_refused(model: IndexTTS) -> None:
    smaller = IndexTTSConditioner(replace(model.shape, number_text_tokens=20), PieceTokenizer(pieces()))
    with pytest.raises(ValueError, match=r"has \d+ pieces, the model has 20"):
        smaller("hello", sound(0.5))


def test_a_model_without_its_files_says_so(model: IndexTTS) -> None:
    rebuilt = IndexTTS.from_architecture(model.architecture())
    with pytest.raises(ValueError, match=r"bpe.model\) is missing"):
        rebuilt.conditioner("hello", sound(0.5))
    assert rebuilt.conditioner.fingerprint != model.conditioner.fingerprint
    rebuilt.use_files(model.files)
    assert rebuilt.conditioner.fingerprint == model.conditioner.fingerprint
