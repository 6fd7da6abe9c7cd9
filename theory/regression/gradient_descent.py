"""Plain gradient descent with one step size, for any covariance: exact risk and best step."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import comb
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.regression.multi_step import MultiStepOptimum
from plumbline.theory.regression.task import RegressionTask, check_task

MAX_GRADIENT_STEPS = 10
"""Largest number of steps: the number of trace words grows with the partitions of twice the steps."""


def gradient_descent_risk(step_size: float, steps: int, task: RegressionTask) -> float:
    r"""Return the exact risk of L steps of plain gradient descent on (1/2n)|y − Xw|² from w = 0.

    .. math:: R(η) = ∑_{j,k} C(L,j) C(L,k) (-η)^{j+k} E tr(Ψ W^j Σ W^k)
              + \tfrac{σ²}{n} ∑_{j,k ≥ 1} C(L,j) C(L,k) (-η)^{j+k} E tr(Σ W^{j+k-1})

    with W = (1/n) Σ x xᵀ. The word moments are exact integers over a common denominator (Stein recursion), so the
    alternating sum does not cancel.

    Args:
        step_size: η, for the loss with 1/n (the published notebooks' step is η/n).
        steps: L, 1 to `MAX_GRADIENT_STEPS`.
        task: Gaussian covariates; any covariance, weight covariance and noise.

    Returns:
        The risk.

    Raises:
        ValueError: if the covariates are not Gaussian or the arguments are out of range.

    Source:
        Derived here.

    Example:
        >>> round(gradient_descent_risk(0.5, 1, RegressionTask(5, 20)), 6)
        1.625
    """
    eta = Fraction(checks.real("step_size", step_size))
    coefficients = _risk_polynomial(steps, task)
    with checks.float_range("step_size", step_size):
        return float(sum(c * eta**k for k, c in enumerate(coefficients)))


def gradient_descent_optimum(steps: int, task: RegressionTask) -> MultiStepOptimum:
    r"""Return the best single step size of L steps of plain gradient descent, and its risk.

    The minimum over η > 0 of `gradient_descent_risk`, from all real critical points of the polynomial.

    Args:
        steps: L, 1 to `MAX_GRADIENT_STEPS`.
        task: Gaussian covariates; any covariance, weight covariance and noise.

    Returns:
        `MultiStepOptimum` with L equal step sizes η, in the convention A_l = η I.

    Raises:
        ValueError: if the covariates are not Gaussian or the arguments are out of range.

    Source:
        Derived here.

    Example:
        >>> optimum = gradient_descent_optimum(1, RegressionTask(5, 20))
        >>> round(float(optimum.step_sizes[0]), 6), round(optimum.loss, 6)
        (0.769231, 1.153846)
    """
    import mpmath

    coefficients = _risk_polynomial(steps, task)
    # In units of the largest possible step the coefficients are of one size, whatever the units of x.
    unit = 1 / Fraction(float(np.linalg.eigvalsh(task.covariance_matrix)[-1]))
    scaled = [c * unit**k for k, c in enumerate(coefficients)]
    with mpmath.workdps(80):
        slope = [k * mpmath.mpf(c.numerator) / c.denominator for k, c in enumerate(scaled)][1:]
        roots = mpmath.polyroots(slope[::-1], maxsteps=500, extraprec=400)
        real = [mpmath.re(z) for z in roots if abs(mpmath.im(z)) < mpmath.mpf(10) ** -30 * (1 + abs(z))]
        candidates = [Fraction(int(mpmath.floor(z * 2**600)), 2**600) for z in real if z > 0]
    values = [sum(c * z**k for k, c in enumerate(scaled)) for z in candidates]
    loss, best = min(zip(values, candidates, strict=True))
    return MultiStepOptimum(np.full(steps, float(best * unit)), float(loss))


def _risk_polynomial(steps: Any, task: RegressionTask) -> list[Fraction]:
    """Exact coefficients of R(η) in ascending powers."""
    steps = checks.integer("steps", steps, at_least=1, at_most=MAX_GRADIENT_STEPS)
    check_task(task)
    if task.covariate_law != "gaussian":
        raise ValueError(
            f'task.covariate_law must be "gaussian" for exact gradient descent, got {task.covariate_law!r}'
        )
    spectrum, basis = np.linalg.eigh(task.covariance_matrix)
    # The law of W in this basis is invariant under sign flips, so only the diagonal of Ψ matters.
    weights = np.einsum("ji,jk,ki->i", basis, task.weight_covariance_matrix, basis)
    n, noise = task.context_length, Fraction(task.noise_variance)
    lam, psi = [Fraction(float(x)) for x in spectrum], [Fraction(float(x)) for x in weights]
    words = _WordMoments(lam, psi, n)
    result = [Fraction(0)] * (2 * steps + 1)
    for j in range(steps + 1):
        for k in range(steps + 1):
            sign = (-1) ** (j + k) * comb(steps, j) * comb(steps, k)
            result[j + k] += sign * words.psi_word(j, k) / n ** (j + k)
            if noise and j and k:
                result[j + k] += noise / n * sign * words.sigma_word(j + k - 1) / n ** (j + k - 1)
    return result


class _WordMoments:
    """E tr(Ψ S^j Λ S^k) and E tr(Λ S^k) of S ~ Wishart(n, Λ), for commuting diagonal Λ and Ψ.

    Stein's identity removes one S at a time; always the first one after the marker Ψ Λ^a, so that the Λ's it
    leaves behind gather there. A state is the main word Ψ Λ^a S^b (or Ψ Λ^a S^b Λ S^c with b, c ≥ 1) times side
    traces tr S^m, at most one of them tr(Λ S^e). Λ and Ψ are scaled to integers, so every value is exact.
    """

    def __init__(self, lam: list[Fraction], psi: list[Fraction], n: int) -> None:
        self.n = n
        self._lam_unit, ints = _to_integers(lam)
        self._psi_unit, psi_ints = _to_integers(psi)
        self._trace = {
            "psi": cache(lambda a: sum(p * x**a for p, x in zip(psi_ints, ints, strict=True))),
            "one": cache(lambda a: sum(x**a for x in ints)),
        }
        self._moment = cache(self._compute)

    def psi_word(self, j: int, k: int) -> Fraction:
        """E tr(Ψ S^j Λ S^k)."""
        value = self._word("psi", 0, j, k, (), 0)
        return value * self._psi_unit * self._lam_unit ** (j + k + 1)

    def sigma_word(self, k: int) -> Fraction:
        """E tr(Λ S^k)."""
        return self._moment("one", 1, k, 0, (), 0) * self._lam_unit ** (k + 1)

    def _word(self, kind: str, a: int, b: int, c: int, sides: tuple[int, ...], marked: int) -> int:
        """The word Ψ Λ^a S^b Λ S^c, brought to normal form where the inner Λ touches the marker."""
        if b == 0 or c == 0:
            return self._moment(kind, a + 1, b + c, 0, sides, marked)
        return self._moment(kind, a, b, c, sides, marked)

    def _compute(self, kind: str, a: int, b: int, c: int, sides: tuple[int, ...], marked: int) -> int:
        """E of the state; c > 0 marks an inner Λ, ``marked`` = e > 0 a side trace tr(Λ S^e)."""
        if b == 0:  # the main word is spent: a number times the side traces
            value = self._trace[kind](a)
            if marked:
                return value * self._moment("one", 1, marked, 0, sides, 0)
            if sides:
                return value * self._moment("one", 0, sides[-1], 0, sides[:-1], 0)
            return value

        def plain(power: int, rest: tuple[int, ...] = sides, e: int = marked) -> int:
            return self._moment(kind, a + 1, power, 0, rest, e)

        def inner(left: int, right: int, rest: tuple[int, ...] = sides, e: int = marked) -> int:
            return self._word(kind, a + 1, left, right, rest, e)

        def with_side(power: int) -> tuple[int, ...]:
            return tuple(sorted((*sides, power)))

        if c == 0:
            total = (self.n + b - 1) * plain(b - 1)
            total += sum(plain(b - 2 - p, with_side(p + 1)) for p in range(b - 1))
        else:
            total = (self.n + b - 1) * inner(b - 1, c)
            total += sum(inner(b - 2 - p, c, with_side(p + 1)) for p in range(b - 1))
            for p in range(c):
                total += plain(c - 1 - p, e=b + p) + inner(p, b + c - 1 - p)
        for i, m in enumerate(sides):
            rest = sides[:i] + sides[i + 1 :]
            total += 2 * m * (plain(b - 1 + m, rest) if c == 0 else inner(b - 1 + m, c, rest))
        if marked:  # then c == 0: the only inner Λ sits in the side trace
            total += 2 * sum(inner(i, marked - i + b - 1, e=0) for i in range(marked))
        return total


def _to_integers(values: list[Fraction]) -> tuple[Fraction, list[int]]:
    """Return (unit, integers) with values = unit · integers; floats share a power of two."""
    unit = Fraction(1, max(value.denominator for value in values))
    return unit, [int(value / unit) for value in values]
