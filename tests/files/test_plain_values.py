"""YAML and JSON are read as plain values, within limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from wand.files.plain_values import read_json, read_yaml


def chain(first: str, link: str, count: int) -> str:
    return first + "".join(link.format(i=i, before=i - 1) for i in range(1, count))


BEYOND = {
    "bomb": (chain("a0: &a0 [x, x, x]\n", "a{i}: &a{i} [*a{before}, *a{before}, *a{before}]\n", 30), "values"),
    "bomb-of-keys": (chain("a0: &a0 {x: 1}\n", "a{i}: &a{i} {{p: *a{before}, q: *a{before}}}\n", 40), "values"),
    "recursive": ("a: &a [*a]\n", "&a contains itself"),
    "recursive-below": ("model: &m\n  loss: {x: [*m]}\n", "&m contains itself"),
    "deep": ("a: " + "[" * 5000 + "]" * 5000, "64 levels"),
    "deep-keys": ("a: " + "{a: " * 3000 + "1" + "}" * 3000, "64 levels"),
    "large": ("a: [" + "1," * 300_000 + "1]", "too large"),
    "object": ("a: !!python/object/apply:os.system ['true']\n", "cannot be read"),
    "number": ("a: " + "9" * 20_000, "cannot be read"),
    "bytes": ("a: !!binary 'x'\n", "cannot be read"),
    "interpolation": ("a: ${\n", "cannot be read"),
    "two-documents": ("a: 1\n---\nb: 2\n", "cannot be read"),
}


@pytest.mark.parametrize("kind", BEYOND)
def test_yaml_beyond_the_limits_is_refused(tmp_path: Path, kind: str) -> None:
    text, words = BEYOND[kind]
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        read_yaml(tmp_path / "bad.yaml")
    assert "bad.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a: &x [1, 2]\nb: *x\nc: [*x, *x]\n", {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]}),
        ("base: &b {x: 1}\nown: {<<: *b, y: 1e-5}\n", {"base": {"x": 1}, "own": {"x": 1, "y": 1e-5}}),
        ("\ufeffa: ${b}\nb: ~\n", {"a": "${b}", "b": None}),
        ("a: " + "[" * 40 + "]" * 40, None),
    ],
)
def test_what_yaml_means_stays(tmp_path: Path, text: str, meant: object) -> None:
    (tmp_path / "good.yaml").write_text(text, encoding="utf-8")
    found = read_yaml(tmp_path / "good.yaml")
    assert meant is None or found == meant


@pytest.mark.parametrize("text", ["", "[]", "{" + '"a": {' * 200 + "}" * 201, "[" * 100_000])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json"):
        read_json(tmp_path / "bad.json")
