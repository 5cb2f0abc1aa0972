"""Data flows one way: a module imports only from lower floors. This test reads the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ppal_fast

ROOT = Path(ppal_fast.__file__).parent
FLOORS = [
    {"errors"},
    {"_validate"},
    {"kernels"},
    {"table", "qubo", "privacy", "_labels"},
    {"density", "features", "files"},
    {"learners", "acquisition"},
    {"query"},
    {"loop", "line", "simulate"},
    {"kept"},
    {"session", "report", "dimod_sampler"},
    {"wire"},
    {"cli"},
]
FLOOR = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
SOURCES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def module_of(path: Path) -> str:
    """The name in FLOORS: the file's own, or that of its folder."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """Names in FLOORS that the file imports, at any depth of the code, absolute or relative."""
    here = ["ppal_fast", *path.relative_to(ROOT).with_suffix("").parts]
    package = here[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            targets = [f"{prefix}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            parts = target.split(".")
            if parts[0] == "ppal_fast" and len(parts) > 1 and parts[1] in FLOOR:
                found.add(parts[1])
    return found


def external_imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    return names | {
        (n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level
    }


def test_every_module_stands_on_a_floor() -> None:
    assert {module_of(p) for p in SOURCES} <= set(FLOOR)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    me = module_of(path)
    wrong = {m for m in imported_modules(path) if m != me and FLOOR[m] >= FLOOR[me]}
    assert not wrong, f"{path.name} (floor {FLOOR[me]}) imports {sorted(wrong)}"


@pytest.mark.parametrize("path", sorted((ROOT / "kernels").glob("*.py")), ids=lambda p: p.name)
def test_kernels_know_no_scientific_stack(path: Path) -> None:
    assert not external_imports(path) & {"sklearn", "scipy", "pandas"}


def test_only_the_binding_file_knows_pybind11() -> None:
    csrc = Path(__file__).resolve().parents[1] / "csrc"
    others = [p.name for p in csrc.iterdir() if p.name != "bindings.cpp" and "pybind11" in p.read_text()]
    assert others == []


def test_the_reader_of_imports_sees_an_arrow_that_points_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table.py").write_text("from .loop import PPAL\nimport ppal_fast.cli\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert imported_modules(tmp_path / "table.py") == {"loop", "cli"}
