"""``speech.json``: its ids against the ids that wand's own decode speaks, and against the names of the tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.backbones import test_cosyvoice, test_spark_tts
from tests.backbones.test_causal_lm import CODES, FIRST, SERIES, make_model, shipped_format, write_model
from tests.runs.test_export import save_run
from wand.attention import AttentionWindow
from wand.backbones.causal_lm import CausalSpeechLM
from wand.backbones.cosyvoice import CosyVoice2
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.backbones.spark_tts import SparkTTS
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.rows import SPEAKING, Rows
from wand.model.backbone import Backbone
from wand.model.batch import make_batch
from wand.model.heads import LinearHead
from wand.model.sampling import RepetitionAware, Sampling
from wand.runs.export import export
from wand.runs.speech_facts import NAME, Slot, SpeechFacts, runs, speech_facts


def spark(folder: Path) -> SparkTTS:
    model = SparkTTS(pretrained=str(test_spark_tts.write_release(folder, test_spark_tts.GOLDEN.state)))
    model.load_pretrained()
    return model.eval()


def cosyvoice(folder: Path) -> CosyVoice2:
    model = CosyVoice2(pretrained=str(test_cosyvoice.write_release(folder, test_cosyvoice.GOLDEN.state)))
    model.load_pretrained()
    return model.eval()


MODELS: dict[str, Callable[[Path], Backbone]] = {
    **{name: lambda folder, name=name: make_model(folder, name) for name in SERIES},  # type: ignore[misc]
    "sparktts": spark,
    "cosyvoice2": cosyvoice,
}


def code_ids(name: str, model: Any) -> list[list[int]]:
    """The id of every code in every slot, by its name in the tokenizer or its place in the joint table."""
    if name == "cosyvoice2":
        first = 128 + 2  # text, then start and task
        return [list(range(first, first + 48))]
    if name == "sparktts":
        count = test_spark_tts.GOLDEN.config["semantic_codebook"]
        names = [[f"<|bicodec_semantic_{code}|>" for code in range(count)]]
    else:
        slots = 7 if name == "orpheus" else 1
        firsts = [FIRST[name] + CODES * slot for slot in range(slots)]
        names = [[SERIES[name].format(first + code) for code in range(CODES)] for first in firsts]
    return [[model.conditioner.known_tokenizer.token_id(token) for token in slot] for slot in names]


def stop_ids(name: str, model: Any) -> list[int]:
    """The ids that end the speech, by the same."""
    if name == "cosyvoice2":
        return [178, 179, 180]
    stops = ["<|end_semantic_token|>", "<|im_end|>"] if name == "sparktts" else shipped_format(name).stop_tokens
    return [model.conditioner.known_tokenizer.token_id(token) for token in stops]


def spoken_rows(model: Backbone, monkeypatch: pytest.MonkeyPatch, slots: int) -> tuple[list[set[int]], list[set[int]]]:
    """The rows that a decode of wand speaks, and those that end it, in each slot: every row is the likeliest once."""
    reference = Reference(codes=torch.zeros(slots, 3, dtype=torch.long), speaker="tara", global_codes=torch.zeros(4))
    batch = make_batch(model.conditioner, model.layout, [model.conditioner("no", reference)])
    rows, width = model.speech_vocab_size, model.decoder.config.hidden_size
    spoken, ending = ([set[int]() for _ in range(slots)] for _ in range(2))
    monkeypatch.setattr(model, "speech_bounds", lambda batch: None)
    for likely in range(rows):
        head = LinearHead(torch.zeros(1, rows, width), torch.eye(rows)[likely][None])
        monkeypatch.setattr(model, "speech_head", lambda head=head: head)
        state = Rows(Decoder(model, AttentionWindow(8)), batch, [0], Sampling(temperature=0))
        for column in range(2 * slots):
            row = int(state.draw())
            if int(state.frames) != SPEAKING:  # the column of a stop is filler
                ending[column % slots].add(likely)
                break
            spoken[column % slots].add(row)
            state.feed()
    return spoken, ending


@pytest.mark.parametrize("name", list(MODELS))
def test_ids_are_those_that_a_decode_speaks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[name](tmp_path)
    lm = model.causal_lm()
    assert lm is not None
    facts = speech_facts(model, lm, AttentionWindow(8))
    codes, stops = code_ids(name, model), stop_ids(name, model)
    slots = 7 if name == "orpheus" else 1
    assert len(facts.slots) == len(codes) == slots == facts.columns_per_frame
    assert [slot.code_ids for slot in facts.slots] == codes
    assert facts.stop_ids == stops
    row_ids = [*(id for slot in codes for id in slot), *stops]
    spoken, ending = spoken_rows(model, monkeypatch, slots)
    assert [{row_ids[row] for row in slot} for slot in spoken] == [set(slot.code_ids) for slot in facts.slots]
    assert [{row_ids[row] for row in slot} for slot in ending] == [set(slot.stops) for slot in facts.slots]


def test_the_slots_of_orpheus_name_their_codebook(tmp_path: Path) -> None:
    model = make_model(tmp_path, "orpheus")
    facts = speech_facts(model, model.causal_lm(), AttentionWindow(7))
    assert [slot.codebook for slot in facts.slots] == [0, 1, 2, 2, 1, 2, 2]
    assert [bool(slot.stops) for slot in facts.slots] == [True] + 6 * [False]
    # By the slots, the ids of columns are the codes of the layout.
    codes = torch.randint(0, CODES, (7, 5))
    ids = model.speech_ids[model.layout.to_columns(codes)[:, 0]].tolist()
    order = sorted(range(7), key=lambda slot: (facts.slots[slot].codebook, slot))
    read = [[facts.slots[slot].code_ids.index(id) for id in ids[slot::7]] for slot in order]
    assert read == codes.tolist()


def test_runs_keep_the_order_of_ids() -> None:
    assert runs([5, 6, 7, 3, 2, 9, 10]) == [[5, 3], [3, 1], [2, 1], [9, 2]]
    assert runs([]) == []
    ids = torch.randperm(50)[:30].tolist()
    assert Slot(0, runs(ids), []).code_ids == ids


def exported(folder: Path, name: str, window: int | list[int] = 14) -> tuple[CausalSpeechLM, Path]:
    """A student whose original has a ``generation_config.json``, and its export."""
    original = write_model(folder / "original", name, tied=True)
    settings = {"bos_token_id": 1, "eos_token_id": 2, "top_k": 3, "max_new_tokens": 40}
    (original / "generation_config.json").write_text(json.dumps(settings))
    model = CausalSpeechLM(pretrained=str(original), format=shipped_format(name))
    model.load_pretrained()
    export(save_run(model.eval(), folder / "run", window), folder / "out")
    return model, folder / "out"


@pytest.mark.parametrize("name", list(SERIES))
def test_an_export_has_the_facts_and_engines_their_settings(name: str, tmp_path: Path) -> None:
    model, out = exported(tmp_path, name)
    facts = SpeechFacts.read(out)
    assert facts == speech_facts(model, model.causal_lm(), AttentionWindow(14))
    assert (facts.model, facts.window, facts.licence) == (".", 14, model.licence)
    assert (facts.frame_rate, facts.sample_rate) == (model.frame_rate, model.sample_rate)
    assert facts.sampling is not None
    written = shipped_format(name).sampling
    stock = AutoModelForCausalLM.from_pretrained(out).generation_config
    assert stock.eos_token_id == stop_ids(name, model)
    assert (stock.bos_token_id, stock.max_new_tokens, stock.do_sample) == (1, 40, True)
    for own in (facts.sampling, stock):
        found = (own.temperature, own.top_k, own.top_p, own.repetition_penalty)
        assert found == (written.temperature, written.top_k, written.top_p, written.repetition_penalty)
    assert json.loads((out / "config.json").read_text())["rswa_window"] == 14


def test_windows_by_layer_are_facts_but_no_setting_of_engines(tmp_path: Path) -> None:
    _, out = exported(tmp_path, "llasa", [8, 16])
    assert SpeechFacts.read(out).window == [8, 16]
    assert "rswa_window" not in json.loads((out / "config.json").read_text())


def test_the_model_of_spark_is_in_its_folder(tmp_path: Path) -> None:
    export(save_run(spark(tmp_path / "release"), tmp_path / "run"), tmp_path / "out")
    facts = SpeechFacts.read(tmp_path / "out")
    assert facts.model == "LLM"
    values = json.loads((tmp_path / "out" / "LLM" / "generation_config.json").read_text())
    assert values["eos_token_id"] == facts.stop_ids
    assert not (tmp_path / "out" / "generation_config.json").exists()


def test_already_spoken_rows_become_ids_and_a_rule_of_your_own_is_left_out(tmp_path: Path) -> None:
    class MinP(Sampling):
        """A rule that plain values do not describe."""

    model = make_model(tmp_path, "llasa")
    model.sampling = Sampling(top_k=5, already_spoken=[3, 1], repetition=RepetitionAware(window=7))
    facts = speech_facts(model, model.causal_lm(), AttentionWindow(8))
    facts.write(tmp_path)
    assert SpeechFacts.read(tmp_path) == facts
    assert facts.sampling is not None
    ids = code_ids("llasa", model)[0]
    assert facts.sampling.already_spoken == [ids[3], ids[1]]
    assert json.loads((tmp_path / NAME).read_text())["sampling"]["repetition"]["window"] == 7
    model.sampling = MinP()
    assert speech_facts(model, model.causal_lm(), AttentionWindow(8)).sampling is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format is 2, but must be Literal"),
        ({"slots": 3}, "slots is 3, but must be list"),
        ({"slots": [{"codes": []}]}, r"slots\[0\]: wrong or missing keys \['codebook', 'stops'\]"),
        ({"slots": [{"codebook": 0, "codes": [[1, 0]], "stops": []}]}, r"codes \[1, 0\] is no run"),
        ({"slots": []}, "0 slots for 1 columns"),
        ({"model": "../other"}, "'../other' of the model is not inside"),
        ({"voice": 1}, r"wrong or missing keys \['voice'\]"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name_and_key(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = make_model(tmp_path, "llasa")
    speech_facts(model, model.causal_lm(), AttentionWindow(8)).write(tmp_path)
    values = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps({**values, **change}))
    with pytest.raises(ValueError, match=f"{NAME}.*{message}"):
        SpeechFacts.read(tmp_path)


def test_a_folder_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"has no {NAME}: give an export"):
        SpeechFacts.read(tmp_path)


def test_a_separate_causal_language_model_is_refused_where_there_is_none(tmp_path: Path) -> None:
    run = save_run(make_model(tmp_path / "original", "llasa"), tmp_path / "run")
    with pytest.raises(ValueError, match="CausalSpeechLM is exported as a causal language model in any case"):
        export(run, tmp_path / "out", causal_lm=True)
    shape = EncodecLMArchitecture(32, 2, 4, 2, 48, num_codebooks=2, codebook_size=16)
    run = save_run(EncodecLM(architecture=shape), tmp_path / "other")
    with pytest.raises(ValueError, match="EncodecLM is no causal language model over token ids"):
        export(run, tmp_path / "out", causal_lm=True)
    assert not (tmp_path / "out").exists()
