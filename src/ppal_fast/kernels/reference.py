"""The slow, obvious twin of every kernel: the oracle of the tests. Written to be right, not fast."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray


def standardise(X: NDArray[np.float64], observed: NDArray[np.bool_], clip: float) -> NDArray[np.float64]:
    """Each column over its observed cells: minus their mean, over their deviation, clipped; 0 elsewhere."""
    Z = np.zeros(X.shape)
    for j, seen in enumerate(observed.T):
        cells = X[seen, j]
        if len(cells) and cells.std() > 1e-12 * (1 + abs(cells.mean())):
            Z[seen, j] = np.clip((cells - cells.mean()) / cells.std(), -clip, clip)
    return Z


def top_rows(
    score: NDArray[np.float64], coins: NDArray[np.float64], rows: NDArray[np.intp], k: int
) -> NDArray[np.intp]:
    """The k rows of highest score by sorting all of them; of equal scores the lower coin goes first."""
    return rows[np.lexsort((coins[rows], -score[rows]))[:k]]


def spread(factor: NDArray[np.float64], phi: NDArray[np.float64], uniforms: NDArray[np.float64]) -> NDArray[np.intp]:
    """k-means++ seeding on the explicit rows factor_i outer phi_i: the longest row, then by squared distance."""
    rows = (factor[:, :, None] * phi[:, None, :]).reshape(len(phi), -1)
    chosen = [int(np.argmax((rows**2).sum(axis=1)))]
    for u in uniforms[1:]:
        squared = ((rows[:, None, :] - rows[None, chosen, :]) ** 2).sum(axis=2).min(axis=1)
        if not squared.any():
            break
        chosen.append(int(np.searchsorted(np.cumsum(squared), u * squared.sum(), side="right")))
    return np.array(chosen, dtype=np.intp)


def best_quadratic(
    unit: NDArray[np.float64], length: NDArray[np.float64], linear: NDArray[np.float64],
    curvature: NDArray[np.float64], free: NDArray[np.bool_],
) -> int:
    """The free row with the largest |p| a'La - a'Qa, or -1."""
    best, best_score = -1, -np.inf
    for i in np.flatnonzero(free):
        score = length[i] * (unit[i] @ linear @ unit[i]) - unit[i] @ curvature @ unit[i]
        if score > best_score:
            best, best_score = int(i), score
    return best


def posterior(
    precision: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, E[f f'] and log |A| of f ~ N(A^-1 b, A^-1), one whole matrix A (n, q, q) at a time."""
    mean = np.array([np.linalg.solve(A, x) for A, x in zip(precision, b, strict=True)])
    second = np.array([np.linalg.inv(A) + np.outer(f, f) for A, f in zip(precision, mean, strict=True)])
    return mean, second, np.array([np.linalg.slogdet(A)[1] for A in precision])


def forest_votes(forest: Any, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Class shares of the leaf of each row, one tree and one row at a time, averaged over trees."""
    votes = np.zeros((len(X), forest.shares.shape[1]))
    for x, total in zip(X, votes, strict=True):
        for node in forest.roots:
            while forest.column[node] >= 0:
                node = forest.next[node] + int(x[forest.column[node]] > forest.threshold[node])
            total += forest.shares[forest.next[node]]
    return votes / len(forest.roots)


def log_density(
    references: NDArray[np.float64], bandwidth: NDArray[np.float64], queries: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None, left_out: NDArray[np.intp] | None = None,
) -> NDArray[np.float64]:
    """Gaussian kernel density, one query, one column at a time; NaN is a missing cell, reference left_out[i] is absent.

    log p(x) = logsumexp_i [ log w_i + sum_j log N(x_j; y_ij, h_j^2) ] over the observed columns j of x, with
    log p_j(x_j) in place of log N where y_ij is missing; p_j is column j's own density over its observed cells.
    """
    given = np.ones(len(references)) if weights is None else weights
    out = np.empty(len(queries))
    for i, x in enumerate(queries):
        w = given.copy()
        if left_out is not None and left_out[i] >= 0:
            w[left_out[i]] = 0
        y, w = references[w > 0], w[w > 0]
        if np.isnan(x).all():
            out[i] = 0
            continue
        terms = np.log(w / w.sum())
        for j in np.flatnonzero(~np.isnan(x)):
            observed = ~np.isnan(y[:, j])
            with np.errstate(over="ignore"):
                kernel = -0.5 * ((x[j] - y[:, j]) / bandwidth[j]) ** 2 - np.log(bandwidth[j] * np.sqrt(2 * np.pi))
            if observed.any():
                own = log_sum_exp(np.log(w[observed] / w[observed].sum()) + kernel[observed])
                terms = terms + np.where(observed, kernel, own)
        out[i] = log_sum_exp(terms)
    return out


def log_sum_exp(terms: NDArray[np.float64]) -> float:
    """log sum exp(terms) without overflow; minus infinity for no terms."""
    largest = terms.max(initial=-np.inf)
    return float(largest if np.isinf(largest) else largest + np.log(np.exp(terms - largest).sum()))


def chacha12_block(key: list[int], nonce: int, counter: int) -> list[int]:
    """The 16 words of one block, on whole numbers (Bernstein 2008): key 8 words, 64-bit nonce and counter."""
    constants = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574]
    low, high = 2**32 - 1, 32
    start = [*constants, *key, counter & low, counter >> high, nonce & low, nonce >> high]
    x = list(start)

    def rotate(value: int, by: int) -> int:
        return ((value << by) | (value >> (32 - by))) & low

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for p, q, r, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[p] = (x[p] + x[q]) & low
            x[r] = rotate(x[r] ^ x[p], by)

    for _ in range(6):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for diagonal in range(4):
            quarter(diagonal, 4 + (diagonal + 1) % 4, 8 + (diagonal + 2) % 4, 12 + (diagonal + 3) % 4)
    return [(a + b) & low for a, b in zip(x, start, strict=True)]


def noise_bits(i: int, key: list[int], nonce: int) -> int:
    """The first 64 bits of sample i as a number in [0, 2**64): words w and w + 8 of block 64 (i // 512) + i % 64."""
    chunk, j = divmod(i, 512)
    word, block = divmod(j, 64)
    words = chacha12_block(key, nonce, 64 * chunk + block)
    return (((words[word] << 32) | words[word + 8]) + 2**63) % 2**64


def rounded_quantile(u: int, bits: int, deviation: float, cdf: Callable[[Fraction], Fraction]) -> tuple[int, int]:
    """round(S Phi^-1(U)) at both ends of U in [u, u + 1] / 2**bits, by halving on the definition; cdf is Phi."""

    def quantile(p: Fraction) -> int:
        low, high = -int(40 * deviation) - 2, int(40 * deviation) + 2
        while high - low > 1:
            middle = (low + high) // 2
            if cdf(Fraction(2 * middle + 1, 2) / Fraction(deviation)) <= p:
                low = middle
            else:
                high = middle
        return high

    return quantile(Fraction(u, 2**bits)), quantile(Fraction(u + 1, 2**bits))


def integer_clip_sum(
    rows: NDArray[np.float64], owners: list[int], clip: float, gamma: float, bound: int
) -> list[int]:
    """Sum over owners of trunc(clip(sum of their rows) / gamma), whose norm is checked in whole numbers."""
    total = [0] * rows.shape[1]
    for owner in sorted(set(owners)):
        mine = rows[[i for i, o in enumerate(owners) if o == owner]]
        v = [math.fsum(float(x) for x in column) for column in mine.T]
        if not all(math.isfinite(x) for x in v) or not any(v):
            continue
        exact = sum(Fraction(x) ** 2 for x in v)
        scale = Fraction(1)
        if exact > Fraction(clip) ** 2:
            root = Fraction(math.isqrt(math.floor(exact * 2**4400)) + 1, 2**2200)  # at or above the norm
            scale = Fraction(clip) / root
        k = [math.trunc(Fraction(x) * scale / Fraction(gamma)) for x in v]
        assert sum(x * x for x in k) <= bound**2
        total = [a + b for a, b in zip(total, k, strict=True)]
    return total


def masked_clip_noise(
    gradients: NDArray[np.float64], groups: NDArray[np.intp], clip: float, deviation: float,
    normals: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Clipped rows plus noise in the chosen groups, zero elsewhere; normals (m, P) standard."""
    noisy = np.zeros(gradients.shape)
    for r, group in enumerate(groups):
        norm = math.sqrt(float((gradients[group] ** 2).sum()))
        noisy[group] = gradients[group] * min(1.0, clip / norm if norm > 0.0 else 1.0) + deviation * normals[r]
    return noisy


def box_muller(a: int, b: int, bits: int = 32) -> tuple[float, float]:
    """Two standard normals of two words of 32 or 64 bits: a is the radius; b an angle below pi/4, a swap, two signs."""
    uniform = (a + 0.5) * 2.0**-32 if bits == 32 else ((a >> 1) + 0.5) * 2.0**-63
    radius = math.sqrt(-2.0 * math.log(uniform))
    angle = (b >> 3) * (math.pi / 4 / 2 ** (bits - 3))
    first, second = (math.sin(angle), math.cos(angle)) if b & 1 else (math.cos(angle), math.sin(angle))
    return radius * (first if b & 2 else -first), radius * (second if b & 4 else -second)


def discrete_gaussian(deviation: Fraction, below: Callable[[int], int]) -> int:
    """One exact sample of P(x) ~ exp(-x^2 / (2 S^2)): algorithm 3 of Canonne, Kamath, Steinke 2020 (arXiv:2004.00010).

    below(n) -> a uniform whole number in [0, n). Rational arithmetic alone: the rounded Gaussian's exact neighbour.
    """

    def bernoulli_exp(x: Fraction) -> bool:
        """True with probability exp(-x)."""
        while x > 1:
            if not bernoulli_exp(Fraction(1)):
                return False
            x -= 1
        k = 1
        while below(x.denominator * k) < x.numerator:
            k += 1
        return k % 2 == 1

    t = math.floor(deviation) + 1
    while True:
        u = below(t)
        if not bernoulli_exp(Fraction(u, t)):
            continue
        v = 0
        while bernoulli_exp(Fraction(1)):
            v += 1
        x, negative = u + t * v, below(2) == 1
        if x == 0 and negative:
            continue
        if bernoulli_exp((x - deviation**2 / t) ** 2 / (2 * deviation**2)):
            return -x if negative else x


def qubo_energy(Q: NDArray[Any], x: NDArray[Any]) -> float:
    """x'Qx, term by term."""
    n = len(x)
    return math.fsum(float(Q[i, j]) for i in range(n) for j in range(n) if x[i] and x[j])


def qubo_minimum(Q: NDArray[Any], cardinality: int | None = None) -> float:
    """The least x'Qx over all x in {0,1}^n (n <= 16), or over those with ``cardinality`` ones."""
    n = len(Q)
    states = ((code >> np.arange(n)) & 1 for code in range(2**n))
    return min(qubo_energy(Q, x) for x in states if cardinality is None or x.sum() == cardinality)


def ising_energy(J: NDArray[Any], h: NDArray[Any], s: NDArray[Any]) -> float:
    """h's + sum_{i<j} J_ij s_i s_j, term by term."""
    n = len(s)
    pairs = (float(J[i, j]) * int(s[i]) * int(s[j]) for i in range(n) for j in range(i))
    return math.fsum([*pairs, *(float(h[i]) * int(s[i]) for i in range(n))])


def local_fields(J: NDArray[Any], b: NDArray[Any], s: NDArray[Any]) -> NDArray[Any]:
    """h = J s + b."""
    return np.array([b[i] + sum(J[i, j] * int(s[j]) for j in range(len(s))) for i in range(len(s))])


def annealed(
    J: NDArray[Any], b: NDArray[Any], s: NDArray[Any], exponentials: NDArray[Any], temperatures: NDArray[Any]
) -> NDArray[Any]:
    """The end of Metropolis sweeps, one for each temperature, of the even spins, then of the odd ones; spin i turns in
    sweep t when dE <= T e_ti."""
    s = s.copy()
    for e, temperature in zip(exponentials, temperatures, strict=True):
        for i in (*range(0, len(s), 2), *range(1, len(s), 2)):
            rise = -2.0 * s[i] * (J[i] @ s + b[i])
            if rise / 2 <= np.float32(0.5) * temperature * e[i]:
                s[i] = -s[i]
    return s
