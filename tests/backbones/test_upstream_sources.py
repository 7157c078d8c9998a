"""What wand states about CosyVoice, read in upstream's sources.

An optional job: ``WAND_UPSTREAM=folder pytest tests/backbones/test_upstream_sources.py``, where the folder holds a
clone, ``CosyVoice``. Nothing of upstream is imported, so none of its packages are needed.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from wand.backbones.cosyvoice import SILENT_CODES
from wand.backbones.cosyvoice.conditioner import ADDED_TOKENS, SYSTEM_SENTENCE

UPSTREAM = os.environ.get("WAND_UPSTREAM")
pytestmark = pytest.mark.skipif(UPSTREAM is None, reason="WAND_UPSTREAM names no folder with upstream's clones")


def class_of(file: str, name: str) -> ast.ClassDef:
    tree = ast.parse((Path(UPSTREAM or "") / "CosyVoice" / file).read_text())
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def arguments_of(found: ast.ClassDef, method: str) -> list[str]:
    """The names of the arguments of a method."""
    function = next(node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == method)
    return [argument.arg for argument in function.args.args]


@pytest.mark.parametrize("version", [2, 3])
def test_special_tokens(version: int) -> None:
    found = class_of("cosyvoice/tokenizer/tokenizer.py", f"CosyVoice{version}Tokenizer")
    tokens = next(ast.literal_eval(node) for node in ast.walk(found) if isinstance(node, ast.Dict))
    assert tuple(tokens["additional_special_tokens"]) == ADDED_TOKENS[version]


@pytest.mark.parametrize(("version", "name"), [(2, "CosyVoice2Model"), (3, "CosyVoice3Model")])
def test_silent_codes(version: int, name: str) -> None:
    assigned = [node for node in ast.walk(class_of("cosyvoice/cli/model.py", name)) if isinstance(node, ast.Assign)]
    (silent,) = [node.value for node in assigned if ast.unparse(node.targets[0]) == "self.silent_tokens"]
    assert tuple(ast.literal_eval(silent)) == SILENT_CODES[version]


def test_every_instruction_begins_with_the_system_sentence() -> None:
    tree = ast.parse((Path(UPSTREAM or "") / "CosyVoice" / "cosyvoice" / "utils" / "common.py").read_text())
    lists = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "instruct_list"
    ]
    assert lists
    assert all(line.startswith(f"{SYSTEM_SENTENCE} ") for line in lists[0])


def test_what_the_codec_worker_calls() -> None:
    given = {"token", "prompt_token", "prompt_feat", "embedding", "token_offset", "uuid", "finalize"}
    assert given < set(arguments_of(class_of("cosyvoice/cli/model.py", "CosyVoice2Model"), "token2wav"))
    frontend = class_of("cosyvoice/cli/frontend.py", "CosyVoiceFrontEnd")
    for method in ("_extract_speech_feat", "_extract_spk_embedding"):
        assert arguments_of(frontend, method) in (["self", "prompt_wav"], ["self", "speech"])
    assert arguments_of(class_of("cosyvoice/cli/cosyvoice.py", "CosyVoice2"), "__init__")[:2] == ["self", "model_dir"]
