"""Degrees of gradients from the growth of the gradient itself, and the tail of a known product."""

import math

import numpy as np
import pytest

from plumbline.theory.regression import gradient_degree, tail_exponent


def largest_gradient(scale, layers, *, at_zero, value, law, seed):
    """Largest gradient entry of one prompt whose Gaussians are ``scale`` times a fixed draw, at fixed weights.

    Token by token, derivatives by a complex step (exact for polynomials). Extended range: powers up to scale^56.
    """
    d, n = 2, 3
    rng = np.random.default_rng(seed)
    x, query, w = rng.normal(size=(n, d)), rng.normal(size=d), rng.normal(size=d)
    noise = rng.normal(size=n)
    if law == "sphere":
        x, query = x / np.linalg.norm(x, axis=1, keepdims=True), query / np.linalg.norm(query)
    else:
        x, query = scale * x, scale * query
    w, noise = scale * w, scale * noise
    weights = rng.normal(size=(2, layers, d, d))
    if at_zero:
        weights[:] = 0
    elif value != "free":
        weights[0] = 0
    trained = range(1, 2) if value == "absent" else range(2)
    largest = 0.0
    for block in trained:
        for index in np.ndindex(layers, d, d):
            moved = weights.astype(complex)
            step = 1e-30
            moved[block][index] += 1j * step
            z = np.zeros((d + 1, n + 1), dtype=complex)
            z[:d, :n], z[d, :n], z[:d, n] = x.T, x @ w + noise, query
            mask = np.diag([1.0] * n + [0.0])
            for b, k in zip(*moved, strict=True):
                p, q = np.zeros((2, d + 1, d + 1), dtype=complex)
                p[:d, :d], p[d, d], q[:d, :d] = b, 1, -k
                z = z + p @ z @ mask @ (z.T @ q @ z) / n
            error = -z[d, n] - w @ query
            largest = max(largest, abs((error**2).imag / step))
    return largest


CASES = [
    (layers, at_zero, value, law)
    for layers in (1, 2, 3)
    for at_zero in (False, True)
    for value in ("absent", "zero", "free")
    for law in ("gaussian", "sphere")
]


@pytest.mark.parametrize(("layers", "at_zero", "value", "law"), CASES)
def test_degree_is_the_growth_of_the_gradient(layers, at_zero, value, law):
    """Gaussians 2 t against t: the gradient grows by 2^degree for large t."""
    # Large enough for the leading term, and 56 powers of it in float64.
    t = 1e3 if value != "free" or layers < 3 else 300.0
    small, large = (
        largest_gradient(size, layers, at_zero=at_zero, value=value, law=law, seed=layers) for size in (t, 2 * t)
    )
    degree = gradient_degree(layers, at_zero=at_zero, value=value, covariate_law=law)
    assert math.log2(large / small) == pytest.approx(degree, abs=0.01)


def test_table():
    """The degrees as stated; a gamma law counts as the Gaussian one."""
    assert [gradient_degree(layers) for layers in (1, 2, 3)] == [8, 12, 16]
    assert [gradient_degree(layers, value="zero") for layers in (1, 2, 3)] == [8, 14, 18]
    assert [gradient_degree(layers, value="free") for layers in (1, 2, 3)] == [8, 20, 56]
    assert gradient_degree(5, at_zero=True, value="free", covariate_law="gamma") == 6
    assert gradient_degree(2, covariate_law="gamma") == 12
    assert gradient_degree(4, value="free", covariate_law="sphere") == 2


def test_exponent_is_two_over_the_degree():
    """1/3 at zero, 1/4 for one layer, 1 on the sphere."""
    assert tail_exponent(3, at_zero=True) == pytest.approx(1 / 3, rel=1e-15)
    assert tail_exponent(1) == 0.25
    assert tail_exponent(2, value="free") == 0.1
    assert tail_exponent(2, covariate_law="sphere") == 1.0


def test_exponent_of_a_sampled_tail():
    """d = n = 1 at zero: g = 2 w² x² x_q², and −log P grows with the exponent 1/3 (slope of its logarithm)."""
    rng = np.random.default_rng(0)
    g = 2 * np.prod(rng.normal(size=(3, 4_000_000)) ** 2, axis=0)
    g.sort()
    # −log P between e^-7 and e^-11; the exponent is approached from below by slowly falling corrections.
    levels = np.array([7.0, 8, 9, 10, 11])
    thresholds = g[(len(g) * (1 - np.exp(-levels))).astype(int)]
    slope = np.polyfit(np.log(thresholds), np.log(levels), 1)[0]
    assert slope == pytest.approx(tail_exponent(1, at_zero=True), abs=0.06)
    assert abs(slope - 2 / 4) > 0.1
