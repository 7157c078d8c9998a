"""CosyVoice as a causal language model: transformers' own class, opened from an export, speaks what wand speaks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, Qwen2ForCausalLM

from tests.backbones.goldens import greedy
from tests.backbones.test_cosyvoice import GOLDEN, write_release
from tests.runs.test_export import save_run
from tests.runs.test_speech_facts import cosyvoice
from wand.attention import AttentionWindow
from wand.backbones.cosyvoice import CosyVoice2
from wand.backbones.cosyvoice.conditioner import CosyVoiceArchitecture
from wand.cli import main
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate
from wand.decoding.stopping import StopRules
from wand.model.batch import make_batch
from wand.runs.export import export
from wand.runs.speech_facts import SpeechFacts

WINDOW, COLUMNS = 8, 48
TEXTS = ["it is so, and so it was heard.", "hello there, you who speak to me", "a voice is a voice is a voice"]
CODES = torch.tensor([[5, 6, 7, 40, 3, 3, 12]])
VOICES = [Reference(codes=CODES, text="so it is"), Reference(codes=CODES), Reference(codes=CODES[:, :2], text="no")]


def version_3(folder: Path) -> CosyVoice2:
    """Random weights: attention matters, and codes are likelier than the 200 control rows."""
    torch.manual_seed(0)
    made = CosyVoice2(architecture=CosyVoiceArchitecture(64, 96, 3, 4, 2, 512, speech_tokens=48, version=3))
    with torch.no_grad():
        for weight in made.decoder.parameters():
            if weight.ndim == 2:
                weight.mul_(8)
        made.llm_decoder.weight[48:].mul_(0.1)
    made.save_pretrained(folder / "weights")
    state = torch.load(folder / "weights" / "llm.pt", weights_only=True)
    model = CosyVoice2(pretrained=str(write_release(folder / "release", state, text_vocab=512)))
    model.load_pretrained()
    return model.eval()


def version_2(folder: Path) -> CosyVoice2:
    return cosyvoice(folder / "release")


def written(model: CosyVoice2, folder: Path, dtype: torch.dtype | None = None) -> Path:
    export(save_run(model, folder / "run", WINDOW), folder / "out", dtype, causal_lm=True)
    return folder / "out"


def prompt_ids(facts: SpeechFacts, folder: Path, opening: str, text: str, voice: Reference) -> list[int]:
    """The ids of a prompt, made as docs/serving.md says: without wand's weights and conditioner."""
    assert facts.prompt is not None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    read = [tokenizer(words, add_special_tokens=False)["input_ids"] for words in (opening + (voice.text or ""), text)]
    parts = {"text": read[0] + read[1], "speech": voice.codes[0].tolist() if voice.text else []}
    controls, offsets = facts.prompt.controls, facts.prompt.offsets
    ids: list[int] = []
    for part in facts.prompt.order:
        ids += [controls[part]] if part in controls else [id + offsets[part] for id in parts[part]]
    return ids


@torch.no_grad()
def speak(model: Any, facts: SpeechFacts, prompt: list[int], least: int) -> tuple[list[int], Tensor]:
    """Greedy ids and the logits of every step, with the whole sequence and its mask computed anew at every step."""
    ids, seen = list(prompt), []
    assert isinstance(facts.window, int)
    while True:
        query, key = torch.arange(len(ids))[:, None], torch.arange(len(ids))
        visible = (key <= query) & ((key < len(prompt)) | (query - key < facts.window))
        mask = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
        logits = model(torch.tensor([ids]), attention_mask=mask[None, None], use_cache=False).logits[0, -1]
        for run in facts.bias or ():
            logits[run.first : run.first + len(run.values)] += torch.tensor(run.values)
        seen.append(logits)
        column = len(ids) - len(prompt)
        slot = facts.slots[column % len(facts.slots)]
        held = facts.length.held if facts.length is not None and column < least else []
        possible = [id for id in (*slot.code_ids, *slot.stops) if id not in held]
        chosen = possible[int(logits[possible].argmax())]
        if chosen in slot.stops or column == COLUMNS:
            return ids[len(prompt) :], torch.stack(seen)
        ids.append(chosen)


@pytest.mark.parametrize("made", [version_2, version_3])
def test_transformers_speaks_what_the_windowed_student_speaks(made: Any, tmp_path: Path) -> None:
    student = made(tmp_path)
    out = written(student, tmp_path)
    facts = SpeechFacts.read(out)
    folder = out / facts.model
    stock = Qwen2ForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    rows = [*facts.slots[0].code_ids, *facts.slots[0].stops]
    sampling = replace(student.sampling, temperature=0.0)
    window = AttentionWindow(WINDOW)
    opening = "You are a helpful assistant.<|endofprompt|>" if made is version_3 else ""
    lengths, under_full_attention = [], []
    for text, voice in ((text, voice) for text in TEXTS for voice in VOICES):
        conditioning = student.conditioner(text, voice)
        batch = make_batch(student.conditioner, student.layout, [conditioning])
        (expected,) = generate(Decoder(student, window), batch, rules=StopRules(COLUMNS), sampling=sampling)
        least = int(student.speech_bounds(batch)[0])
        prompt = prompt_ids(facts, folder, opening, text, voice)
        assert facts.length is not None
        # Without a transcript, all text counts. It is between the two control tokens.
        assert least == facts.length.least * (len(text) if voice.text else len(prompt) - 2)
        ids, logits = speak(stock, facts, prompt, least)
        assert [facts.slots[0].code_ids.index(id) for id in ids] == expected.codes[0].tolist()
        _, own = greedy(student, conditioning, COLUMNS, window, {student.layout.stop_id: least})
        torch.testing.assert_close(logits[:, rows], own, atol=1e-5, rtol=1e-5)
        full, _ = greedy(student, conditioning, COLUMNS, None, {student.layout.stop_id: least})
        lengths.append(len(ids))
        under_full_attention.append(full == expected.codes[0].tolist())
    assert sum(length >= 5 * WINDOW for length in lengths) >= 3  # others end with a stop
    assert not all(under_full_attention)


def test_the_bias_is_rounded_like_the_weights(tmp_path: Path) -> None:
    facts = SpeechFacts.read(written(version_2(tmp_path), tmp_path, torch.bfloat16))
    assert facts.bias is not None
    (run,) = facts.bias
    assert run.first == facts.slots[0].code_ids[0]
    assert run.values == GOLDEN.state["llm_decoder.bias"].bfloat16().tolist()
    config = json.loads((tmp_path / "out" / "causal_lm" / "config.json").read_text())
    assert (config["dtype"], config["rswa_window"]) == ("bfloat16", WINDOW)


def test_the_tokenizer_of_the_folder_reads_the_tags(tmp_path: Path) -> None:
    student = version_2(tmp_path)
    folder = written(student, tmp_path) / "causal_lm"
    text = "so[laughter] it is"
    ids = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    assert ids == list(student.conditioner.tokens(text).ids)


def test_the_command_writes_it_only_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save_run(version_2(tmp_path), tmp_path / "run", WINDOW)
    command = ["export", "--ckpt_path", str(run), "--out"]
    assert main([*command, str(tmp_path / "plain")]) == 0
    assert not (tmp_path / "plain" / "causal_lm").exists()
    assert not (tmp_path / "plain" / "speech.json").exists()
    assert main([*command, str(tmp_path / "both"), "--causal_lm"]) == 0
    assert (tmp_path / "both" / "llm.pt").is_file()
    assert SpeechFacts.read(tmp_path / "both").model == "causal_lm"
    assert main([*command, str(tmp_path / "adapter"), "--adapter", "--causal_lm"]) != 0
    assert "--adapter writes no model: leave out --causal_lm" in capsys.readouterr().err.replace("\n", " ")
