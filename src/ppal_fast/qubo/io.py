"""The two plain-text formats of QUBO and max-cut instances: qbsolv .qubo and rudy. Plain or .gz.

    read_qubo, write_qubo      `p qubo 0 n diagonals couplers`, then `i j v` (0-based): f(x) = sum_{i<=j} v_ij x_i x_j
    read_maxcut, write_maxcut  `n m`, then `i j w` (1-based): the edges of a weighted graph
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..errors import InputError


def read_qubo(path: str | Path) -> sparse.csr_array:
    """Q (n, n) upper triangular float64 CSR with x'Qx the file's objective. Raises InputError naming file and line."""
    rows, columns, values, n = [], [], [], None
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words or words[0] == "c":
            continue
        if words[0] == "p":
            n = _whole(words, 3, path, number)
            continue
        if n is None:
            raise InputError(f"{path}, line {number}: entries begin before the line `p qubo 0 n diagonals couplers`")
        i, j, v = _entry(words, path, number)
        if not (0 <= i < n and 0 <= j < n):
            raise InputError(f"{path}, line {number}: ({i}, {j}) lies outside the {n} variables of the p line")
        rows.append(min(i, j))
        columns.append(max(i, j))
        values.append(v)
    if n is None:
        raise InputError(f"{path} has no line `p qubo 0 n diagonals couplers`; a qbsolv file is expected")
    return sparse.coo_array((values, (rows, columns)), shape=(n, n), dtype=np.float64).tocsr()


def write_qubo(path: str | Path, Q: Any) -> None:
    """Write x'Qx, Q dense or sparse, in the qbsolv format; every float64 is kept exactly."""
    entries = sparse.coo_array(Q)
    n = entries.shape[0]
    upper = sparse.coo_array(
        (entries.data, (np.minimum(*entries.coords), np.maximum(*entries.coords))), shape=(n, n)
    ).tocsr().tocoo()
    i, j = upper.coords
    order = np.argsort(i != j, kind="stable")  # the format wants the diagonal first
    with _open(path, "wt") as out:
        out.write(f"p qubo 0 {n} {np.count_nonzero(i == j)} {np.count_nonzero(i != j)}\n")
        out.writelines(f"{i[q]} {j[q]} {_text(upper.data[q])}\n" for q in order)


def read_maxcut(path: str | Path) -> sparse.csr_array:
    """Symmetric weights (n, n) float64 CSR. The cut of s is (sum of weights - s'Ws/2) / 2 with the sum over edges, so
    ``solve_ising(W)`` finds the largest cut. Raises InputError naming file and line."""
    lines = ((k, line.split()) for k, line in enumerate(_lines(path), 1))
    words = next(((k, w) for k, w in lines if w), None)
    if words is None:
        raise InputError(f"{path} is empty; a first line `n m` is expected")
    n, m = _whole(words[1], 0, path, words[0]), _whole(words[1], 1, path, words[0])
    rows, columns, values = [], [], []
    for number, entry in lines:
        if not entry:
            continue
        i, j, w = _entry(entry if len(entry) > 2 else [*entry, "1"], path, number)
        if not (1 <= i <= n and 1 <= j <= n) or i == j:
            raise InputError(f"{path}, line {number}: ({i}, {j}) is no edge between two of the vertices 1 to {n}")
        rows.append(i - 1)
        columns.append(j - 1)
        values.append(w)
    if len(rows) != m:
        raise InputError(f"{path} has {len(rows)} edges; its first line says {m}")
    W = sparse.coo_array((values, (rows, columns)), shape=(n, n), dtype=np.float64).tocsr()
    return sparse.csr_array(W + W.T)


def write_maxcut(path: str | Path, W: Any) -> None:
    """Write symmetric weights W (n, n), dense or sparse, as a rudy graph."""
    edges = sparse.coo_array(sparse.triu(sparse.csr_array(W), 1))
    i, j = edges.coords
    with _open(path, "wt") as out:
        out.write(f"{edges.shape[0]} {edges.nnz}\n")
        out.writelines(f"{a + 1} {b + 1} {_text(w)}\n" for a, b, w in zip(i, j, edges.data, strict=True))


def cut(W: Any, s: NDArray[Any]) -> float:
    """Weight of the edges between s = -1 and s = +1."""
    signs = np.asarray(s, dtype=np.float64)
    return float((W.sum() - signs @ (W @ signs)) / 4)


def _open(path: str | Path, mode: str) -> TextIO:
    return cast(TextIO, gzip.open(path, mode) if str(path).endswith(".gz") else open(path, mode))


def _lines(path: str | Path) -> list[str]:
    try:
        with _open(path, "rt") as source:
            return source.read().splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path} could not be read ({error}); a text file, plain or .gz, is expected") from None


def _whole(words: list[str], position: int, path: str | Path, number: int) -> int:
    try:
        return int(words[position])
    except (IndexError, ValueError):
        raise InputError(f"{path}, line {number}: a whole number is expected as word {position + 1}") from None


def _entry(words: list[str], path: str | Path, number: int) -> tuple[int, int, float]:
    try:
        i, j, v = int(words[0]), int(words[1]), float(words[2])
    except (IndexError, ValueError):
        raise InputError(f"{path}, line {number}: {' '.join(words)!r} is not `i j value`") from None
    if len(words) != 3 or not np.isfinite(v):
        raise InputError(f"{path}, line {number}: {' '.join(words)!r} is not `i j value` with a finite value")
    return i, j, v


def _text(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
