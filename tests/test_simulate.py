"""The simulated tables: their shape, their seeds, and that no rule beats the ceiling they state."""

from __future__ import annotations

import numpy as np
import pytest

from ppal_fast import simulate
from ppal_fast.errors import InputError

TABLES = {
    "class_shift": simulate.class_shift,
    "drives": simulate.drives,
    "independent_shifts": simulate.independent_shifts,
    "latent_factors": simulate.latent_factors,
}


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_a_table_is_sparse_and_repeats_with_its_seed(make) -> None:
    table = make(n_rows=2000, random_state=3)
    again = make(n_rows=2000, random_state=3)
    assert table.X.shape == (2000, 50) and table.y.shape == (2000,)
    np.testing.assert_array_equal(table.X, again.X)
    np.testing.assert_array_equal(table.y, again.y)
    assert abs(np.isnan(table.X).mean() - 0.8) < 0.02
    assert not np.array_equal(table.y, make(n_rows=2000, random_state=4).y)


@pytest.mark.parametrize(("scale", "bayes"), [(2, 0.892), (1, 0.804)])
def test_the_ceiling_of_class_shift_is_its_bayes_accuracy(scale: float, bayes: float) -> None:
    assert simulate.class_shift(scale, 20_000, 1).ceiling == pytest.approx(bayes, abs=0.005)


@pytest.mark.parametrize(("observed", "at_least"), [("label", 0.924), ("structured", 0.818)])
def test_the_ceiling_of_drives_counts_the_proxies_too(observed: str, at_least: float) -> None:
    """The cells of the sticker alone allow less than all cells together."""
    table = simulate.drives(observed, 4000, random_state=1)
    sticker = table.X.copy()
    sticker[:, 3:] = np.nan
    assert at_least < table.ceiling < 0.985  # 3 % of the labels are drawn at random
    assert simulate._drive_posterior(sticker, 2).max(axis=1).mean() < table.ceiling - 0.01


def test_the_ceiling_of_latent_factors_averages_to_the_known_one() -> None:
    assert np.mean([simulate.latent_factors(4000, i).ceiling for i in range(12)]) == pytest.approx(0.794, abs=0.008)


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_the_bayes_rule_reaches_what_the_ceiling_says(make) -> None:
    """The stated expectation and the realised accuracy agree within four standard errors: it is calibrated."""
    table = make(n_rows=3000, random_state=11)
    right = table.bayes_probability.argmax(axis=1) == table.y
    error = right.std() / np.sqrt(len(right))
    assert abs(right.mean() - table.ceiling) < 4 * error
    np.testing.assert_allclose(table.bayes_probability.sum(axis=1), 1)


def test_four_grades() -> None:
    table = simulate.drives(n_rows=1500, n_grades=4, random_state=0)
    assert set(table.y) == {0, 1, 2, 3}
    assert table.bayes_probability.shape == (1500, 4)
    right = table.bayes_probability.argmax(axis=1) == table.y
    assert abs(right.mean() - table.ceiling) < 4 * right.std() / np.sqrt(len(right))


def test_makers_are_a_declared_category() -> None:
    table = simulate.drives(n_rows=50, random_state=0)
    assert list(table.schema.categorical) == [0]
    X, y = table
    assert X is table.X and y is table.y


@pytest.mark.parametrize(
    "call",
    [
        lambda: simulate.class_shift(scale=-1),
        lambda: simulate.class_shift(n_rows=0),
        lambda: simulate.drives("labels"),
        lambda: simulate.drives(n_grades=3),
    ],
)
def test_bad_arguments_are_named(call) -> None:
    with pytest.raises(InputError, match=r"scale|n_rows|observed|n_grades"):
        call()


def test_suppliers_switch_once_and_everything_else_stays() -> None:
    before = simulate.drives(n_rows=500, random_state=3)
    quarters = simulate.supplier_switch(4, 500, 2, random_state=3)
    np.testing.assert_array_equal(quarters[0].X, before.X)
    assert len(quarters) == 4
    for quarter, table in enumerate(simulate.supplier_switch(4, 4000, 2, random_state=0)):
        large, date = table.X[:, 0] < 2, table.X[:, 1]
        seen = ~np.isnan(date)
        for makers, sign in ((large, 1 if quarter < 2 else -1), (table.X[:, 0] == 3, 1)):
            rows = makers & seen
            assert sign * np.corrcoef(date[rows], table.y[rows])[0, 1] > 0.4
        right = table.bayes_probability.argmax(axis=1) == table.y
        assert abs(right.mean() - table.ceiling) < 0.03
