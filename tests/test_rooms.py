"""The house: imports between rooms run one way, no room knows a model, files and rooms stay small."""

from __future__ import annotations

import ast
import importlib
import subprocess
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import wand

ROOT = Path(__file__).parent.parent
LINES, FILES = 400, 14
# The lazy names of the package, which is imported before all rooms.
LAZY = "wand"
# Finds adapters, their codec workers and shapes by name: as text, without an import.
REGISTRY = "wand.registry"


def sources() -> dict[str, Path]:
    """Modules of wand and of what is linked into it, by import name."""
    names = subprocess.run(
        ["git", "ls-files", "wand", "backbones", "callbacks"], cwd=ROOT, capture_output=True, text=True
    )
    found = {}
    for name in names.stdout.split():
        path = Path(name)
        if path.suffix == ".py" and (ROOT / path).is_file():
            parts = path.with_suffix("").parts
            parts = parts if parts[0] == "wand" else ("wand", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ROOT / path
    return found


MODULES = sources()


def room_of(module: str) -> str:
    """The folder or loose file directly in ``wand`` that a module belongs to."""
    return ".".join(module.split(".")[:2])


def imports(module: str, path: Path) -> set[str]:
    """Modules of wand that a file imports anywhere, also inside functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return {name for name in found if name.split(".")[0] == "wand" and name != module}


EDGES = {module: imports(module, path) for module, path in MODULES.items()}


def test_rooms_form_no_circle() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for module, targets in EDGES.items():
        if module != LAZY:
            graph[room_of(module)] |= {room_of(target) for target in targets} - {room_of(module), LAZY}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert order.index("wand.attention") < order.index("wand.model") < order.index("wand.training")
    assert order.index("wand.training") < order.index("wand.callbacks") < order.index("wand.cli")


def test_no_room_imports_an_adapter() -> None:
    found = {
        (module, target)
        for module, targets in EDGES.items()
        for target in targets
        if target.startswith("wand.backbones") and not module.startswith("wand.backbones")
    }
    assert found == set()


def test_the_registry_is_text() -> None:
    assert EDGES[REGISTRY] == set()
    named = {room for table in ("BACKBONES", "CODECS", "SHAPES") for room in getattr(wand_registry(), table).values()}
    assert named <= MODULES.keys()


def wand_registry() -> object:
    return importlib.import_module(REGISTRY)


def test_files_and_rooms_are_small() -> None:
    lines = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: count for module, count in lines.items() if count > LINES} == {}
    rooms: dict[Path, int] = defaultdict(int)
    for path in MODULES.values():
        rooms[path.parent] += 1
    assert {str(room): count for room, count in rooms.items() if count > FILES} == {}


@pytest.mark.parametrize("name", wand.__all__)
def test_a_lazy_name_is_the_same_object_twice(name: str) -> None:
    """No submodule has the name of a lazy export: its import would replace it."""
    assert f"wand.{name}" not in MODULES
    first = getattr(wand, name)
    if name in wand._LAZY:
        importlib.import_module(wand._LAZY[name])
    assert getattr(wand, name) is first
