"""docs/troubleshooting.md quotes messages that wand raises."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| `(.+?)` \| [^|]+ \| [^|]+ \|$")
MESSAGES = [m[1] for line in (ROOT / "docs/troubleshooting.md").read_text().split("\n") if (m := ROW.match(line))]


def literals() -> list[str]:
    """All texts in the sources of wand, with … for values."""
    found = []
    for folder in ("wand", "backbones", "callbacks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    found.append("".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values))
    return found


TEXTS = literals()


def test_the_page_has_messages() -> None:
    assert len(MESSAGES) > 30


@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_exists(message: str) -> None:
    pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")), re.DOTALL)
    assert any(pattern.search(text) for text in TEXTS)
