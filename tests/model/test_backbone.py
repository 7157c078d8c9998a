"""Finding adapters by name, and what all of them share."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, GPT2Config, LlamaConfig, OPTConfig, Starcoder2Config

from wand.attention import AttentionWindow
from wand.attention.body import dropout_settings
from wand.backbones.encodec_lm import EncodecLM
from wand.model.adapters import build_backbone, find_backbone
from wand.registry import known_backbones


def test_the_embedded_adapter_is_known():
    assert known_backbones()["EncodecLM"] == "wand.backbones.encodec_lm"


@pytest.mark.parametrize("name", ["EncodecLM", "wand.backbones.encodec_lm.EncodecLM"])
def test_adapters_are_found_by_name_and_by_class_path(name):
    assert find_backbone(name) is EncodecLM


@pytest.fixture
def announce(tmp_path, monkeypatch):
    """Install a package with an entry point for as long as a test runs."""

    def install(entry: str, source: str = "") -> None:
        (tmp_path / "other_tts.py").write_text(source)
        about = tmp_path / "other_tts-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other-tts\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[wand.backbones]\n{entry}\n")
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_adapters_of_other_packages_are_found(announce):
    source = "from wand.backbones.encodec_lm import EncodecLM\n\n\nclass OtherLM(EncodecLM):\n    pass\n"
    announce("OtherLM = other_tts:OtherLM", source)
    assert known_backbones()["OtherLM"] == "other_tts"
    assert issubclass(find_backbone("OtherLM"), EncodecLM)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CosyVoice9", "unknown backbone 'CosyVoice9': known are .*EncodecLM"),
        ("./my.Parrot", "unknown backbone './my.Parrot': known are"),
        (".x", "unknown backbone '.x': known are"),
        ("no.such.module.Model", "cannot be imported"),
        ("wand.backbones.encodec_lm.Missing", "cannot be imported"),
        ("wand.model.columns.ColumnLayout", "is not a Backbone"),
    ],
)
def test_names_that_lead_nowhere_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        find_backbone(name)


def test_listing_adapters_imports_none(announce):
    announce("Broken = not_even_installed:Broken")
    assert known_backbones()["Broken"] == "not_even_installed"
    with pytest.raises(ValueError, match="cannot be imported"):
        find_backbone("Broken")


def test_a_model_is_rebuilt_from_plain_values(tiny_lm, random_batch):
    again = build_backbone(tiny_lm.spec()).eval()
    again.load_state_dict(tiny_lm.state_dict())
    batch = random_batch(tiny_lm)
    with torch.no_grad():
        assert torch.equal(again(batch, AttentionWindow(4)), tiny_lm(batch, AttentionWindow(4)))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (GPT2Config(attn_pdrop=0), {"resid_pdrop", "embd_pdrop"}),
        (OPTConfig(layerdrop=0.2), {"dropout", "layerdrop"}),
        (Starcoder2Config(residual_dropout=0.1, embedding_dropout=0.1), {"residual_dropout", "embedding_dropout"}),
        (BertConfig(), {"hidden_dropout_prob", "attention_probs_dropout_prob"}),
        (LlamaConfig(), set()),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_dropout_has_many_names(config, named):
    assert {name for name, value in dropout_settings(config).items() if value > 0} == named


def test_positions_count_from_each_rows_first_real_column(tiny_lm):
    starts = torch.tensor([0, 2])
    expected = [[0, 1, 2, 3], [0, 0, 0, 1]]
    assert tiny_lm.position_ids(torch.arange(4), starts).tolist() == expected
    assert tiny_lm.position_ids(torch.arange(4).expand(2, -1), starts).tolist() == expected
    assert tiny_lm.position_ids(torch.tensor([[9], [5]]), starts).tolist() == [[9], [3]]


def test_logits_are_the_heads_of_all_codebooks(tiny_lm):
    hidden = torch.randn(2, 3, tiny_lm.decoder.config.hidden_size)
    logits = tiny_lm.logits(hidden)
    for codebook in range(tiny_lm.num_codebooks):
        torch.testing.assert_close(logits[:, :, codebook], hidden @ tiny_lm.head[codebook].T)
