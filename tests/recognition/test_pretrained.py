"""Recognisers of transformers, from folders as they are released, with tiny random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
)

from wand.recognition import PretrainedRecogniser, open_recogniser

RATE = 16_000


@pytest.fixture
def ctc(tmp_path: Path) -> Path:
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghij"]
    (tmp_path / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json")).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2ForCTC(config).save_pretrained(tmp_path)
    return tmp_path


def test_a_ctc_model_from_a_folder(ctc):
    recogniser = open_recogniser(str(ctc))
    assert isinstance(recogniser, PretrainedRecogniser)
    sounds = [torch.randn(RATE // 2) * 0.1, torch.zeros(0), torch.randn(RATE) * 0.1]
    texts = recogniser.transcribe(sounds, RATE)
    assert texts[1] == ""
    assert set("".join(texts)) <= set("abcdefghij <>unkpads/")
    # Resampled before it is heard: a slower rate gives the same text as the resampled sound.
    from wand.files.audio import resample

    assert recogniser.transcribe([sounds[2]], 8_000) == recogniser.transcribe([resample(sounds[2], 8_000, RATE)], RATE)


def test_what_is_not_there_is_not_downloaded():
    with pytest.raises(ValueError, match=r"nowhere/whisper.*hf download"):
        open_recogniser("nowhere/whisper")


@pytest.mark.parametrize("damaged", ["config.json", "model.safetensors"])
def test_a_folder_with_a_file_missing_is_refused(ctc, damaged):
    (ctc / damaged).unlink()
    with pytest.raises(ValueError, match="cannot be opened"):
        open_recogniser(str(ctc))
