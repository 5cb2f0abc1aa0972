"""What the tests of couplings in words and in bits share: every driver makes its moves on one state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ppal_fast.kernels import bifurcation, fields, local_search
from ppal_fast.qubo.model import Model


def move_with_every_driver(
    model: Model, s: np.ndarray, seed: int, rng: np.random.Generator, agree: Callable[[np.ndarray, float], None]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Anneal, search, bifurcate and descend from s in place, ``agree(fields, energy)`` after each; the fields at the
    end, the best state before the descent and its energy."""
    couplings, n = (model.couplings, model.indptr, model.indices), len(s)
    h, value = model.start(s)
    agree(h, value)
    energy, best, state = np.array([value, value]), s.copy(), np.array([seed], np.uint64)
    temperatures = np.linspace(model.row_rms, 0.1, 5).astype(np.float32)
    local_search.anneal(*couplings, s, h, energy, best, state, local_search.EXPONENTIALS, temperatures, -np.inf)
    agree(h, energy[0])
    until, counters = np.zeros(n, np.int32), np.zeros(2, np.int64)
    local_search.tabu_search(*couplings, s, h, energy, best, state, until, counters, 50, n // 4, 7, -np.inf)
    agree(h, energy[0])
    x, y = (rng.uniform(-1, 1, n).astype(np.float32) for _ in range(2))
    pump = np.linspace(0, 1, 9, dtype=np.float32)
    bifurcation.discrete(*couplings, model.b, s, h, x, y, energy, best, pump, 0.7, 0.5 / model.row_rms, -np.inf)
    agree(h, energy[0])
    agree(h, energy[0] + fields.descend(*couplings, s, h))
    return h, best, energy[1]
