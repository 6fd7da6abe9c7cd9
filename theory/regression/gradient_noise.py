"""The noise of stochastic gradients: exact second moments of the gradient of a single prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.regression.landscape import MAX_LAYERS, gradient_at_zero, one_layer_gradient
from plumbline.theory.regression.task import RegressionTask, check_task
from plumbline.theory.regression.trace_words import Word, radial_factor, trace_word_mean


@dataclass(frozen=True)
class GradientNoise:
    """Second moments of the per-prompt gradient g.

    Attributes:
        second_moment: E|g|².
        mean_square: |E g|², of the gradient of the population risk.
    """

    second_moment: float
    mean_square: float

    @property
    def variance(self) -> float:
        """E|g − E g|², the noise of a batch of one."""
        return max(self.second_moment - self.mean_square, 0.0)

    def batch(self, size: int) -> float:
        """E|g_B − E g|² of the mean over a batch of independent prompts."""
        return self.variance / checks.integer("size", size, at_least=1)


def gradient_noise(task: RegressionTask, matrix: Any) -> GradientNoise:
    r"""Return the exact second moment of the one-layer gradient of a single prompt, at any preconditioner A.

    .. math:: g = 2 (r^T A x - w^T x)\, r x^T, \quad r = \tfrac1n ∑ y_i x_i,

    .. math:: E|g|² = 4 k_2\, E_W\big[tr(QU)\, tr(R) + 2\, tr(Q K K^T)\big], \quad Q = tr(S) S + 2 S², \\
              R = WΨW + \tfrac{σ²}{n} W, \quad K = A^T R - ΨW, \quad U = A^T R A - A^T WΨ - ΨWA + Ψ

    by Isserlis over x, then over w and the label noise (R, K, U are covariances of r, (u, r), u = A^T r − w given W);
    the average over W is `trace_word_mean`. For Σ = Ψ = I, A = aI, no noise and Gaussian covariates
    E|g|² = 4 (d+2) E[tr(I−aW)² tr W² + 2 tr (I−aW)² W²], a rational number.

    Conditions: the squared error without a factor ½; the query's own label noise is not added to the target, as in
    the published experiments; gradient in A, the d² parameters of the key-query block up to sign.

    Args:
        task: The data distribution; any covariance, weight covariance, label noise and covariate law.
        matrix: A (d, d), symmetric or not, in the convention of `one_step_risk`.

    Returns:
        `GradientNoise`, to float64 rounding.

    Raises:
        ValueError: on a matrix of another shape or with non-finite entries.

    Source:
        Derived here, for the observations of Ahn et al. 2023 (2310.01082) on gradient noise.

    Example:
        >>> noise = gradient_noise(RegressionTask(5, 20), np.zeros((5, 5)))
        >>> round(noise.second_moment, 9), round(noise.mean_square, 9), round(noise.batch(1000), 9)
        (1274.0, 20.0, 1.254)
    """
    check_task(task)
    d = task.dim
    a = checks.array("matrix", matrix, (d, d))
    s, psi, eye = task.covariance_matrix, task.weight_covariance_matrix, np.eye(d)
    noise = task.noise_variance / task.context_length
    q = np.trace(s) * s + 2 * s @ s

    def mean(*words: Word) -> float:
        return trace_word_mean(words, task)

    with checks.float_range("matrix", matrix):
        both, one = a @ q @ a.T, psi @ q @ a.T
        # tr(R) and tr(QU) as sums of words, then 2 tr(Q K Kᵀ); a trace equals that of its transpose.
        spread: list[tuple[float, Word]] = [(1.0, [psi, eye])]
        miss: list[tuple[float, Word]] = [(1.0, [both, psi]), (-2.0, [one]), (float(np.sum(q * psi)), [])]
        cross: list[tuple[float, Word]] = [
            (1.0, [both, psi, eye, psi]), (-2.0, [one, psi, eye]), (1.0, [psi @ q @ psi, eye])
        ]  # fmt: skip
        if noise:
            spread += [(noise, [eye])]
            miss += [(noise, [both])]
            cross += [(2 * noise, [both, psi, eye]), (noise**2, [both, eye]), (-2 * noise, [one, eye])]
        total = sum(2 * factor * mean(word) for factor, word in cross)
        for left, word in miss:
            for right, other in spread:
                total += left * right * (mean(word, other) if word else mean(other))
        second = 4 * radial_factor(task, 2) * total
        return GradientNoise(float(second), float(np.sum(one_layer_gradient(task, a) ** 2)))


def gradient_noise_at_zero(task: RegressionTask, layers: int) -> GradientNoise:
    r"""Return the exact second moment of the gradient of a single prompt, for L layers at zero weights.

    .. math:: E|g|² = 4 L k_2\, E\big[tr(QΨ)\, tr(R) + 2\, tr(Q ΨW² Ψ)\big]

    At zero every layer sees the same gradient −2 (w^T x) r x^T and the value blocks see none: L times one layer. For
    Σ = Ψ = I, no noise, Gaussian covariates 4 L d (d+2)² (n+d+1)/n.

    Args:
        task: The data distribution; any covariance, weight covariance, label noise and covariate law.
        layers: L, from 1 to `MAX_LAYERS`.

    Returns:
        `GradientNoise` over all 2 L d² parameters.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Derived here.

    Example:
        >>> round(gradient_noise_at_zero(RegressionTask(5, 20), 3).second_moment, 9)
        3822.0
    """
    check_task(task)
    layers = checks.integer("layers", layers, at_least=1, at_most=MAX_LAYERS)
    single = gradient_noise(task, np.zeros((task.dim, task.dim)))
    return GradientNoise(layers * single.second_moment, float(np.sum(gradient_at_zero(task, layers) ** 2)))
