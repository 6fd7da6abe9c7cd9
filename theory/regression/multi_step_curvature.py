"""The curvature of the multi-step optimum: the exact Hessian over key-query and value blocks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.regression.curvature import Spectrum
from plumbline.theory.regression.noisy import MAX_NOISY_STEPS, noisy_multi_step_optimum
from plumbline.theory.regression.one_step import square_root
from plumbline.theory.regression.task import RegressionTask, check_task
from plumbline.theory.regression.wishart import wishart_moment

ISOTROPY_TOLERANCE = 1e-8
"""Largest relative spread of the eigenvalues of ΨΣ taken for rounding."""


@dataclass(frozen=True, eq=False)
class MultiStepHessian:
    r"""The Hessian at A_l = a_l I, B_l = 0 in whitened coordinates, by parts of the matrices.

    A direction is 2L matrices X = (B_1 … B_L, A_1 … A_L) of size (d, d), each the sum of a multiple of I (part 0), a
    symmetric traceless (part +) and an antisymmetric matrix (part −). Rotations leave the risk, so that

    .. math:: D²R[X, X] = ∑_{π ∈ \{0, +, -\}} ∑_{ij} H^π_{ij} ⟨X_i^π, X_j^π⟩.

    Whitened coordinates are A = Σ^{1/2} A_orig Σ^{1/2} and B = Σ^{-1/2} B_orig Σ^{1/2}.

    Attributes:
        step_sizes: a_1 … a_L in layer order.
        dim: d.
        gradient: g (2L,), DR[X] = Σ g_i tr X_i. At the optimum its second half is zero, and the first is not from two
            layers on: a free value block leads down from there.
        trace: H⁰ (2L, 2L), which acts on 1 dimension of matrices. The order is B_1 … B_L, A_1 … A_L in all three.
        symmetric: H⁺ (2L, 2L), on (d−1)(d+2)/2 dimensions (zeros at d = 1).
        antisymmetric: H⁻ (2L, 2L), on d(d−1)/2 dimensions (zeros at d = 1).
    """

    step_sizes: np.ndarray
    dim: int
    gradient: np.ndarray
    trace: np.ndarray
    symmetric: np.ndarray
    antisymmetric: np.ndarray

    @property
    def layers(self) -> int:
        """L."""
        return len(self.step_sizes)

    @property
    def parts(self) -> tuple[tuple[np.ndarray, int], ...]:
        """The blocks with their multiplicities: trace, symmetric, antisymmetric."""
        d = self.dim
        return (self.trace, 1), (self.symmetric, (d - 1) * (d + 2) // 2), (self.antisymmetric, d * (d - 1) // 2)

    @property
    def spectrum(self) -> Spectrum:
        """All eigenvalues, ascending, with multiplicity; the multiplicities add up to 2 L d²."""
        pairs = [(np.linalg.eigvalsh(block), count) for block, count in self.parts if count]
        values = np.concatenate([values for values, _ in pairs])
        counts = np.concatenate([np.full(len(values), count) for values, count in pairs])
        order = np.argsort(values, kind="stable")
        return Spectrum(values[order], counts[order])

    @property
    def diagonal(self) -> np.ndarray:
        """Second derivatives by single entries, (2, L, d, d): first the value blocks, then the A."""
        d = self.dim
        zero, plus, minus = (block.diagonal() for block, _ in self.parts)
        same = zero / d + (1 - 1 / d) * plus
        off = (plus + minus) / 2
        eye = np.eye(d)
        result: np.ndarray = np.multiply.outer(same, eye) + np.multiply.outer(off, 1 - eye)
        return result.reshape(2, self.layers, d, d)

    def matrix(self, covariance: Any = None) -> np.ndarray:
        """The Hessian written out, (2 L d², 2 L d²), entries in the order of ``diagonal.reshape(-1)``.

        Args:
            covariance: Σ (d, d) for the Hessian in the coordinates of the task; ``None`` leaves them whitened.
        """
        d = self.dim
        eye = np.eye(d * d)
        transpose = eye.reshape(d, d, d, d).swapaxes(0, 1).reshape(d * d, d * d)
        trace = np.outer(np.eye(d), np.eye(d)) / d
        projectors = trace, (eye + transpose) / 2 - trace, (eye - transpose) / 2
        result = sum(np.kron(block, projector) for (block, _), projector in zip(self.parts, projectors, strict=True))
        if covariance is None:
            return np.asarray(result)
        root = square_root(checks.positive_definite("covariance", covariance, d))
        value, key_query = np.kron(np.linalg.inv(root), root), np.kron(root, root)
        layers = np.eye(self.layers)
        frame = np.kron(np.diag([1.0, 0.0]), np.kron(layers, value)) + np.kron(
            np.diag([0.0, 1.0]), np.kron(layers, key_query)
        )
        return np.asarray(frame.T @ result @ frame)


def multi_step_hessian(task: RegressionTask, layers: int, *, step_sizes: Any = None) -> MultiStepHessian:
    r"""Return the Hessian of the exact population risk at the multi-step optimum, value blocks included.

    With c = tr(ΨΣ)/d, s = σ²/(cn), whitened W = V and M_l = S_l^T A_l S_l,

    .. math:: R = c\,E\,tr(CC^T) + c s\,E\,tr(V D D^T), \quad C = I + VD = ∏_l (I - V M_l), \quad
              S_{l+1} = (I - B_l S_l V S_l^T A_l) S_l.

    Every second-order term is E tr(F(V) X G(V) Y) with polynomials F, G. Over rotations of V the map X ↦ F X G is a
    multiple of the identity on each part of X,

    .. math:: E \tfrac{tr FG}{d}, \quad E\frac{(tr F\,tr G + tr FG)/2 - tr FG/d}{(d-1)(d+2)/2}, \quad
              E\frac{(tr F\,tr G - tr FG)/2}{d(d-1)/2}

    on multiples of I, symmetric traceless and antisymmetric matrices, and exact mixed Wishart moments
    E tr V^a tr V^b finish it. All sums are exact rationals in the float step sizes, rounded once.

    Conditions: Gaussian covariates and Ψ proportional to Σ^{-1}. The value block of the last layer never matters: its
    d² parameters have no curvature. The order of the layers matters for the value blocks. The multi-step optimum is
    the best with B = 0, and there the risk is stationary in the A_l only: see `MultiStepHessian.gradient`. The whole
    Hessian need not be positive semidefinite; without noise its block in the A_l is positive definite wherever it was
    computed. With so much noise that step sizes merge (`NoisyMultiStepOptimum.attained` is false) H⁻ can have a
    negative eigenvalue there: matrices a I + b J with J antisymmetric stand for pairs of complex step sizes, and do
    better than any multiples of Σ^{-1} (d = 2, n = 50, σ² = 5, three layers).

    Args:
        task: The data distribution; label noise is allowed.
        layers: L, from 1 to `MAX_NOISY_STEPS`.
        step_sizes: a_1 … a_L in layer order, any real numbers, for the Hessian at another scalar point or another
            order; ``None`` is the optimum, ascending.

    Returns:
        `MultiStepHessian`, in whitened coordinates.

    Raises:
        ValueError: on arguments outside these ranges, another covariate law, or Ψ not proportional to Σ^{-1}.

    Source:
        Derived here.

    Example:
        >>> hessian = multi_step_hessian(RegressionTask(5, 20), 3)
        >>> hessian.spectrum.values[[0, -1]].round(4).tolist(), hessian.spectrum.size
        ([-0.1529, 2.7918], 150)
    """
    check_task(task)
    layers = checks.integer("layers", layers, at_least=1, at_most=MAX_NOISY_STEPS)
    scale = _signal_per_dimension(task)
    noise = task.noise_variance / scale
    d, n = task.dim, task.context_length
    if step_sizes is None:
        sizes = noisy_multi_step_optimum(layers, d, n, noise).step_sizes
    else:
        sizes = checks.array("step_sizes", step_sizes, (layers,))
    with checks.float_range("step_sizes", step_sizes):
        gradient, *blocks = [scale * part for part in _derivatives(sizes, d, n, Fraction(noise) / n)]
    return MultiStepHessian(sizes, d, gradient, *blocks)


def _signal_per_dimension(task: RegressionTask) -> float:
    """c with Ψ = c Σ^{-1}, or ValueError."""
    if task.covariate_law != "gaussian":
        raise ValueError(f"task.covariate_law must be 'gaussian', got {task.covariate_law!r}")
    root = square_root(task.covariance_matrix)
    theta = np.linalg.eigvalsh(root @ task.weight_covariance_matrix @ root)
    if theta[-1] - theta[0] > ISOTROPY_TOLERANCE * theta[-1]:
        raise ValueError(
            "task.weight_covariance must be proportional to the inverse of task.covariance, got eigenvalues of their "
            f"product {theta}"
        )
    return float(theta.mean())


class _Sums:
    """Σ coefficients of tr(F X_i G Y_j), for each (i, j, sign of transposition): arrays over the powers (F, G).

    On antisymmetric matrices every transposition changes the sign, and tr(XY) = −⟨X, Y⟩.
    """

    def __init__(self, degree: int) -> None:
        self.degree = degree
        self.tables: dict[tuple[int, int, int], np.ndarray] = defaultdict(
            lambda: np.zeros((degree + 1, degree + 1), dtype=object)
        )

    def add(self, f: np.ndarray, x: tuple[int, int], g: np.ndarray, y: tuple[int, int]) -> None:
        """Add tr(F X G Y); a letter is (parameter, 1 if transposed)."""
        table = self.tables[x[0], y[0], (x[1] + y[1] + 1) % 2]
        table[: len(f), : len(g)] += np.multiply.outer(f, g)


def _derivatives(sizes: np.ndarray, d: int, n: int, noise_share: Fraction) -> list[np.ndarray]:
    """g, H⁰, H⁺, H⁻ for c = 1.

    Step sizes are integers times 2^−shift. With V = 2^shift U every V comes with a step size, or with an A whose unit
    becomes 2^−shift, so that all coefficients are integers.
    """
    exact = [Fraction(float(a)) for a in sizes]
    unit = max(a.denominator for a in exact)
    steps = [int(a * unit) for a in exact]
    layers = len(steps)
    # As the unit of A is 1/unit, entries of H with an A carry a factor `unit` each.
    units = np.array([1] * layers + [unit] * layers, dtype=object)
    gradient = np.zeros(2 * layers, dtype=object)
    total = [np.zeros((2 * layers, 2 * layers), dtype=object) for _ in range(3)]
    for noisy in (False, True):
        share = noise_share / unit if noisy else Fraction(1)
        if share:
            first, second = _expansion(steps, noisy)
            gradient += share * _first_average(first, d, n, unit)
            for part, new in zip(total, _average(second, d, n, unit, 2 * layers), strict=True):
                part += share * new
    hessians = [((part + part.T) * np.multiply.outer(units, units)).astype(float) for part in total]
    return [(gradient * units).astype(float), *hessians]


def _first_average(polynomials: list[np.ndarray], d: int, n: int, unit: int) -> np.ndarray:
    """(1/d) E tr F(U) of each, U = S/(n unit)."""
    return np.array([
        sum((c * Fraction(wishart_moment(k, d, n), (n * unit) ** k) for k, c in enumerate(p)), Fraction(0)) / d
        for p in polynomials
    ])  # fmt: skip


def _average(sums: _Sums, d: int, n: int, unit: int, size: int) -> list[np.ndarray]:
    """The quadratic forms on the three parts, from E tr U^a tr U^b and E tr U^{a+b}, U = S/(n unit)."""
    top = sums.degree
    index = range(top + 1)
    separate, joint = (np.zeros((top + 1, top + 1), dtype=object) for _ in range(2))
    for a in index:
        for b in index:
            if a + b <= top:
                common = (n * unit) ** (top - a - b)
                separate[a, b] = int(wishart_moment([a, b], d, n)) * common
                joint[a, b] = int(wishart_moment(a + b, d, n)) * common
    symmetric, antisymmetric = (d - 1) * (d + 2) // 2, d * (d - 1) // 2
    result = [np.full((size, size), Fraction(0), dtype=object) for _ in range(3)]
    for (i, j, turned), table in sums.tables.items():
        apart, together = (Fraction(int((table * m).sum()), (n * unit) ** top) for m in (separate, joint))
        result[0][i, j] += together / d
        if d > 1:
            result[1][i, j] += ((apart + together) / 2 - together / d) / symmetric
            result[2][i, j] += (-1) ** turned * (apart - together) / 2 / antisymmetric
    return result


def _expansion(steps: list[int], noisy: bool) -> tuple[list[np.ndarray], _Sums]:
    """The terms of first order (F of tr F X_i) and second order of tr(CCᵀ) or of tr(V D Dᵀ).

    D = −Σ_l p_{<l} M_l p_{>l} + Σ_{l<m} p_{<l} M_l p_{lm} V M_m p_{>m} − ⋯ with p = ∏ (1 − a V), and to second order
    tr(CCᵀ) = tr(V² D¹D¹ᵀ) + 2 tr(p V D²), tr(V D Dᵀ) = tr(V D¹D¹ᵀ) + 2 tr((p − 1) D²). Here V stands for U.
    """
    layers = len(steps)
    factors = [np.array([1, -a], dtype=object) for a in steps]

    def polynomial(low: int, high: int) -> np.ndarray:
        return _product(*factors[low:high])

    whole = polynomial(0, layers)
    first_weight = np.array([0, 1] if noisy else [0, 0, 1], dtype=object)
    second_weight = np.array([0, *whole[1:]] if noisy else [0, *whole], dtype=object)  # p − 1 or p V
    sums = _Sums(2 * layers + 2)
    # D¹, words F X G: M¹_l = α_l − a_l Σ_{j<l} a_j (β_j V + V β_jᵀ).
    changes = [_layer_change(steps, layer) for layer in range(layers)]
    first = [
        (_product(polynomial(0, layer), f), x, _product(g, polynomial(layer + 1, layers)))
        for layer in range(layers)
        for f, x, g in changes[layer]
    ]
    slopes = [np.zeros(2 * layers + 3, dtype=object) for _ in range(2 * layers)]
    for f, x, g in first:
        slope = _product(second_weight, f, g)
        slopes[x[0]][: len(slope)] -= 2 * slope
        weighted = _product(first_weight, f)
        for other_f, (other, turned), other_g in first:  # tr(F X G G' Y'ᵀ F')
            sums.add(_product(other_f, weighted), x, _product(g, other_g), (other, 1 - turned))
    for layer in range(layers):
        outer = _product(second_weight, polynomial(0, layer), polynomial(layer + 1, layers))
        for scale, f, x, g, y in _layer_second_change(steps, layer):
            sums.add(-2 * scale * _product(outer, f), x, g, y)
        for later in range(layer + 1, layers):
            ends = _product(second_weight, polynomial(0, layer), polynomial(later + 1, layers))
            between = _product(polynomial(layer + 1, later), _V)
            for f, x, g in changes[layer]:
                for other_f, y, other_g in changes[later]:
                    sums.add(2 * _product(other_g, ends, f), x, _product(g, between, other_f), y)
    return slopes, sums


_ONE, _V = np.array([1], dtype=object), np.array([0, 1], dtype=object)
_V2 = np.array([0, 0, 1], dtype=object)


def _layer_change(steps: list[int], layer: int) -> list[tuple[np.ndarray, tuple[int, int], np.ndarray]]:
    """M¹_l as words F X G."""
    layers, a = len(steps), steps[layer]
    words = [(_ONE, (layers + layer, 0), _ONE)]
    for j in range(layer):
        words += [(-a * steps[j] * _ONE, (j, 0), _V), (-a * steps[j] * _V, (j, 1), _ONE)]
    return words


def _layer_second_change(
    steps: list[int], layer: int
) -> list[tuple[int, np.ndarray, tuple[int, int], np.ndarray, tuple[int, int]]]:
    """M²_l inside tr(h M²), h a polynomial, as words (scale, F, X, G, Y) of tr(h F X G Y).

    M² = S¹ᵀ α + α S¹ + a (S² + S²ᵀ + S¹ᵀ S¹), S¹_l = −Σ_{j<l} a_j β_j V, and
    S²_l = −Σ_{j<l} β_j (a_j S¹_j V + a_j V S¹_jᵀ + V α_j + a_j V S¹_j); S² and its transpose count the same.
    """
    layers, a = len(steps), steps[layer]
    alpha = layers + layer
    words = []
    for j in range(layer):
        b = steps[j]
        words += [(-b, _V, (j, 1), _ONE, (alpha, 0)), (-b, _V, (alpha, 0), _ONE, (j, 0))]
        words += [(a * b * steps[i], _V2, (j, 1), _ONE, (i, 0)) for i in range(layer)]
        words.append((-2 * a, _ONE, (j, 0), _V, (layers + j, 0)))
        for i in range(j):
            scale = 2 * a * b * steps[i]
            words += [
                (scale, _V2, (j, 0), _ONE, (i, 0)),
                (scale, _ONE, (j, 0), _V2, (i, 1)),
                (scale, _V, (j, 0), _V, (i, 0)),
            ]
    return words


def _product(*polynomials: np.ndarray) -> np.ndarray:
    """Product of polynomials with integer coefficients, ascending."""
    result = _ONE
    for p in polynomials:
        new = np.zeros(len(result) + len(p) - 1, dtype=object)
        for power, coefficient in enumerate(p):
            new[power : power + len(result)] += coefficient * result
        result = new
    return result
