"""The recipe runs and resumes; the codec that ships is as good as its card says."""

import math
import re
from pathlib import Path

import pytest
import torch
from transformers import EncodecModel

from recipes.codec.train import parser, train
from recipes.corpus.corpus import OpenCorpus
from recipes.corpus.recorded import Recorded

ROOT = Path(__file__).parents[2]
ASSET = ROOT / "wand" / "assets" / "codec"


def run_recipe(speech: Path, out: Path, steps: int, batch: int = 4) -> None:
    options = f"--batch {batch} --segment 0.64 --warm-steps 3 --save-every 4 --sentences 4 --threads 1"
    train(parser().parse_args(["--speech", str(speech), "--out", str(out), "--steps", str(steps), *options.split()]))


@pytest.fixture(scope="module")
def shipped() -> EncodecModel:
    return EncodecModel.from_pretrained(ASSET, dtype=torch.float32).eval()


def round_trip(codec: EncodecModel, audio: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        encoded = codec.encode(audio[None, None])
        return codec.decode(encoded.audio_codes, encoded.audio_scales).audio_values[0, 0, : len(audio)]


def test_recipe_runs_and_resumes(
    spoken: tuple[OpenCorpus, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_recipe(spoken[1], tmp_path / "run", steps=4)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 4
    capsys.readouterr()
    run_recipe(spoken[1], tmp_path / "run", steps=6)
    assert "validation: STOI" in capsys.readouterr().out
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 6
    export = tmp_path / "run" / "export"
    assert "--steps 6" in (export / "README.md").read_text(encoding="utf-8")
    codec = EncodecModel.from_pretrained(export, dtype=torch.float32).eval()
    assert round_trip(codec, torch.randn(4000)).shape == (4000,)


def test_too_little_speech_for_the_codebooks_is_refused(spoken: tuple[OpenCorpus, Path], tmp_path: Path) -> None:
    wanted = "192 latents before the quantiser is used, but at least 256 are needed"
    with pytest.raises(ValueError, match=wanted):
        run_recipe(spoken[1], tmp_path / "run", steps=4, batch=2)


def test_shipped_codec_is_small_and_has_eight_codebooks(shipped: EncodecModel) -> None:
    assert sum(parameter.numel() for parameter in shipped.parameters()) <= 4_000_000
    assert len(shipped.quantizer.layers) == 8
    assert (shipped.config.codebook_size, shipped.config.hop_length, shipped.config.sampling_rate) == (256, 320, 16_000)


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 640, 4321])
def test_frames_are_samples_over_320_rounded_up(shipped: EncodecModel, samples: int) -> None:
    audio = 0.1 * torch.randn(2, 1, samples, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        codes = shipped.encode(audio).audio_codes
        again = shipped.encode(audio).audio_codes
    assert codes.shape == (1, 2, 8, math.ceil(samples / 320))
    assert torch.equal(codes, again)


def test_shipped_codec_is_causal(shipped: EncodecModel) -> None:
    codes = torch.randint(0, 256, (1, 1, 8, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = shipped.decode(codes, [None]).audio_values
        part = shipped.decode(codes[..., :25], [None]).audio_values
    assert torch.allclose(whole[..., : 25 * 320], part, atol=1e-5)


def test_shipped_codec_is_as_good_as_its_card_says(shipped: EncodecModel, spoken: tuple[OpenCorpus, Path]) -> None:
    stoi = pytest.importorskip("pystoi").stoi
    row = re.search(
        r"^\| (0\.\d+) \| 0\.\d+ \| 0\.\d+ \|", (ASSET / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert row is not None
    source = Recorded(spoken[1])
    scores = []
    for utterance in source.utterances("test"):
        audio = source.audio(utterance)
        scores.append(stoi(audio.numpy(), round_trip(shipped, audio).numpy(), source.sample_rate))
    assert sum(scores) / len(scores) > float(row[1]) - 0.03
