"""From one noisy sum to class scores: the estimate that knows how the sum was made and how noisy it is.

The sum is V = sum_i h(y_i) (x) r_i phi_i + noise, with h(y) the class y in the K-1 coordinates of the centred
simplex. Under the working model E[h(y) | phi] = W phi it has mean W M', M = sum_i r_i phi_i phi_i', and covariance
N = s2 sum_i q_i phi_i phi_i' + noise^2 I per class coordinate, s2 = (1 - 1/K)/K. With a prior W_kd ~ N(0, T_d) the
posterior mean is

    W' = T M' (M T M' + N)^-1 V',

averaged over the scales of T by their evidence. Everything here is post-processing of V and of public rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, softmax

Float = NDArray[np.float64]

ENERGIES = (0.1, 0.3, 1.0, 3.0)  # prior share of the label variance that a block explains, in units of s2
CONSTANT_ENERGIES = (0.01, 0.1, 1.0)  # the same for the constant coordinate: how unequal the classes may be
LEAST_WEIGHT = 1e-3  # of a scale in the average, beside the likeliest one's 1
LOGIT_SCALE = 4.0  # d logit / d probability at 1/2
MOST_LOGIT_DIMENSIONS = 20
TEMPERATURES = (0.5, 60.0)
NUGGET = 1e-6


@dataclass(frozen=True)
class Design:
    """The rows behind the sum: phi (m, D); pull r (m,): how much of a row enters the sum; spread q (m,) its variance.

    Known rows entering as r_i phi_i: q = r^2. Reference rows in place of n unknown ones: r = q = n / m.
    """

    phi: Float
    pull: Float
    spread: Float


@dataclass(frozen=True)
class Scores:
    """Class scores: weights (K, D) with probabilities softmax(weights phi)."""

    weights: Float

    def probabilities(self, phi: Float) -> Float:
        return softmax(phi @ self.weights.T, axis=1)


def simplex_basis(n_classes: int) -> Float:
    """(K, K-1): row y is e_y - 1/K in an orthonormal basis; every row has norm sqrt(1 - 1/K)."""
    basis = np.zeros((n_classes, n_classes - 1))
    for k in range(1, n_classes):
        basis[:k, k - 1] = -1
        basis[k, k - 1] = k
        basis[:, k - 1] /= np.sqrt(k * (k + 1))
    return basis


def decode(V: Float, design: Design, noise: float, blocks: NDArray[np.intp], block_energy: Float) -> Scores:
    """V (K-1, D) with noise of standard deviation ``noise`` in every coordinate.

    blocks (D,): 0 for the constant, 1 for the coordinates of the first block, 2 of a second; each has a share of
    explained variance of its own, and with two of them one may have none.
    block_energy (D,): mean square over the pool of the coordinate's whole block, which turns a share of explained
    variance into a prior variance.
    """
    n_classes = len(V) + 1
    basis = simplex_basis(n_classes)
    s2 = (1 - 1 / n_classes) / n_classes
    phi = design.phi
    M = (phi.T * design.pull) @ phi
    N = s2 * ((phi.T * design.spread) @ phi) + (noise**2 + NUGGET) * np.eye(len(M))
    unit_prior = s2 / block_energy
    n_blocks = max(int(blocks.max()), 1)
    levels = ENERGIES if n_blocks == 1 else (0.0, *ENERGIES)
    energies = np.array([e for e in product(CONSTANT_ENERGIES, *[levels] * n_blocks) if any(e[1:])])
    explained = np.stack([(M * (unit_prior * (blocks == b))) @ M.T for b in range(n_blocks + 1)])
    covariance = N + np.tensordot(energies, explained, 1)
    half = np.linalg.cholesky(covariance)
    log_determinant = 2 * np.log(np.diagonal(half, axis1=1, axis2=2)).sum(axis=1)
    evidence = -0.5 * ((n_classes - 1) * log_determinant + (np.linalg.solve(half, V.T) ** 2).sum(axis=(1, 2)))
    weight = np.exp(evidence - evidence.max())
    kept = weight > LEAST_WEIGHT
    energies, weight = energies[kept], weight[kept] / weight[kept].sum()
    priors = weight[:, None] * energies[:, blocks] * unit_prior
    reading = (priors[:, :, None] * (M.T @ np.linalg.inv(covariance[kept]))).sum(axis=0)
    W = V @ reading.T
    if n_classes == 2 and len(M) <= MOST_LOGIT_DIMENSIONS:
        logit_prior = LOGIT_SCALE**2 * np.maximum(weight @ energies, ENERGIES[0] / 2)[blocks] / block_energy
        # for two classes h = +-1/sqrt 2: in units of the sign s = +-1, E[s | phi] = sqrt 2 W phi and logit ~ 2 E[s]
        w = _solve_moments(np.sqrt(2) * V[0], design, np.sqrt(2) * noise, logit_prior, 2 * np.sqrt(2) * W[0])
        return Scores(np.stack([-w / 2, w / 2]))
    echo = (n_classes - 1) * float((reading * N).sum())  # the part of <W, V> that is the sum's own noise seen again
    return Scores(_temperature(basis @ W, design, float((W * V).sum()) - echo) * (basis @ W))


def _solve_moments(u: Float, design: Design, noise: float, prior: Float, w: Float, n_steps: int = 12) -> Float:
    """Two classes: the w of most posterior weight under  u = sum_i r_i phi_i (2 sigmoid(w'phi_i) - 1) + noise.

    Damped Gauss-Newton with prior w ~ N(0, prior), noise covariance sum_i q_i phi_i phi_i' + noise^2 I.
    """
    phi = design.phi
    pulled = (phi * design.pull[:, None]).T
    covariance = (phi.T * design.spread) @ phi + (noise**2 + NUGGET) * np.eye(phi.shape[1])
    precision = np.linalg.inv(covariance)

    def loss(w: Float) -> tuple[float, Float]:
        residual = u - pulled @ (2 * expit(phi @ w) - 1)
        return 0.5 * float(residual @ precision @ residual + (w * w / prior).sum()), residual

    value, residual = loss(w)
    for _ in range(n_steps):
        p = expit(phi @ w)
        jacobian = pulled @ (phi * (2 * p * (1 - p))[:, None])
        curvature = jacobian.T @ precision @ jacobian + np.diag(1 / prior)
        step = np.linalg.solve(curvature, jacobian.T @ (precision @ residual) - w / prior)
        size = 1.0
        while size > 1e-3:
            new_value, new_residual = loss(w + size * step)
            if new_value < value:
                break
            size /= 2
        else:
            return w
        gained, w, value, residual = value - new_value, w + size * step, new_value, new_residual
        if gained < 1e-6:
            break
    return w


def _temperature(weights: Float, design: Design, target: float) -> float:
    """The t with  sum_i r_i <softmax(t F_i), F_i> = target: the likelihood equation of one slope along the scores F."""
    F = design.phi @ weights.T

    def excess(t: float) -> float:
        return float(design.pull @ (softmax(t * F, axis=1) * F).sum(axis=1)) - target

    low, high = TEMPERATURES
    if excess(low) >= 0:
        return low
    return high if excess(high) <= 0 else float(brentq(excess, low, high, rtol=1e-4))
