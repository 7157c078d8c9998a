"""docs/reliability.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def _functions(file: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_named_test_exists() -> None:
    missing = [f"{file}::{name}" for file, name in NAMED if name not in _functions(ROOT / file)]
    assert not missing


def test_the_page_names_files_and_functions_only() -> None:
    # A test that is named without its function would not be checked.
    assert len(NAMED) == PAGE.count("`tests/") - PAGE.count("`tests/test_reliability.py`")
