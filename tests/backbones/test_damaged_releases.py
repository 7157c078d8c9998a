"""Releases that were fetched badly, or are another model's: refused with one line, whichever adapter and file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.backbones import index_tts, test_causal_lm, test_cosyvoice, test_spark_tts
from tests.conftest import TINY
from wand.backbones.causal_lm import CausalSpeechLM
from wand.backbones.cosyvoice import CosyVoice2
from wand.backbones.encodec_lm import EncodecLM
from wand.backbones.index_tts import IndexTTS
from wand.backbones.spark_tts import SparkTTS
from wand.codecs.reference import Reference
from wand.model.backbone import Backbone
from wand.model.tokenizers import write_files
from wand.speech.synthesizer import load

VOICE = Reference(torch.zeros(3, 3, dtype=torch.long), torch.randn(24_000), global_codes=torch.tensor([0, 1]))


def write_release(folder: Path, name: str) -> Path:
    if name == "CosyVoice2":
        return test_cosyvoice.write_release(folder, test_cosyvoice.GOLDEN.state)
    if name == "IndexTTS":
        return index_tts.write_release(folder)
    if name == "SparkTTS":
        return test_spark_tts.write_release(folder, test_spark_tts.GOLDEN.state)
    if name == "CausalSpeechLM":
        return test_causal_lm.write_model(folder, "llasa", tied=False)
    EncodecLM(architecture=TINY).save_pretrained(folder)
    return folder


OPEN: dict[str, Callable[[str], Backbone]] = {
    "CosyVoice2": lambda folder: CosyVoice2(pretrained=folder),
    "IndexTTS": lambda folder: IndexTTS(pretrained=folder),
    "SparkTTS": lambda folder: SparkTTS(pretrained=folder),
    "CausalSpeechLM": lambda folder: CausalSpeechLM(pretrained=folder, format=test_causal_lm.shipped_format("llasa")),
    "EncodecLM": lambda folder: EncodecLM(pretrained=folder),
}
FILES = {
    "CosyVoice2": ("llm.pt", *(f"CosyVoice-BlankEN/{name}" for name in ("config.json", "vocab.json", "merges.txt"))),
    "IndexTTS": ("gpt.pth", "config.yaml", "bpe.model"),
    "SparkTTS": tuple(f"LLM/{name}" for name in ("model.safetensors", "config.json", "tokenizer.json")),
    "CausalSpeechLM": ("model.safetensors", "config.json", "tokenizer.json"),
    "EncodecLM": ("model.safetensors", "config.json"),
}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 2\n"
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[: len(content) // 2],
    "another file": lambda content: b"[1, 2]",
    "no text": lambda content: b"\x00\xff" * 50,
    "pointer": lambda content: POINTER,
}


def open_and_condition(name: str, folder: Path) -> None:
    backbone = OPEN[name](str(folder))
    backbone.load_pretrained()
    backbone.conditioner("no", VOICE)


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in FILES.items() for file in files])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, name: str, file: str, kind: str) -> None:
    path = write_release(tmp_path / "release", name) / file
    path.write_bytes(DAMAGES[kind](path.read_bytes()))
    with pytest.raises(ValueError, match=path.name) as error:
        open_and_condition(name, tmp_path / "release")
    assert type(error.value) is ValueError
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(str(tmp_path))
    weights = path.suffix in (".pt", ".pth", ".safetensors")
    assert ("git lfs pull" in str(error.value)) == (weights and kind == "pointer")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    for file in FILES[name]:
        path = write_release(tmp_path / file, name) / file
        path.unlink()
        with pytest.raises(ValueError, match=r"should hold|missing|tokenizer"):
            open_and_condition(name, tmp_path / file)


def change_weights(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    if path.suffix == ".safetensors":
        save_file(change(load_file(path)), path, metadata={"format": "pt"})
    else:
        torch.save(change(torch.load(path, weights_only=True)), path)


def last(state: dict[str, Any]) -> str:
    """A tensor that nothing else is measured by."""
    return next(name for name in sorted(state, reverse=True) if state[name].ndim == 1)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {n: t for n, t in state.items() if n != last(state)}, "another model: it has no tensor '{}'"),
        (lambda state: {**state, last(state): torch.zeros(7)}, "of another size: '{}'"),
        (lambda state: {**state, f"{last(state)}_": torch.zeros(7)}, "another model: its tensor '{}_' is unknown"),
    ],
    ids=["missing", "size", "unknown"],
)
def test_weights_of_another_model_are_told_by_the_files_own_names(
    tmp_path: Path, name: str, change: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    path = write_release(tmp_path / "release", name) / FILES[name][0]
    names: list[str] = []
    change_weights(path, lambda state: [names.append(last(state)), change(state)][1])  # type: ignore[func-returns-value]
    with pytest.raises(ValueError, match=message.format(names[0])) as error:
        open_and_condition(name, tmp_path / "release")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["CosyVoice2", "IndexTTS"])
def test_code_is_never_run(tmp_path: Path, name: str) -> None:
    """What `torch.save` writes may hold any object; the others' files hold tensors alone."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "it ran",)

    path = write_release(tmp_path / "release", name) / FILES[name][0]
    torch.save({"model": Evil()}, path)
    with pytest.raises(ValueError, match="contains code, which is never run") as error:
        open_and_condition(name, tmp_path / "release")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize("name", ["SparkTTS", "CausalSpeechLM"])
def test_a_model_that_brings_code_is_refused(tmp_path: Path, name: str) -> None:
    path = write_release(tmp_path / "release", name) / FILES[name][1]
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ValueError, match="custom code"):
        open_and_condition(name, tmp_path / "release")


def test_a_tokenizer_with_too_many_tokens_is_refused(tmp_path: Path) -> None:
    vocabulary = write_release(tmp_path / "release", "CosyVoice2") / "CosyVoice-BlankEN" / "vocab.json"
    more = {f"word{i}": i for i in range(29, 129)}
    vocabulary.write_text(json.dumps({**json.loads(vocabulary.read_text()), **more}))
    with pytest.raises(ValueError, match=r"has \d+ tokens, the model has 128 embeddings"):
        open_and_condition("CosyVoice2", tmp_path / "release")


@pytest.mark.parametrize("name", ["../vocab.json", "a/../../vocab.json", "/tmp/wand-vocab.json"])
def test_files_of_a_checkpoint_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="leads out of its folder"):
        write_files({"merges.txt": b"", name: b"{}"}, tmp_path / "folder")
    assert not list(Path(tmp_path).glob("*.json"))
    assert not Path("/tmp/wand-vocab.json").exists()


def test_a_damaged_export_is_refused(tmp_path: Path) -> None:
    for content in ("", "[]", "{}", "null"):
        (tmp_path / "wand.json").write_text(content)
        with pytest.raises(ValueError, match=r"wand\.json") as error:
            load(tmp_path)
        assert type(error.value) is ValueError
