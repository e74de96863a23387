"""The rooms of the source: which may import which, and that no file needs itself by way of others."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "resnet_cli"
ROOT = Path(__file__).parents[1] / PACKAGE
MODULES = {path: ".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in ROOT.rglob("*.py")}

SHARED = {"errors", "version"}  # modules that every room may import

# By room: the other rooms that it may import.
MAY_IMPORT = {
    "network": set(),
    "system": set(),
    "images": {"network", "system"},
    "weights": {"network", "system"},
    "engines": {"weights", "network", "system"},
    "tasks": {"engines", "weights", "images", "network", "system"},
    "training": {"engines", "weights", "images", "network", "system"},
    "output": {"tasks", "training", "weights", "network", "system"},
}
MAY_IMPORT["cli"] = {*MAY_IMPORT, "output"}


def imported(path: Path) -> set[str]:
    """Return the modules of this package that a file imports, anywhere in it; a package stands for itself."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            module = str(node.module)
            names |= {
                f"{module}.{alias.name}" if is_module(f"{module}.{alias.name}") else module for alias in node.names
            }
    return {name for name in names if name.split(".")[0] == PACKAGE}


def is_module(name: str) -> bool:
    path = ROOT.parent / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def room(module: str) -> str:
    """Return the room of a module, or its name if it stands beside the rooms."""
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_a_row() -> None:
    assert {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent != ROOT], ids=MODULES.get)
def test_rooms_import_only_what_they_may(path: Path) -> None:
    own = room(MODULES[path])
    others = {room(module) for module in imported(path)} - {own} - SHARED
    assert others <= MAY_IMPORT[own]


def test_no_file_imports_itself_by_way_of_others() -> None:
    """The packages' own files are left out: importing a package's module imports them, too."""
    files = {path: module for path, module in MODULES.items() if path.name != "__init__.py"}
    edges = {module: imported(path) & set(files.values()) for path, module in files.items()}
    assert len([*TopologicalSorter(edges).static_order()]) == len(files)


def test_only_the_output_prints() -> None:
    """Tasks return records; results and messages are printed in one room."""
    printing = set()
    for path, module in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                printing.add(module)
    assert not printing


def test_files_and_folders_stay_small() -> None:
    for path in MODULES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
    for folder in {path.parent for path in MODULES} - {ROOT}:
        assert len([*folder.glob("[!_]*.py")]) <= 12, folder
