"""Imports run downwards: what a room may import is what lies below it (docs/design.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from click import Group

import gpt149
from gpt149.cli import main

FLOORS = [
    {"__main__"},
    {"cli"},
    {"options"},
    {"commands", "usage"},
    {"profile"},
    {"lab", "bench", "api"},
    {"check", "engine", "integrations"},
    {"kernels", "model"},
    {"system"},
    {"errors"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
PACKAGE = Path(gpt149.__file__).parent


def imported(path: Path, package: Path) -> set[str]:
    """The rooms of the package that a file imports from, wherever in the file it does so."""
    inside = ("gpt149", *path.relative_to(package).parts[:-1])
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(inside[: len(inside) - node.level + 1]) if node.level else ""
            home = ".".join(filter(None, (base, node.module)))
            names |= {f"{home}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("gpt149.")} & FLOOR.keys()


def upward(package: Path) -> list[str]:
    """Imports of a room beside or above one's own."""
    return [
        f"{path.relative_to(package)} imports {theirs}"
        for path in sorted(package.rglob("*.py"))
        if (mine := path.relative_to(package).with_suffix("").parts[0]) in FLOOR
        for theirs in sorted(imported(path, package))
        if theirs != mine and FLOOR[theirs] <= FLOOR[mine]
    ]


def test_imports_run_downwards() -> None:
    assert upward(PACKAGE) == []


@pytest.mark.parametrize(
    ("path", "line", "found"),
    [
        ("model/gpt.py", "from ..kernels.registry import resolve", "kernels"),
        ("kernels/build.py", "def f():\n    from ..model import checkpoint", "model"),
        ("system/paths.py", "import gpt149.check.judge", "check"),
        ("check/mistakes/masks.py", "from ...bench import stats", "bench"),
        ("errors.py", "from .system import paths", "system"),
        ("engine/start.py", "from gpt149 import cli", "cli"),
    ],
)
def test_an_upward_import_is_found(tmp_path: Path, path: str, line: str, found: str) -> None:
    planted = tmp_path / path
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(line)
    assert upward(tmp_path) == [f"{path} imports {found}"]


def test_every_room_stands_on_a_floor_and_says_what_it_is_for() -> None:
    rooms = {p.stem for p in PACKAGE.glob("*.py")} | {
        p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()
    }
    assert rooms - {"__init__"} == FLOOR.keys()
    for init in PACKAGE.glob("*/**/__init__.py"):
        tree = ast.parse(init.read_text())
        assert ast.get_docstring(tree), init


def test_every_subcommand_has_a_module() -> None:
    assert isinstance(main, Group)
    assert {p.stem for p in (PACKAGE / "commands").glob("*.py")} >= set(main.commands)
