"""PPALSampler under dimod's own sampler tests; skipped where dimod is not installed."""

from __future__ import annotations

import unittest
from typing import Any

import numpy as np
import pytest

dimod = pytest.importorskip("dimod", reason="dimod is not installed: pip install ppal_fast[dimod]")

from dimod import testing  # noqa: E402

from ppal_fast.dimod_sampler import PPALSampler  # noqa: E402
from ppal_fast.errors import InputError  # noqa: E402


def test_dimods_sampler_contract() -> None:
    testing.assert_sampler_api(PPALSampler())
    for vartype in ("SPIN", "BINARY"):
        bqm = dimod.generators.uniform(6, vartype, seed=1)
        testing.assert_response_energies(PPALSampler().sample(bqm, seed=0), bqm)


@testing.load_sampler_bqm_tests(PPALSampler)
class TestPPALSampler(unittest.TestCase):
    pass


@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
def test_lowest_states_first(vartype: str) -> None:
    bqm = dimod.generators.gnp_random_bqm(9, 0.5, vartype, random_state=3)
    found = PPALSampler().sample(bqm, num_reads=5, seed=0)
    exact = np.sort(dimod.ExactSolver().sample(bqm).record.energy)[:5]
    np.testing.assert_allclose(found.record.energy, exact, atol=1e-9)


def test_named_variables_and_offset() -> None:
    bqm = dimod.BinaryQuadraticModel({"a": -1.0, "b": 2.0}, {("a", "b"): 0.5}, 7.0, "BINARY")
    best = PPALSampler().sample(bqm, seed=0).first
    assert dict(best.sample) == {"a": 1, "b": 0} and best.energy == 6.0


@pytest.mark.parametrize("arguments", [{"algorithm": "swap"}, {"num_reads": 0}])
def test_bad_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        PPALSampler().sample(dimod.BinaryQuadraticModel("SPIN"), **arguments)
