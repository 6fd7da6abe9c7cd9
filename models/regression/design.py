"""A small weighted sample of Wishart matrices that stands for the population."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor

from plumbline.models.regression.prompts import sample_wisharts
from plumbline.models.regression.small_matrices import layout
from plumbline.theory import checks
from plumbline.theory.regression.task import RegressionTask, check_task
from plumbline.theory.regression.wishart import spectral_moments

MAX_DEGREE = 40
NEWTON_STEPS = 200


class WishartDesign(NamedTuple):
    """Weighted Wishart matrices.

    Attributes:
        wisharts: W, (m, d, d).
        weights: (m,), adding up to 1; positive, though that of an outlier may be too small for float64.
    """

    wisharts: Tensor
    weights: Tensor


def wishart_design(
    task: RegressionTask, base: int, *, degree: int, seed: int, device: torch.device | str | None = None
) -> WishartDesign:
    r"""Return a fixed weighted sample of W that has the spectral moments of the population.

    W = S^{1/2} V S^{1/2}, where ``base`` draws of V stand with all their images D V D^T under a group of signed
    permutations, so that the weighted mean of every polynomial in V is a multiple of I. A third of the draws is
    stretched, for the sake of rare large matrices. The positive weights are the nearest to the density ratios, in
    relative entropy, for which the spectral moments are those of the population:

    .. math:: ∑ \text{weight} \cdot \tfrac1d tr V^k = \tfrac1d E \, tr V^k, \quad k = 0, …, \text{degree}.

    A scalar algorithm (A_l = a_l S^{-1}, B_l = b_l I) has a risk of degree 2L in V if the value block is zero and of
    degree 3^L - 1 if it is free: on a design of that degree it is exact, with label noise and for any Ψ. For Ψ
    proportional to S^{-1} so is its gradient in every entry of the weights: where the population is stationary at a
    scalar algorithm, the design is.

    Args:
        task: The data distribution, with Gaussian covariates.
        base: Number of independent draws, from 1 up. The sample has base · d · 2^⌈log2 d⌉ matrices.
        degree: Largest spectral moment matched, up to `MAX_DEGREE`. 0: plain draws with equal weights.
        seed: Seed of the draws.
        device: Device of the result.

    Returns:
        `WishartDesign`, float64.

    Raises:
        ValueError: on another law, or if no positive weights on the draws have these moments: raise ``base``.

    Source:
        Derived here.

    Example:
        >>> design = wishart_design(RegressionTask(5, 20), 100, degree=2, seed=0)
        >>> round(float((design.weights * design.wisharts.diagonal(dim1=1, dim2=2).mean(-1)).sum()), 12)
        1.0
    """
    check_task(task)
    if task.covariate_law != "gaussian":
        raise ValueError(f"task must have Gaussian covariates for a design, got {task.covariate_law!r}")
    base = checks.integer("base", base, at_least=1)
    degree = checks.integer("degree", degree, at_least=0, at_most=MAX_DEGREE)
    generator = torch.Generator().manual_seed(checks.integer("seed", seed, at_least=0))
    d = task.dim
    draws = sample_wisharts(replace(task, covariance=None), base, generator=generator).numpy()
    ratios = _stretch(draws, task.context_length) if degree else np.full(base, 1 / base)
    moments = spectral_moments(d, task.context_length, degree + 1)
    weights = _nearest_weights(np.linalg.eigvalsh(draws), moments, ratios)
    if weights is None:
        raise ValueError(
            f"base must be larger for positive weights with moments up to degree {degree} to exist, got {base}"
        )
    images = _images(d)
    sample = (images @ draws[:, None] @ images.swapaxes(1, 2)).reshape(-1, d, d)
    if task.covariance is not None:
        root = np.linalg.cholesky(task.covariance_matrix)
        sample = root @ sample @ root.T
    kernel = layout(d)
    wisharts = kernel.matrices(kernel.stack(torch.as_tensor(sample))).to(device)
    return WishartDesign(wisharts, torch.as_tensor(np.repeat(weights / len(images), len(images))).to(device))


def _stretch(draws: np.ndarray, n: int) -> np.ndarray:
    """Stretch every third draw in place; return the density ratios (base,) of the law to this mixture, adding up to 1.

    High moments live on rare large matrices: without some of them in the sample no weights would have these moments.
    For the law of s V, the density relative to V's is s^(−nd/2) exp((1 − 1/s) n tr V / 2).
    """
    base, d, _ = draws.shape
    stretched = base // 3
    s = 1 + 4 / np.sqrt(n * d)
    draws[:stretched] *= s
    traces = np.trace(draws, axis1=1, axis2=2)
    ratio = np.exp(n / 2 * ((1 - 1 / s) * traces - d * np.log(s)))
    weights = base / (base - stretched + stretched * ratio)
    return weights / weights.sum()


def _images(dim: int) -> np.ndarray:
    """Signed permutations (g, d, d): columns of a Hadamard matrix times cyclic shifts.

    The signs are orthogonal, so that their mean kills every off-diagonal entry; the shifts make the diagonal equal.
    """
    order = 1 << (dim - 1).bit_length()
    signs = hadamard(order)[:, :dim].astype(float)
    shifts = np.stack([np.roll(np.eye(dim), shift, axis=0) for shift in range(dim)])
    return (shifts[:, None] * signs[:, None, :]).reshape(-1, dim, dim)


def _nearest_weights(eigenvalues: np.ndarray, moments: list[Fraction], prior: np.ndarray) -> np.ndarray | None:
    """Weights (base,) with these spectral moments, nearest to the prior in relative entropy; ``None`` without any.

    They are proportional to prior · exp(λ·φ), φ_k = (1/d) tr p_k(V), where λ minimises the convex
    log ∑ prior exp λ·(φ - Eφ).
    """
    base = len(eigenvalues)
    if len(moments) == 1:
        return prior
    if base < len(moments):
        return None
    off = _features(eigenvalues, moments)
    # Scaled to an orthonormal basis of the spread of the features, Newton's method starts at Hessian 1.
    _, size, axes = np.linalg.svd(np.sqrt(prior)[:, None] * (off - prior @ off), full_matrices=False)
    off = off @ (axes.T / size)

    def tilted(tilt: np.ndarray) -> tuple[float, np.ndarray]:
        exponents = off @ tilt
        top = exponents.max()
        raw = prior * np.exp(exponents - top)
        return float(top + np.log(raw.sum())), raw / raw.sum()

    tilt = np.zeros(off.shape[1])
    value, weights = tilted(tilt)
    before = np.inf
    for _ in range(NEWTON_STEPS):
        residual = weights @ off
        worst = np.abs(residual).max()
        # Each last step squares the error, until rounding takes over.
        if worst < 1e-10 and worst >= before / 4:  # equal where both are 0
            return weights
        before = worst
        # The relative entropy of weights to the prior is at most -log(its least), which bounds the value from below.
        if value < np.log(prior.min()):
            return None
        spread = (off * weights[:, None]).T @ off - np.outer(residual, residual)
        step = np.linalg.lstsq(spread, -residual)[0]
        length, slope = 1.0, step @ residual
        while tilted(tilt + length * step)[0] > value + 1e-4 * length * slope + 1e-14 and length > 1e-9:
            length /= 2
        tilt = tilt + length * step
        value, weights = tilted(tilt)
    return None


def _features(eigenvalues: np.ndarray, moments: list[Fraction]) -> np.ndarray:
    """(base, degree): (1/d) tr p_k(V) minus its population mean, k = 1, …, degree.

    p_k are the orthonormal polynomials of the sample's spectrum, by the Stieltjes procedure: well scaled where powers
    are not. Their population means are sums of large alternating terms, and taken in rational arithmetic.
    """
    degree = len(moments) - 1
    off = np.empty((len(eigenvalues), degree))
    before, now, beta = np.zeros_like(eigenvalues), np.ones_like(eigenvalues), 0.0
    exact_before, exact_now = [Fraction(0)], [Fraction(1)]
    for k in range(degree):
        alpha = float((eigenvalues * now**2).mean())
        after = (eigenvalues - alpha) * now - beta * before
        exact = [Fraction(0), *exact_now]
        for lower, coefficient in ((exact_now, alpha), (exact_before, beta)):
            for power, entry in enumerate(lower):
                exact[power] -= Fraction(coefficient) * entry
        beta = float((after**2).mean() ** 0.5)
        before, now = now, after / beta
        exact_before, exact_now = exact_now, [entry / Fraction(beta) for entry in exact]
        mean = sum(c * m for c, m in zip(exact_now, moments, strict=False))
        off[:, k] = now.mean(1) - float(mean)
    return off
