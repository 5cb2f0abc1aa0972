"""From one noisy sum to class scores: the estimate that knows how the sum was made and how noisy it is.

The sum is V = sum_i h(y_i) (x) r_i phi_i + noise, with h(y) the class y in the K-1 coordinates of the centred
simplex. Under the working model E[h(y) | phi] = W phi it has mean W M', M = sum_i r_i phi_i phi_i', and covariance
N = s2 sum_i q_i phi_i phi_i' + noise^2 I per class coordinate, s2 = (1 - 1/K)/K. With a prior W_kd ~ N(0, T_d) the
posterior mean is

    W' = T M' (M T M' + N)^-1 V',

averaged over the scales of T by their evidence; very unequal classes are rarer beforehand. From there the weights of a
softmax model are sought that explain the sum best, E[h(y) | phi] = basis' softmax(basis W phi), under a prior of the
averaged shape. Everything here is post-processing of V and of public rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

Float = NDArray[np.float64]

ENERGIES = (0.1, 0.3, 1.0, 3.0)  # prior share of the label variance that the map explains, in units of s2
CONSTANT_ENERGIES = (0.01, 0.1, 1.0)  # the same for the constant coordinate: how unequal the classes may be
RARER = 4.0  # each of these than the one before it: else noise on the constant often outvotes few labels
LOGIT_VARIANCE = 10.0  # of a class's logit where the map explains all of the label variance
NUGGET = 1e-6
MOST_STEPS = 30  # of L-BFGS, in coordinates where the curvature at equal probabilities is 1


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

    def sharpened(self, power: float) -> Scores:
        """Scores whose probabilities are these to a power, as probabilities: the likeliest class stays."""
        return Scores(power * self.weights)


def simplex_basis(n_classes: int) -> Float:
    """(K, K-1): row y is e_y - 1/K in an orthonormal basis; every row has norm sqrt(1 - 1/K)."""
    basis = np.zeros((n_classes, n_classes - 1))
    for k in range(1, n_classes):
        basis[:k, k - 1] = -1
        basis[k, k - 1] = k
        basis[:, k - 1] /= np.sqrt(k * (k + 1))
    return basis


def decode(V: Float, design: Design, noise: float, prior: Float) -> Scores:
    """V (K-1, D) with noise of standard deviation ``noise`` in every coordinate.

    prior (D, D): covariance of the weights of one class coordinate that explains a share 1 of the label variance;
    coordinate 0, the constant, is independent of the others and has a share of its own.
    """
    n_classes = len(V) + 1
    s2 = (1 - 1 / n_classes) / n_classes
    phi = design.phi
    M = (phi.T * design.pull) @ phi
    N = s2 * ((phi.T * design.spread) @ phi) + (noise**2 + NUGGET) * np.eye(len(M))
    constant, others = np.zeros_like(prior), np.zeros_like(prior)
    constant[0, 0], others[1:, 1:] = s2 * prior[0, 0], s2 * prior[1:, 1:]
    energies = np.array(list(product(CONSTANT_ENERGIES, ENERGIES)))
    T = np.tensordot(energies, np.stack([constant, others]), 1)
    covariance = N + M @ T @ M.T
    half = np.linalg.cholesky(covariance)
    log_determinant = 2 * np.log(np.diagonal(half, axis1=1, axis2=2)).sum(axis=1)
    evidence = -0.5 * ((n_classes - 1) * log_determinant + (np.linalg.solve(half, V.T) ** 2).sum(axis=(1, 2)))
    weight = softmax(evidence - np.repeat(np.arange(len(CONSTANT_ENERGIES)), len(ENERGIES)) * np.log(RARER))
    W = V @ np.tensordot(weight, T @ M.T @ np.linalg.inv(covariance), 1).T
    logit_prior = LOGIT_VARIANCE * n_classes * np.tensordot(weight, T, 1)
    # d probability / d logit = 1/K where all classes are as likely
    return Scores(simplex_basis(n_classes) @ _solve_moments(V, design, N, logit_prior, n_classes * W))


def _solve_moments(V: Float, design: Design, N: Float, prior: Float, W: Float) -> Float:
    """The W (K-1, D) of most posterior weight under  V = sum_i basis' softmax(basis W phi_i) r_i phi_i' + noise.

    prior (D, D) of a class coordinate of W, noise covariance N (D, D); W is where the search starts. With known rows of
    unit pull and no noise these are the likelihood equations of logistic regression.
    """
    basis = simplex_basis(len(V) + 1)
    whiten = np.linalg.inv(np.linalg.cholesky(N))
    pulled, target = (design.phi * design.pull[:, None]) @ whiten.T, V @ whiten.T
    scale = np.linalg.cholesky(prior)
    slope = pulled.T @ (design.phi @ scale) / len(basis)
    steep = np.linalg.cholesky(np.linalg.inv(slope.T @ slope + np.eye(len(slope))))
    rows = design.phi @ (scale @ steep)

    def loss(u: Float) -> tuple[float, Float]:
        """Half the squared residual and prior distance at W = u steep' scale', and its gradient."""
        u = u.reshape(len(V), -1)
        v = u @ steep.T
        p = softmax(rows @ u.T @ basis.T, axis=1)
        residual = target - (p @ basis).T @ pulled
        pull = pulled @ residual.T @ basis.T
        back = p * (pull - (p * pull).sum(axis=1, keepdims=True))
        gradient = v @ steep - (back @ basis).T @ rows
        return 0.5 * float((residual * residual).sum() + (v * v).sum()), gradient.ravel()

    start = np.linalg.solve(steep, np.linalg.solve(scale, W.T)).T
    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS})
    return np.asarray(found.x.reshape(W.shape) @ (scale @ steep).T)
