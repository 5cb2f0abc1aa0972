"""Tables with a known ceiling: what the best possible classifier would reach on them.

Each table is drawn from a model whose posterior can be computed, so that every report can print beside an
accuracy the most that any learner could have had from the same cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import _validate
from .table import Schema, Table

Float = NDArray[np.float64]

N_COLUMNS = 50
N_INFORMATIVE = 14
PRIOR = 0.4

MAKER_SHARES = np.array([0.35, 0.28, 0.15, 0.10, 0.07, 0.05])
SWITCH_DATE = np.array([0.30, 0.55, 0.45, 0.70, 0.20, 0.60])
SWITCH_SIGN = np.array([1, 1, -1, 1, 1, -1])
SMALL_FORM_SHARE = 0.35
GRADE_NOISE = 0.25
LABEL_NOISE = 0.03
DATE_SCALE = 3.46  # sqrt(12): a uniform date with standard deviation 1
N_PROXIES = 12
OBSERVED = {"label": (0.97, 0.93, 0.95), "structured": (0.70, 0.60, 0.60)}
OBSERVED_OVERALL = 0.2
GRADE_EDGES = {2: np.array([0.0]), 4: np.array([-0.9, 0.0, 0.9])}


@dataclass(frozen=True)
class SimulatedTable:
    """A drawn table. ``X, y = simulate.drives()`` works too.

    X        (n, d) float64, NaN for a missing cell
    y        (n,) int64 classes 0 .. K-1
    schema   names, categories (as codes in X) and public ranges of the columns
    ceiling  expected accuracy of the Bayes rule on these rows, given the cells that are observed
    """

    name: str
    X: Float
    y: NDArray[np.int64]
    schema: Schema
    _posterior: Callable[[], Float] = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.X, self.y))

    def __len__(self) -> int:
        return len(self.y)

    @property
    def table(self) -> Table:
        return Table(self.X, self.schema)

    @cached_property
    def bayes_probability(self) -> Float:
        """(n, K) probabilities of the classes given the observed cells and the model that drew them."""
        return self._posterior()

    @property
    def ceiling(self) -> float:
        return float(self.bayes_probability.max(axis=1).mean())


def class_shift(scale: float = 2.0, n_rows: int = 10_000, random_state: Any = None) -> SimulatedTable:
    """Class-conditional Gaussian shifts: 14 of 50 columns informative, 80 % of the cells missing at random.

    ``scale`` is the mean size of a shift in standard deviations; the 14 sizes are one fixed exponential draw.
    """
    _validate.positive(scale=scale)
    _validate.integer(1, n_rows=n_rows)
    rng = _validate.random_generator(random_state)
    fixed = np.random.default_rng(12345)
    shift = np.sort(fixed.exponential(1.0, N_INFORMATIVE))[::-1]
    shift = shift / shift.mean() * scale * fixed.choice([-1, 1], N_INFORMATIVE)

    y = (rng.random(n_rows) < PRIOR).astype(np.int64)
    X = rng.standard_normal((n_rows, N_COLUMNS))
    missing = rng.random(X.shape) < 1 - OBSERVED_OVERALL
    X[:, :N_INFORMATIVE] += (y[:, None] - PRIOR) * shift
    X[missing] = np.nan

    def posterior() -> Float:
        # log N(x; (1-p)s, 1) - log N(x; -ps, 1) = x s - s^2 (1 - 2p) / 2
        ratio = X[:, :N_INFORMATIVE] * shift - 0.5 * (1 - 2 * PRIOR) * shift**2
        return _two_classes(np.nansum(ratio, axis=1), PRIOR)

    return SimulatedTable(f"class_shift({scale:g})", X, y, _numeric_schema(), posterior)


def drives(
    observed: Literal["label", "structured"] = "label",
    n_rows: int = 10_000,
    n_grades: Literal[2, 4] = 2,
    random_state: Any = None,
) -> SimulatedTable:
    """Returned hard drives: which hold magnets worth recovering depends on maker, date and form factor.

    Column 0 is the maker (a category, codes 0 .. 5), 1 the standardised date, 2 the form factor (1 = 2.5 inch),
    3 - 14 noisy proxies, 15 - 49 correlated noise. Each maker switches magnets at its own date and direction;
    3 % of the labels are drawn at random. ``observed="label"``: the drive's sticker is mostly readable (maker,
    date and form factor observed in 93 - 97 % of the rows); ``"structured"``: in 60 - 70 %. 80 % of all cells are
    missing either way.
    """
    _validate.one_of(OBSERVED, observed=observed)
    _validate.integer(1, n_rows=n_rows)
    if n_grades not in GRADE_EDGES:
        _validate.one_of(map(str, GRADE_EDGES), n_grades=str(n_grades))
    return _drives(observed, n_rows, n_grades, _validate.random_generator(random_state), SWITCH_SIGN)


def supplier_switch(
    n_quarters: int = 12, n_rows: int = 1000, switch_at: int = 6, random_state: Any = None
) -> list[SimulatedTable]:
    """Quarters of returned drives, ``drives("label")`` each; from quarter ``switch_at`` on (the first is 0) the two
    largest makers have swapped suppliers: their old drives hold what their new ones held, and the other way round."""
    _validate.integer(1, n_quarters=n_quarters, n_rows=n_rows)
    _validate.integer(0, n_quarters, switch_at=switch_at)
    rng = _validate.random_generator(random_state)
    switched = SWITCH_SIGN * np.where(np.arange(len(SWITCH_SIGN)) < 2, -1, 1)
    return [
        _drives("label", n_rows, 2, rng, SWITCH_SIGN if quarter < switch_at else switched)
        for quarter in range(n_quarters)
    ]


def _drives(
    observed: str, n_rows: int, n_grades: int, rng: np.random.Generator, sign: NDArray[Any]
) -> SimulatedTable:
    maker = rng.choice(len(MAKER_SHARES), n_rows, p=MAKER_SHARES)
    date = rng.random(n_rows)
    small = (rng.random(n_rows) < SMALL_FORM_SHARE).astype(float)
    grade = _mean_grade(maker, date, small, sign) + GRADE_NOISE * rng.standard_normal(n_rows)
    y = np.digitize(grade, GRADE_EDGES[n_grades]).astype(np.int64)
    mislabelled = rng.random(n_rows) < LABEL_NOISE
    y = np.where(mislabelled, rng.integers(0, n_grades, n_rows), y)

    X = rng.standard_normal((n_rows, N_COLUMNS))
    loadings, maker_effect, noise_loadings = _drive_structure()
    X[:, 0], X[:, 1], X[:, 2] = maker, (date - 0.5) * DATE_SCALE, small
    X[:, 3 : 3 + N_PROXIES] += _proxy_causes(maker, date, small, y, n_grades, maker_effect) @ loadings.T
    noise = slice(3 + N_PROXIES, N_COLUMNS)
    X[:, noise] = 0.8 * X[:, noise] + rng.standard_normal((n_rows, 5)) @ noise_loadings * 0.6
    often = np.array(OBSERVED[observed])
    rate = np.full(N_COLUMNS, (OBSERVED_OVERALL * N_COLUMNS - often.sum()) / (N_COLUMNS - 3))
    rate[:3] = often
    X[rng.random(X.shape) > rate] = np.nan

    names = ("maker", "date", "form_factor", *(f"proxy_{j}" for j in range(N_PROXIES)))
    names += tuple(f"noise_{j}" for j in range(N_COLUMNS - len(names)))
    levels: tuple[tuple[Any, ...] | None, ...] = (tuple(float(m) for m in range(len(MAKER_SHARES))),)
    schema = Schema(names, levels + (None,) * (N_COLUMNS - 1)).with_bounds((-6.0, 6.0))
    return SimulatedTable(f"drives({observed})", X, y, schema, lambda: _drive_posterior(X, n_grades, sign=sign))


def independent_shifts(n_rows: int = 10_000, random_state: Any = None) -> SimulatedTable:
    """World A: 15 columns shifted by class, places, sizes and signs drawn anew; prior .3, cells clipped at 3."""
    _validate.integer(1, n_rows=n_rows)
    rng = _validate.random_generator(random_state)
    prior, informative = 0.3, rng.permutation(N_COLUMNS)[:15]
    y = (rng.random(n_rows) < prior).astype(np.int64)
    X = rng.standard_normal((n_rows, N_COLUMNS))
    shift = rng.choice([-1, 1], 15) * rng.uniform(0.5, 1.1, 15)
    X[:, informative] += (2 * y - 1)[:, None] * shift
    observed = rng.random(X.shape) < OBSERVED_OVERALL
    X = np.where(observed, np.clip(X, -3, 3), np.nan)

    def posterior() -> Float:
        from scipy.special import log_ndtr

        x = X[:, informative]
        beyond = log_ndtr(np.sign(x) * shift - 3) - log_ndtr(-np.sign(x) * shift - 3)  # all mass beyond the clip
        return _two_classes(np.nansum(np.where(np.abs(x) >= 3, beyond, 2 * x * shift), axis=1), prior)

    return SimulatedTable("independent_shifts", X, y, _numeric_schema(), posterior)


def latent_factors(n_rows: int = 10_000, random_state: Any = None) -> SimulatedTable:
    """World B: four latent factors behind 15 correlated columns, a linear rule on the factors, 3 % wrong labels.

    The ceiling ignores that cells are clipped at 3 (less than .3 % of them are).
    """
    _validate.integer(1, n_rows=n_rows)
    rng = _validate.random_generator(random_state)
    prior, informative = 0.3, rng.permutation(N_COLUMNS)[:15]
    z = rng.standard_normal((n_rows, 4))
    loadings = rng.standard_normal((4, 15))
    loadings /= np.linalg.norm(loadings, axis=0)
    X = rng.standard_normal((n_rows, N_COLUMNS))
    X[:, informative] = 0.95 * z @ loadings + 0.3 * rng.standard_normal((n_rows, 15))
    weight = np.array([1, 0.6, 0.3, 0.1])
    weight /= np.linalg.norm(weight)
    cut = np.quantile(z @ weight, 1 - prior)
    y = (z @ weight > cut).astype(np.int64)
    y = np.where(rng.random(n_rows) < LABEL_NOISE, 1 - y, y)
    X = np.where(rng.random(X.shape) < OBSERVED_OVERALL, np.clip(X, -3, 3), np.nan)

    def posterior() -> Float:
        from scipy.special import ndtr

        cells = X[:, informative]
        seen = ~np.isnan(cells)
        L = 0.95 * loadings.T / 0.3
        precision = np.eye(4) + np.einsum("nj,jp,jq->npq", seen, L, L)
        covariance = np.linalg.inv(precision)
        mean = np.einsum("npq,nq->np", covariance, np.nan_to_num(cells) / 0.3 @ L)
        spread = np.sqrt(np.einsum("p,npq,q->n", weight, covariance, weight))
        p = ndtr((mean @ weight - cut) / spread)
        p = p * (1 - LABEL_NOISE) + (1 - p) * LABEL_NOISE
        return np.column_stack([1 - p, p])

    return SimulatedTable("latent_factors", X, y, _numeric_schema(), posterior)


def _numeric_schema() -> Schema:
    schema = Schema(tuple(f"x{j}" for j in range(N_COLUMNS)), (None,) * N_COLUMNS)
    return schema.with_bounds((-6.0, 6.0))


def _two_classes(log_ratio: Float, prior: float) -> Float:
    from scipy.special import expit

    p = expit(np.log(prior / (1 - prior)) + log_ratio)
    return np.column_stack([1 - p, p])


def _mean_grade(maker: NDArray[Any], date: NDArray[Any], small: NDArray[Any], sign: NDArray[Any]) -> Float:
    return sign[maker] * (date - SWITCH_DATE[maker]) * 4 + 0.8 * (small - SMALL_FORM_SHARE)


def _drive_structure() -> tuple[Float, Float, Float]:
    """What is the same in every table of drives: loadings of the proxies (12, 4), of makers (6,), of the noise."""
    fixed = np.random.default_rng(7)
    loadings = fixed.normal(0, 1, (N_PROXIES, 4)) * np.array([0.55, 0.5, 0.4, 0])
    loadings[:, 3] = fixed.uniform(0.3, 1.0, N_PROXIES) * fixed.choice([-1, 1], N_PROXIES)
    maker_effect = fixed.normal(0, 1, len(MAKER_SHARES))
    return loadings, maker_effect, fixed.normal(0, 0.5, (5, N_COLUMNS - 3 - N_PROXIES))


def _proxy_causes(
    maker: NDArray[Any],
    date: NDArray[Any],
    small: NDArray[Any],
    y: NDArray[Any],
    n_grades: int,
    maker_effect: Float,
) -> Float:
    centre = (n_grades - 1) / 2
    grade = (y - centre) / max(1.0, centre)
    causes = [(date - 0.5) * DATE_SCALE, maker_effect[maker], (small - SMALL_FORM_SHARE) * 2, grade]
    return np.column_stack(np.broadcast_arrays(*causes))


def _drive_posterior(
    X: Float, n_grades: int, n_dates: int = 64, *, sign: NDArray[Any] = SWITCH_SIGN
) -> Float:
    """Sum over what the observed cells leave open: maker, form factor and (by Gauss-Legendre) the date."""
    from scipy.special import ndtr

    nodes, weights = np.polynomial.legendre.leggauss(n_dates)
    makers, smalls, dates = (
        a.ravel() for a in np.meshgrid(np.arange(len(MAKER_SHARES)), [0.0, 1.0], (nodes + 1) / 2, indexing="ij")
    )
    prior = (
        MAKER_SHARES[makers]
        * np.where(smalls == 1, SMALL_FORM_SHARE, 1 - SMALL_FORM_SHARE)
        * np.tile(weights / 2, len(makers) // n_dates)
    )
    loadings, maker_effect, _ = _drive_structure()
    edges = np.concatenate([[-np.inf], GRADE_EDGES[n_grades], [np.inf]])
    out = np.empty((len(X), n_grades))
    for i, row in enumerate(X):
        keep = np.ones(len(prior), dtype=bool)
        if not np.isnan(row[0]):
            keep &= makers == row[0]
        if not np.isnan(row[2]):
            keep &= smalls == row[2]
        date_known = not np.isnan(row[1])
        if date_known:  # one node carries the known date
            keep &= np.arange(len(prior)) % n_dates == 0
        m, f, mass = makers[keep], smalls[keep], prior[keep]
        t = np.full(len(m), row[1] / DATE_SCALE + 0.5) if date_known else dates[keep]
        above = ndtr((edges[:, None] - _mean_grade(m, t, f, sign)) / GRADE_NOISE)
        grade = np.diff(above, axis=0) * (1 - LABEL_NOISE) + LABEL_NOISE / n_grades
        proxies = row[3 : 3 + N_PROXIES]
        seen = ~np.isnan(proxies)
        fit = np.empty((n_grades, len(m)))
        for k in range(n_grades):
            causes = _proxy_causes(m, t, f, np.full(len(m), k), n_grades, maker_effect)
            fit[k] = -0.5 * ((proxies[seen] - causes @ loadings[seen].T) ** 2).sum(axis=1)
        joint = (mass * grade * np.exp(fit - fit.max())).sum(axis=1)
        out[i] = joint / joint.sum()
    return out
