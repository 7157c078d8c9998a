"""Recognisers of transformers, from folders as they are released, with tiny random weights."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizerFast,
)

from tests.damaged_models import change_config, cut_weights, leave_out
from wand.recognition import PretrainedRecogniser, open_recogniser
from wand.recognition.piecewise import cut_at_pauses

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


@pytest.mark.parametrize("damage", ["cut", "size", "config"])
def test_a_damaged_folder_is_refused_in_one_line(ctc: Path, damage: str) -> None:
    if damage == "cut":
        cut_weights(ctc)
    elif damage == "size":
        change_config(ctc, hidden_size=32)
    else:
        change_config(ctc, conv_dim=[1])
    with pytest.raises(ValueError, match="cannot be opened") as error:
        open_recogniser(str(ctc))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("without", "refused"), [("lm_head.", True), ("masked_spec_embed", False)])
def test_a_model_without_its_head_is_refused(ctc: Path, without: str, refused: bool) -> None:
    leave_out(ctc, without)
    with pytest.raises(ValueError, match=r"no weights 'lm_head\.bias'") if refused else nullcontext():
        open_recogniser(str(ctc))


def test_a_missing_device_is_told_in_one_line(ctc: Path) -> None:
    with pytest.raises(ValueError, match="device 'cuda:99' cannot be used"):
        PretrainedRecogniser(str(ctc), "cuda:99")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper of two languages."""
    folder = tmp_path_factory.mktemp("whisper")
    letters = {letter: i for i, letter in enumerate("abcdefgh")}
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    ids = {token: len(letters) + i for i, token in enumerate(special)}
    (folder / "vocab.json").write_text(json.dumps({**letters, **ids}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    WhisperTokenizerFast(
        str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token="<|endoftext|>"
    ).save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    torch.manual_seed(0)
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(letters) + len(special),
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            pad_token_id=end,
            bos_token_id=end,
            eos_token_id=end,
            decoder_start_token_id=start,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        )
    )
    settings = model.generation_config
    settings._from_model_config = False  # otherwise, loading makes new settings from the config
    settings.is_multilingual, settings.max_length = True, 12
    settings.lang_to_id = {name: ids[name] for name in ("<|en|>", "<|de|>")}
    settings.task_to_id = {"transcribe": ids["<|transcribe|>"]}
    settings.no_timestamps_token_id = ids["<|notimestamps|>"]
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("language", "token"), [("de", "<|de|>"), ("en-us", "<|en|>")])
def test_the_language_is_passed_on(whisper: Path, language: str, token: str) -> None:
    recogniser = PretrainedRecogniser(str(whisper), language=language)
    begun: list[list[int]] = []
    recogniser._listen.model.model.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: begun.append(kwargs["input_ids"][0].tolist()), with_kwargs=True
    )
    recogniser.transcribe([torch.randn(RATE) * 0.1], RATE)
    assert recogniser.language == language
    assert recogniser._listen.tokenizer.convert_tokens_to_ids(token) in begun[0]


def test_sounds_of_more_than_half_a_minute_are_heard_in_pieces(whisper: Path) -> None:
    long, short = torch.randn(31 * RATE) * 0.1, torch.randn(2 * RATE) * 0.1
    heard = open_recogniser(str(whisper)).transcribe([long, short], RATE)
    model = PretrainedRecogniser(str(whisper))
    pieces = model.transcribe(cut_at_pauses(long, RATE), RATE)
    assert len(pieces) == 2
    assert heard == [" ".join(text.strip() for text in pieces), model.transcribe([short], RATE)[0].strip()]


def test_an_unknown_language_is_refused(whisper: Path) -> None:
    with pytest.raises(ValueError, match="does not know the language hi"):
        open_recogniser(str(whisper), language="hi")
    with pytest.raises(ValueError, match="embedded recogniser knows English only, and the language is de"):
        open_recogniser(language="de")
