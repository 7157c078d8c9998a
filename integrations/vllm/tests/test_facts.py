"""Reading speech.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wand_vllm.facts import read_facts

VALUES: dict[str, Any] = {
    "format": 1,
    "model": "LLM",
    "window": 14,
    "slots": [
        {"codebook": 0, "codes": [[5, 3], [20, 2]], "stops": [9]},
        {"codebook": 1, "codes": [[30, 1]], "stops": []},
    ],
    "bias": [{"first": 5, "values": [0.5, -1.0]}],
    "sampling": {"repetition_penalty": 1.3, "already_spoken": [6], "repetition": None},
}


def write(folder: Path, **changes: Any) -> Path:
    (folder / "speech.json").write_text(json.dumps({**VALUES, **changes}))
    (folder / "LLM").mkdir(exist_ok=True)
    return folder


def test_facts_of_the_folder_that_they_name(tmp_path: Path) -> None:
    facts = read_facts(str(write(tmp_path) / "LLM"))
    assert facts is not None
    assert facts.slots == ((5, 6, 7, 20, 21, 9), (30,))
    assert (facts.window, facts.repetition_penalty, facts.already_spoken) == (14, 1.3, (6,))
    assert facts.bias == ((5, (0.5, -1.0)),)
    assert not facts.redraws


def test_other_folders_have_none(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "other").mkdir()
    assert read_facts(str(tmp_path / "other")) is None
    assert read_facts("organisation/model") is None


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"format": 1', '{"model": null}', '{"model": "LLM"}'])
def test_a_file_that_is_no_description_is_named(tmp_path: Path, content: str) -> None:
    write(tmp_path)
    (tmp_path / "speech.json").write_text(content)
    with pytest.raises(ValueError, match=r"speech.json lacks or misspells .*: export the model again"):
        read_facts(str(tmp_path / "LLM"))


def test_a_file_beside_the_name_of_a_hub_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("speech.json").write_text("[]")
    assert read_facts("model-of-a-hub") is None


def test_no_default_sampling_is_no_penalty(tmp_path: Path) -> None:
    facts = read_facts(str(write(tmp_path, sampling=None, bias=None) / "LLM"))
    assert facts is not None
    assert (facts.repetition_penalty, facts.bias) == (1.0, ())


@pytest.mark.parametrize(("changes", "message"), [({"format": 2}, "format 2"), ({"slots": [{}]}, "lacks .*codes")])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"speech.json .*{message}"):
        read_facts(str(write(tmp_path, **changes) / "LLM"))
