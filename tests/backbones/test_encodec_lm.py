"""EncodecLM keeps the contract; what is its own beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.backbones.contract import Contract
from tests.conftest import TINY, random_codes, sharpened
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture, SymbolConditioner, TextEncoder
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.files.weights import read_weights
from wand.model.adapters import build_backbone
from wand.model.batch import make_batch
from wand.model.columns import ColumnLayout
from wand.testing import Examples
from wand.text.front_end import SYMBOLS

LETTERS = SYMBOLS["letters"]


class TestEncodecLM(Contract):
    def make_backbone(self) -> EncodecLM:
        return sharpened(EncodecLM(architecture=TINY))

    def make_examples(self, backbone: EncodecLM) -> Examples:
        return [
            (backbone.conditioner(text, Reference(random_codes(backbone, 4))), random_codes(backbone, 9))
            for text in ("no", "hello there", "yes.")
        ]


class TestOneCodebook(TestEncodecLM):
    """Without a delay."""

    def make_backbone(self) -> EncodecLM:
        return sharpened(EncodecLM(architecture=EncodecLMArchitecture(**{**vars(TINY), "num_codebooks": 1})))


class TestPhonesAndProgress(TestEncodecLM):
    """With everything that the embedded voice has."""

    def make_backbone(self) -> EncodecLM:
        more = {"front_end": "phones", "symbols": "", "text_kernel": 3, "columns_per_symbol": 2.5}
        lm = EncodecLM(architecture=EncodecLMArchitecture(**{**vars(TINY), **more}))
        with torch.no_grad():
            for progress in (lm.text_progress, lm.speech_progress):
                progress.embed.weight.normal_(std=0.05)
        return sharpened(lm)


@pytest.fixture
def conditioner() -> SymbolConditioner:
    return SymbolConditioner(ColumnLayout(2, 10, 11), "letters", "ab ", reference_frames=3)


def test_a_prefix_is_reference_text_start(conditioner):
    made = conditioner(" B  a\n", Reference(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])))
    assert made["ids"].tolist() == [[1, 11], [2, 5], [3, 6], [11, 7], [1, 1], [2, 2], [0, 0], [3, 3]]
    assert made["is_text"].tolist() == [False] * 4 + [True] * 4
    assert conditioner.length(made) == 8


def test_collation_pads_on_the_left(conditioner):
    voice = Reference(torch.zeros(2, 1, dtype=torch.long))
    short, long = conditioner("a", voice), conditioner("abab", voice)
    batch = conditioner.collate([short, long], conditioner.length(long))
    assert torch.equal(batch["ids"][0, 3:], short["ids"])
    assert torch.equal(batch["ids"][1], long["ids"])
    assert not batch["is_text"][0, :3].any()


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "empty"), (" \n\t", "empty"), ("a1b?", r"'1' '\?'"), ("grüße", "'ü'")],
    ids=["empty", "blank", "digits", "umlaut"],
)
def test_texts_that_cannot_be_spoken_are_refused(tiny_lm, conditioner, text, message):
    speaker = tiny_lm.conditioner if "ü" in text else conditioner
    codes = torch.zeros(speaker.layout.num_codebooks, 2, dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        speaker(text, Reference(codes))


def test_an_empty_reference_is_refused(conditioner):
    with pytest.raises(ValueError, match="reference is empty"):
        conditioner("a", Reference(torch.zeros(2, 0, dtype=torch.long)))


def test_the_fingerprint_tells_conditioners_apart():
    layout = ColumnLayout(2, 10, 11)
    others = {
        SymbolConditioner(layout, "letters", LETTERS, 3).fingerprint,
        SymbolConditioner(layout, "letters", LETTERS, 4).fingerprint,
        SymbolConditioner(layout, "letters", "abc", 3).fingerprint,
        SymbolConditioner(ColumnLayout(3, 10, 11), "letters", LETTERS, 3).fingerprint,
    }
    assert len(others) == 4


def test_filler_is_never_spoken_and_stop_by_the_first_codebook_only(tiny_lm):
    forbidden = tiny_lm.forbidden_tokens()
    stop, filler = tiny_lm.layout.stop_id, tiny_lm.layout.filler_id
    assert forbidden[:, filler].tolist() == [True, True, True]
    assert forbidden[:, stop].tolist() == [False, True, True]
    assert int(forbidden.sum()) == 5


def test_text_and_codes_are_embedded_apart(tiny_lm):
    voice = Reference(torch.ones(3, 2, dtype=torch.long))
    made = tiny_lm.conditioner("b", voice)
    embeds = tiny_lm.embed_prefix(make_batch(tiny_lm.conditioner, tiny_lm.layout, [made]))[0]
    filler = tiny_lm.layout.filler_id
    table = tiny_lm.code_embedding
    torch.testing.assert_close(embeds[0], table[0, 1] + table[1, filler] + table[2, filler])
    torch.testing.assert_close(embeds[-2], tiny_lm.text_encoder.embedding.weight[LETTERS.index("b")])
    torch.testing.assert_close(embeds[-1], tiny_lm.text_encoder.embedding.weight[len(LETTERS)])


def test_half_precision_exports_load_into_single(tiny_lm, tmp_path):
    tiny_lm.save_pretrained(tmp_path, torch.bfloat16)
    again = EncodecLM(pretrained=str(tmp_path))
    again.load_pretrained()
    for name, tensor in tiny_lm.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.bfloat16().float())


def test_weights_are_written_in_the_dtype_of_the_original(tiny_lm, tmp_path):
    tiny_lm.save_pretrained(tmp_path / "half", torch.float16)
    student = build_backbone(EncodecLM(pretrained=str(tmp_path / "half")).spec(), {})
    student.save_pretrained(tmp_path / "out")
    assert {tensor.dtype for tensor in read_weights(tmp_path / "out" / "model.safetensors").values()} == {torch.float16}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float16"


@pytest.mark.parametrize("given", [{}, {"pretrained": "x", "architecture": TINY}], ids=["neither", "both"])
def test_weights_or_a_shape_are_needed(given):
    with pytest.raises(ValueError, match="exactly one"):
        EncodecLM(**given)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_model_is_refused(tiny_lm, tmp_path, missing):
    tiny_lm.save_pretrained(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ValueError, match="no EncodecLM at"):
        EncodecLM(pretrained=str(tmp_path))


def test_a_folder_with_another_model_is_refused(tiny_lm, tmp_path):
    tiny_lm.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match="another model"):
        EncodecLM(pretrained=str(tmp_path))


def damage_truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def damage_other_shape(file: Path) -> None:
    other = EncodecLM(architecture=EncodecLMArchitecture(**{**vars(TINY), "codebook_size": 17}))
    other.save_pretrained(file.parent / "other")
    file.write_bytes((file.parent / "other" / file.name).read_bytes())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncated, "cannot be read"),
        (damage_other_shape, "holds a model of another size"),
    ],
)
def test_damaged_weights_are_refused(tiny_lm, tmp_path, damage, message):
    tiny_lm.save_pretrained(tmp_path)
    model = EncodecLM(pretrained=str(tmp_path))
    damage(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        model.load_pretrained()


def test_shapes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="must divide"):
        EncodecLMArchitecture(hidden_size=30, num_heads=4)


@torch.no_grad()
def test_rows_out_of_step(tiny_lm: EncodecLM) -> None:
    """One row starts a new utterance while the others go on; every step equals the full forward under the mask."""
    lm, window = tiny_lm.eval(), AttentionWindow(tiny_lm.layout.flush_columns + 3)
    texts, frames, steps, restart = ["hello there.", "yes.", "how are you?"], [9, 4, 6], 60, 23
    voices = [Reference(codes=random_codes(lm, n)) for n in frames]
    conditionings = [lm.conditioner(text, voice) for text, voice in zip(texts, voices, strict=True)]
    codes = [random_codes(lm, steps) for _ in texts]
    batch = make_batch(lm.conditioner, lm.layout, conditionings, codes)
    # The new prefix of row 1 is as long as the longest, so that its P is the same.
    late = make_batch(lm.conditioner, lm.layout, [conditionings[0]], [random_codes(lm, steps)])
    expected, expected_late = lm(batch, window), lm(late, window)
    decoder = Decoder(lm, window)
    head = lm.speech_head()
    _, cache = decoder.prefill(batch)
    for step in range(steps):
        columns = batch.columns[:, step].clone()
        if step == restart:
            first, prefilled = decoder.prefill(late)
            torch.testing.assert_close(head.logits(first)[0], expected_late[0, 0], atol=1e-4, rtol=0)
            cache.restart(torch.tensor([1]), prefilled)
        if step >= restart:
            columns[1] = late.columns[0, step - restart]
        logits = head.logits(decoder.step(cache, columns))
        row1 = expected_late[0, step - restart + 1] if step >= restart else expected[1, step + 1]
        for row, reference in ((0, expected[0, step + 1]), (1, row1), (2, expected[2, step + 1])):
            torch.testing.assert_close(logits[row], reference, atol=1e-4, rtol=0)


def test_neighbours_change_a_symbol_and_strangers_do_not():
    torch.manual_seed(0)
    encoder = TextEncoder(9, 8, kernel=3)
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8]])
    is_text = torch.tensor([[False] + [True] * 7])
    before = encoder(ids, is_text)
    changed = encoder(ids.index_fill(1, torch.tensor([7]), 0), is_text)
    reached = (before != changed).any(-1)[0]
    assert reached.tolist() == [False] * 5 + [True] * 3  # two convolutions of three
    assert torch.equal(before[0, 0], torch.zeros(8))
    assert torch.equal(encoder(ids.index_fill(1, torch.tensor([0]), 7), is_text), before)


def test_progress_begins_at_nothing_and_counts_columns():
    plain = EncodecLM(architecture=TINY)
    torch.manual_seed(0)
    lm = EncodecLM(architecture=EncodecLMArchitecture(**{**vars(TINY), "columns_per_symbol": 2.0}))
    lm.load_state_dict(plain.state_dict(), strict=False)
    columns, zero = torch.randint(0, 16, (2, 6, 3)), torch.zeros(2, dtype=torch.long)
    assert torch.equal(lm.embed_speech(columns, zero), plain.embed_speech(columns, zero))
    torch.nn.init.normal_(lm.speech_progress.embed.weight)
    whole = lm.embed_speech(columns, zero)
    step = lm.embed_speech(columns[:, 4:5], torch.tensor([4, 4]))
    torch.testing.assert_close(whole[:, 4:5], step)
    # The second symbol of a text lies where the third column of the speech does.
    lm.text_progress.load_state_dict(lm.speech_progress.state_dict())
    torch.testing.assert_close(
        lm.text_progress(torch.tensor([1 * 2.0])), whole[:1, 2] - plain.embed_speech(columns, zero)[:1, 2]
    )


@pytest.mark.parametrize("settings", [{"text_kernel": 2}, {"text_kernel": 0}, {"front_end": "tones"}])
def test_impossible_texts_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        EncodecLMArchitecture(**settings)


def test_phones_speak_of_numbers():
    lm = EncodecLM(architecture=EncodecLMArchitecture(**{**vars(TINY), "front_end": "phones", "symbols": ""}))
    voice = Reference(torch.ones(3, 2, dtype=torch.long))
    assert torch.equal(lm.conditioner("42 cats", voice)["ids"], lm.conditioner("forty two cats", voice)["ids"])
    again = EncodecLM.from_architecture(lm.architecture())
    assert again.conditioner.fingerprint == lm.conditioner.fingerprint
