"""The same bits from everywhere: C, C++ under other flags, Cython, Numba and ctypes decide as Python does."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppal_fast
from ppal_fast import LineScorer, simulate
from ppal_fast.learners import AutoClassifier, ClassMeanClassifier, RandomTreesClassifier
from ppal_fast.line import VERDICT

DRIVES = simulate.drives(n_rows=300, n_grades=4, random_state=0)
LEARNERS = {
    "both": ClassMeanClassifier("both", random_state=0), "trees": RandomTreesClassifier(random_state=0),
    "auto": AutoClassifier(random_state=0),
}
PROGRAM = """
#include "ppal_fast/line.h"
#include <stdio.h>
#include <stdlib.h>

static void *contents(const char *path, long *size) {
    FILE *file = fopen(path, "rb");
    void *bytes;
    fseek(file, 0, SEEK_END);
    *size = ftell(file);
    rewind(file);
    bytes = malloc((size_t)*size);
    if (fread(bytes, 1, (size_t)*size, file) != (size_t)*size) exit(1);
    fclose(file);
    return bytes;
}

int main(int argc, char **argv) {
    long size, n_bytes;
    void *bytes = contents(argv[1], &size);
    double *items = (double *)contents(argv[2], &n_bytes), *work;
    ppal_line model;
    ppal_line_verdict verdict;
    FILE *out = fopen(argv[3], "wb");
    int64_t i, n;
    const int status = ppal_line_open(&model, bytes, size);
    if (argc != 4 || status != PPAL_LINE_OK) return puts(ppal_line_message(status)), 1;
    n = n_bytes / 8 / model.n_columns;
    work = (double *)malloc((size_t)model.n_work * sizeof *work);
    for (i = 0; i < n; i++) {
        if (ppal_line_decide(&model, items + i * model.n_columns, work, NULL, &verdict) != PPAL_LINE_OK) return 2;
        fwrite(&verdict, sizeof verdict, 1, out);
    }
    puts(model.id);
    return fclose(out);
}
"""
WARN = ["-Wall", "-Wextra", "-Werror"]
COMPILERS = {
    "C99": ["gcc", "-std=c99", "-pedantic", "-O2", *WARN],
    "C++ -O0, baseline vectors": ["g++", "-x", "c++", "-O0", "-DPPAL_LINE_WIDE=", *WARN],
    "C++ -O3 -march=native": ["g++", "-x", "c++", "-O3", "-march=native", "-ffp-contract=fast", *WARN],
    "Clang": ["clang", "-std=c99", "-O2", "-march=native", *WARN],
}


@pytest.fixture(scope="module", params=LEARNERS)
def scorer(request: pytest.FixtureRequest) -> LineScorer:
    labelled = DRIVES.table.take(np.arange(150))
    learner = LEARNERS[request.param].fit(labelled, DRIVES.y[:150], X_pool=DRIVES.table)
    return LineScorer.from_learner(learner, DRIVES.schema, threshold=0.1, pool=DRIVES.table, labelled=labelled)


@pytest.fixture(scope="module", params=COMPILERS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    command = COMPILERS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    folder = tmp_path_factory.mktemp("program")
    (folder / "decide.c").write_text(PROGRAM)
    built = subprocess.run(
        [*command, "-I", ppal_fast.get_include(), "decide.c", "-o", "decide", "-lm"], cwd=folder, capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder / "decide"


def test_a_program_without_python_decides_bit_for_bit(program: Path, scorer: LineScorer, tmp_path: Path) -> None:
    scorer.save(tmp_path / "model.line")
    DRIVES.X.astype("<f8").tofile(tmp_path / "items")
    done = subprocess.run([program, "model.line", "items", "out"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, scorer.model_id)
    assert (tmp_path / "out").read_bytes() == scorer.verdicts(DRIVES.X).tobytes()


def test_a_build_that_would_lose_missing_cells_stops(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    (tmp_path / "decide.c").write_text(PROGRAM)
    command = ["gcc", "-O2", "-ffast-math", "-fsyntax-only", "-I", ppal_fast.get_include(), "decide.c"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode != 0 and "build ppal_fast/line.h without -ffast-math" in built.stderr


CALLER = """
# cython: language_level=3
from ppal_fast.kernels._line cimport Scorer, ppal_line_decide, ppal_line_verdict
from libc.stdlib cimport free, malloc

def verdicts(Scorer scorer, const double[:, ::1] X, ppal_line_verdict[::1] found):
    cdef double *work = <double *> malloc(scorer.model.n_work * sizeof(double))
    cdef Py_ssize_t i
    with nogil:
        for i in range(X.shape[0]):
            ppal_line_decide(&scorer.model, &X[i, 0], work, NULL, &found[i])
    free(work)
"""
BUILD = """
import sys
import ppal_fast
from Cython.Build import cythonize
from setuptools import Extension, setup
setup(
    name="line_caller", script_args=["-q", "build_ext", "--inplace"],
    ext_modules=cythonize(
        [Extension("line_caller", ["line_caller.pyx"], include_dirs=[ppal_fast.get_include()])], quiet=True,
        include_path=sys.path,
    ),
)
"""


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("Cython")
    if shutil.which("gcc") is None and "CC" not in os.environ:
        pytest.skip("no C compiler is installed")
    folder = tmp_path_factory.mktemp("caller")
    (folder / "line_caller.pyx").write_text(CALLER)
    (folder / "build_caller.py").write_text(BUILD)
    root = str(Path(ppal_fast.__file__).parents[1])
    built = subprocess.run(
        [sys.executable, "build_caller.py"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": root, "CFLAGS": "-O0 -DPPAL_LINE_WIDE="},
    )
    assert built.returncode == 0, built.stderr
    sys.path.insert(0, str(folder))
    try:
        import line_caller  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(folder))
    return line_caller


def test_other_cython_code_decides_bit_for_bit(caller: Any, scorer: LineScorer) -> None:
    found = np.empty(len(DRIVES), VERDICT)
    caller.verdicts(scorer.kernel, DRIVES.X, found)
    assert found.tobytes() == scorer.verdicts(DRIVES.X).tobytes()


def test_ctypes_and_numba_decide_bit_for_bit(scorer: LineScorer) -> None:
    import numba

    decide, model = scorer.ctypes_decide, scorer.address
    expected = scorer.verdicts(DRIVES.X).tobytes()

    def decide_all(X: Any, work: Any, P: Any, found: Any) -> int:
        status = 0
        for i in range(len(X)):
            status |= decide(model, X[i].ctypes.data, work.ctypes.data, P.ctypes.data, found[i:].ctypes.data)
        return status

    for run in (numba.njit(decide_all), decide_all):
        found, P = np.zeros(len(DRIVES), VERDICT), np.empty(len(scorer.classes_))
        assert run(DRIVES.X, np.empty(scorer.n_work), P, found) == 0
        assert found.tobytes() == expected
        assert P.tolist() == scorer.predict_proba(DRIVES.X[-1:])[0].tolist()
    infinite = np.full(50, np.inf)
    verdict, work = np.zeros(1, VERDICT), np.empty(scorer.n_work)
    assert decide(model, infinite.ctypes.data, work.ctypes.data, None, verdict.ctypes.data) == 1
    assert isinstance(decide, ctypes._CFuncPtr)
