"""The tables of the learning benchmark: simulated ones with ceilings, real ones, each drawn and masked by its seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppal_fast import Table, simulate

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"  # tables that are not there are left out
N_POOL, N_TEST = 10_000, 4_000  # of simulated tables
MOST_ROWS = 6_000  # of real ones
SMALL_POOL = 300  # pools up to here are asked a fortieth of their rows a round
ALBENCH = (
    "appendicitis", "sonar", "parkinsons", "ex8b", "heart", "haberman", "ionosphere", "clean1", "breast", "wdbc",
    "australian", "diabetes", "mammographic", "german", "splice", "phoneme", "vehicle", "wine",
)
SMALL = ("khan", "appendicitis", "sonar", "parkinsons", "ex8b", "heart", "haberman", "ionosphere", "wine")  # such pools


@dataclass(frozen=True)
class Task:
    """A pool to ask from, rows to be judged on, and how many labels may be bought in which rounds."""

    pool: Table
    y: NDArray[Any]
    test: Table
    y_test: NDArray[Any]
    ceiling: Callable[[], float] | None = None  # of the simulated tables; slow for drives
    first: int = 20
    per_round: int = 20
    n_rounds: int = 9

    @property
    def classes(self) -> list[Any]:
        return np.unique(np.concatenate([self.y, self.y_test])).tolist()


def names() -> list[str]:
    """Every table that can be drawn here; "name@50" is a table with half of its cells hidden."""
    real = [name for name in REAL if _file(name).exists()]
    if _file("albench").exists():
        real += ALBENCH
    return list(SIMULATED) + [name + mask for name in real for mask in ("", "@50", "@80")]


def draw(name: str, seed: int) -> Task:
    """The table's draw, mask and split into pool and test rows are all of this seed."""
    if name in SIMULATED:
        drawn = SIMULATED[name](N_POOL + N_TEST, seed)
        pool, test = drawn.table.take(slice(N_POOL)), drawn.table.take(slice(N_POOL, None))
        return Task(pool, drawn.y[:N_POOL], test, drawn.y[N_POOL:], lambda: drawn.ceiling)
    name, _, hidden = name.partition("@")
    X, y = _albench(name) if name in ALBENCH else REAL[name]()
    rng = np.random.default_rng([seed, sum(name.encode())])
    rows = rng.permutation(len(X))[:MOST_ROWS]
    X, y = X[rows].copy(), y[rows]
    X[rng.random(X.shape) < int(hidden or 0) / 100] = np.nan
    n = 2 * len(X) // 3
    table = Table.of(X)
    sizes = {"khan": (10, 3, 3)}.get(name) or _sizes(n)
    return Task(table.take(slice(n)), y[:n], table.take(slice(n, None)), y[n:], None, *sizes)


def _sizes(n_pool: int) -> tuple[int, int, int]:
    if n_pool > SMALL_POOL:
        return 20, 20, 9
    step = max(2, n_pool // 40)
    return max(10, step), step, 9


SIMULATED: dict[str, Callable[[int, int], simulate.SimulatedTable]] = {
    "class_shift(2)": lambda n, seed: simulate.class_shift(2.0, n, seed),
    "class_shift(1)": lambda n, seed: simulate.class_shift(1.0, n, seed),
    "drives(label)": lambda n, seed: simulate.drives("label", n, 2, seed),
    "drives(structured)": lambda n, seed: simulate.drives("structured", n, 2, seed),
    "latent_factors": lambda n, seed: simulate.latent_factors(n, seed),
    "independent_shifts": lambda n, seed: simulate.independent_shifts(n, seed),
}


def _file(name: str) -> Path:
    folder = {"steel": "steel_plates", "cwru": "cwru_bearing", "backblaze": "backblaze_2013", "khan": "khan_srbct"}
    name = folder.get(name, name)
    return DATA / name / (f"{name}.npz" if name == "albench" else f"{name}.csv.gz")


def _read(name: str, label: str, left_out: tuple[str, ...] = ()) -> tuple[Any, NDArray[Any]]:
    import pandas as pd

    frame = pd.read_csv(_file(name))
    return frame.drop(columns=[label, *left_out]), frame[label].to_numpy(str)


@cache
def _steel() -> tuple[NDArray[np.float64], NDArray[Any]]:
    X, y = _read("steel", "fault")
    return X.to_numpy(float), y


@cache
def _cwru() -> tuple[NDArray[np.float64], NDArray[Any]]:
    X, y = _read("cwru", "fault")
    return X.to_numpy(float), y


@cache
def _backblaze() -> tuple[NDArray[np.float64], NDArray[Any]]:
    X, y = _read("backblaze", "manufacturer", ("serial_number", "last_seen", "failed_in_window"))
    return X.to_numpy(float), y


@cache
def _khan() -> tuple[NDArray[np.float64], NDArray[Any]]:
    X, y = _read("khan", "y", ("split",))
    return X.to_numpy(float), y


@cache
def _ai4i() -> tuple[NDArray[np.float64], NDArray[Any]]:
    X, y = _read("ai4i2020", "Machine failure", ("row", "TWF", "HDF", "PWF", "OSF", "RNF"))
    return X.assign(Type=X.Type.map({"L": 0, "M": 1, "H": 2})).to_numpy(float), y


@cache
def _albench(name: str) -> tuple[NDArray[np.float64], NDArray[Any]]:
    with np.load(_file("albench")) as stored:
        return stored[f"{name}_X"].astype(np.float64), stored[f"{name}_y"]


REAL: dict[str, Callable[[], tuple[NDArray[np.float64], NDArray[Any]]]] = {
    "steel": _steel, "cwru": _cwru, "backblaze": _backblaze, "khan": _khan, "ai4i2020": _ai4i,
}
