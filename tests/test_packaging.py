"""What is shipped: the source distribution is complete, and a machine without a compiler is told so in one sentence."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
BUILD_NEEDS = [name for name in ("setuptools", "pybind11", "Cython") if importlib.util.find_spec(name) is None]
needs_build = pytest.mark.skipif(bool(BUILD_NEEDS), reason=f"cannot build here: {', '.join(BUILD_NEEDS)} not installed")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the build reads, so that nothing is written into the repository."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("src", "csrc"):
        leave = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info", "_line.c")
        shutil.copytree(REPOSITORY / name, copy / name, ignore=leave)
    for path in REPOSITORY.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, copy)
    return copy


@pytest.fixture(scope="module")
def shipped(checkout: Path) -> set[str]:
    """Paths within the source distribution."""
    done = subprocess.run([sys.executable, "setup.py", "-q", "sdist"], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (archive,) = (checkout / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


@needs_build
@pytest.mark.parametrize("folder", ["src", "csrc"])
def test_the_source_distribution_holds_every_source(folder: str, shipped: set[str], checkout: Path) -> None:
    sources = {
        str(path.relative_to(checkout))
        for path in (checkout / folder).rglob("*")
        if path.is_file() and path.suffix not in {".c", ".so", ".pyc"} and "egg-info" not in str(path)
    }
    assert sources and sources <= shipped, f"left out: {sorted(sources - shipped)}"


@needs_build
def test_the_source_distribution_holds_what_a_reader_needs(shipped: set[str]) -> None:
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "CHANGELOG.md", "src/ppal_fast/py.typed"} <= shipped


@needs_build
def test_without_a_compiler_one_sentence_says_what_to_install(checkout: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX", "CFLAGS", "CXXFLAGS")}
    environment["PATH"] = str(tmp_path)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", "lib", "--build-temp", "temp"]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "C++" in done.stderr.strip().splitlines()[-1]


def test_the_installed_package_is_marked_as_typed() -> None:
    import ppal_fast

    assert (Path(ppal_fast.__file__).parent / "py.typed").is_file()


def test_headers_are_where_get_include_says() -> None:
    import ppal_fast

    assert list(Path(ppal_fast.get_include()).rglob("*.h*")), "no C++ header is shipped"
