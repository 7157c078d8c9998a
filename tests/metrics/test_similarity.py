"""Similarity of voices against transformers' own embeddings, by a tiny random model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import AutoFeatureExtractor, WavLMForXVector

from tests.metrics.sounds import RATE, constant, silence, voice
from tests.metrics.speaker_models import write_model_without_x_vectors, write_speaker_model
from wand.files.audio import resample
from wand.metrics import SpeakerSimilarity
from wand.metrics.similarity import similarity
from wand.metrics.x_vectors import XVectors

FIRST, SECOND = constant(110, 1.2), voice(torch.linspace(200, 260, 2 * RATE), noise=0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaker_model(tmp_path_factory.mktemp("speakers"))


@pytest.fixture(scope="module")
def embed(folder: Path) -> XVectors:
    return XVectors(str(folder))


def by_transformers(folder: Path, sounds: list[Tensor]) -> Tensor:
    """The x-vectors of sounds that are padded to one length."""
    extract = AutoFeatureExtractor.from_pretrained(folder)
    inputs = extract([sound.numpy() for sound in sounds], sampling_rate=RATE, padding=True, return_tensors="pt")
    with torch.no_grad():
        return WavLMForXVector.from_pretrained(folder).eval()(**inputs).embeddings


def test_x_vectors_are_those_of_transformers(folder: Path, embed: XVectors) -> None:
    wanted = torch.cat([by_transformers(folder, [sound]) for sound in (FIRST, SECOND)])
    found = torch.stack([embed(sound, RATE) for sound in (FIRST, SECOND)])
    assert torch.allclose(found, wanted, atol=1e-5)
    assert similarity(FIRST, SECOND, RATE, embed) == pytest.approx(float(cosine_similarity(*wanted, dim=0)), abs=1e-5)


def test_a_sound_is_like_itself_at_any_sample_rate(embed: XVectors) -> None:
    assert similarity(SECOND, SECOND, RATE, embed) == pytest.approx(1, abs=1e-6)
    fine = resample(SECOND, RATE, 24_000)
    assert float(cosine_similarity(embed(fine, 24_000), embed(SECOND, RATE), dim=0)) > 0.99


def test_the_mean_is_over_sounds_with_speech_and_two_processes_are_one(embed: XVectors) -> None:
    ranks = SpeakerSimilarity(embed), SpeakerSimilarity(embed)
    ranks[0].update([FIRST, silence(3)], [FIRST, FIRST], RATE)
    ranks[1].update([FIRST, FIRST[: RATE // 2]], [SECOND, SECOND], RATE)
    ranks[0].merge_state(ranks[1])
    assert float(ranks[0].compute()) == pytest.approx((1 + similarity(FIRST, SECOND, RATE, embed)) / 2)
    assert SpeakerSimilarity(embed).compute().isnan()


def test_opening_a_model_changes_no_random_numbers(folder: Path) -> None:
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    XVectors(str(folder))
    assert torch.equal(torch.rand(3), wanted)


def test_what_is_no_speaker_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"speaker model 'nobody/nothing' cannot be opened .*hf download"):
        XVectors("nobody/nothing")
    with pytest.raises(ValueError, match="device 'cuda:99' cannot be used"):
        XVectors("nobody/nothing", "cuda:99")
    folder = write_speaker_model(tmp_path / "damaged")
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"^speaker model .* cannot be opened .*hf download`$"):
        XVectors(str(folder))
    folder = write_model_without_x_vectors(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"has no weights '\w+.*': give a model with x-vectors"):
        XVectors(str(folder))
