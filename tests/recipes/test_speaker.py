"""The ear for voices: with the real weights where they are installed, its errors everywhere."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from recipes.ear.speaker import SpeakerEncoder
from wand.demo.corpus import VOICES
from wand.files.audio import resample
from wand.metrics.similarity import similarity_by_part
from wand.text.espeak import SAMPLE_RATE, synthesize

TEXTS = (
    "The bus was late again this morning, and nobody at the stop knew the reason.",
    "My sister laughed at the yellow umbrella that I bought for her in the old town.",
)


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    package = find_spec("resemblyzer")
    if package is None or package.origin is None:
        pytest.skip("resemblyzer is not installed")
    return SpeakerEncoder(Path(package.origin).parent / "pretrained.pt")


@pytest.mark.integration
def test_every_voice_is_most_similar_to_itself(encoder: SpeakerEncoder) -> None:
    first, second = (torch.stack([encoder(synthesize(text, voice), SAMPLE_RATE) for voice in VOICES]) for text in TEXTS)
    assert torch.allclose(first.norm(dim=1), torch.ones(len(VOICES)), atol=1e-5)
    assert (first @ second.T).argmax(1).tolist() == list(range(len(VOICES)))


@pytest.mark.integration
def test_level_silence_and_sample_rate_change_little(encoder: SpeakerEncoder) -> None:
    sound = synthesize(TEXTS[0], VOICES[0])
    silent = torch.zeros(2 * SAMPLE_RATE)
    wanted = encoder(sound, SAMPLE_RATE)
    for same in (torch.cat([silent, 0.1 * sound, silent]), sound * 0.2):
        assert float(encoder(same, SAMPLE_RATE) @ wanted) > 0.99
    assert float(encoder(resample(sound, SAMPLE_RATE, 24_000), 24_000) @ wanted) > 0.99
    assert torch.isfinite(encoder(torch.zeros(0), SAMPLE_RATE)).all()


@pytest.mark.integration
def test_another_voice_in_the_middle_is_noticed(encoder: SpeakerEncoder) -> None:
    own, other = (synthesize(TEXTS[0], voice) for voice in VOICES[:2])
    reference = synthesize(TEXTS[1], VOICES[0])
    edges = [0.0, len(own) / SAMPLE_RATE, (len(own) + len(other)) / SAMPLE_RATE]
    kept, lost = similarity_by_part(torch.cat([own, other]), SAMPLE_RATE, reference, edges, encoder).tolist()
    assert kept > 0.9
    assert lost < 0.8


def test_what_is_no_speaker_encoder_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save({"model_state": {"lstm.weight_ih_l0": torch.zeros(2, 2)}}, other)
    (tmp_path / "text.pt").write_text("no weights")
    for path in (tmp_path / "none.pt", tmp_path / "text.pt"):
        with pytest.raises(ValueError, match=rf"no speaker encoder can be read from {path}"):
            SpeakerEncoder(path)
    with pytest.raises(ValueError, match=r"other\.pt holds a model of another size"):
        SpeakerEncoder(other)
