"""Counting bounds, networks without attention, tails of laws: against constructions, enumeration and quadrature."""

import itertools

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.memorization import (
    bit_upper_bound,
    dimension_upper_bound,
    order_results,
    three_layer_relu_capacity,
    threshold_network_width,
    two_layer_relu_weights,
    two_layer_relu_width,
    unseen_mass,
    zipf_tail,
)
from tests.strategies import seeds, simplex_rows


def relu(x):
    return np.maximum(x, 0)


@given(parameters=st.integers(0, 10**6), outputs=st.integers(1, 1000))
def test_dimension_count(parameters, outputs):
    """The last T with T k ≤ P."""
    count = dimension_upper_bound(parameters, outputs)
    assert count * outputs <= parameters < (count + 1) * outputs


@given(parameters=st.integers(0, 300), bits=st.integers(1, 64), vocab_size=st.integers(2, 300))
def test_bit_count(parameters, bits, vocab_size):
    """The last T with N^T ≤ 2^(bP), in integers."""
    count = bit_upper_bound(parameters, bits, vocab_size)
    assert vocab_size**count <= 2 ** (bits * parameters) < vocab_size ** (count + 1)


def test_dimension_count_of_a_linear_map():
    """P parameters of a linear map to T k numbers reach a set of dimension P: full only up to T = P / k."""
    random = np.random.default_rng(0)
    for contexts in (3, 4, 5):
        reached = np.linalg.matrix_rank(random.normal(size=(contexts * 3, 12)))
        assert (reached == contexts * 3) == (contexts <= dimension_upper_bound(12, 3))


@pytest.mark.parametrize(("points", "dim"), [(1, 1), (1, 3), (5, 2), (6, 3), (7, 3), (9, 1), (12, 5)])
def test_two_layer_relu_width_is_enough(points, dim):
    """The construction: for each d points four units, a difference quotient of ReLU within a slab around them."""
    random = np.random.default_rng(points)
    x, y = random.normal(size=(points, dim)), random.normal(size=points)
    prediction, units = np.zeros(points), 0
    for start in range(0, points, dim):
        own = np.arange(start, min(start + dim, points))
        normal = np.linalg.lstsq(x[own], np.ones(len(own)), rcond=None)[0]  # normal · x = 1 on the own points
        slope = np.linalg.lstsq(x[own], y[own], rcond=None)[0]
        others = np.setdiff1d(np.arange(points), own)
        slab = np.abs(x[others] @ normal - 1).min(initial=1.0) / 2
        step = slab / 2 / max(1e-9, np.abs(x @ slope).max())
        for sign in (1, -1):
            edge = x @ normal - 1 + sign * slab
            prediction += sign * (relu(edge + step * x @ slope) - relu(edge)) / step
            units += 2
    assert units == two_layer_relu_width(points, dim) == 4 * threshold_network_width(points, dim)
    # Rounding of the difference quotients: 1e-16 × units of size 100 / steps of 1e-4 at these fixed points.
    np.testing.assert_allclose(prediction, y, atol=1e-9)


@given(seed=seeds, points=st.integers(1, 12), dim=st.integers(1, 5))
def test_two_layer_relu_weights_are_enough(seed, points, dim):
    """The construction: one direction, a bias before each projection, a triangular system for the output weights."""
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(points, dim)), random.normal(size=points)
    direction = random.normal(size=dim)
    z = np.sort(x @ direction)
    y = y[np.argsort(x @ direction)]
    bias = np.concatenate([[z[0] - 1], (z[1:] + z[:-1]) / 2])
    hidden = relu(z[:, None] - bias)
    assert np.all(np.diag(hidden) > 0)
    assert np.all(hidden[np.triu_indices(points, 1)] == 0)
    assert dim + len(bias) + points == two_layer_relu_weights(points, dim)


@pytest.mark.parametrize(("points", "dim"), [(3, 2), (4, 3), (2, 1), (2, 2)])
def test_threshold_width_of_separable_points(points, dim):
    """n ≤ d + 1 points in general position are separated by one unit for any labels; the bound is 2 at n = d + 1."""
    x = np.random.default_rng(points).normal(size=(points, dim))
    extended = np.concatenate([x, np.ones((points, 1))], axis=1)
    for labels in itertools.product([-1, 1], repeat=points):
        weights = np.linalg.lstsq(extended, np.array(labels), rcond=None)[0]
        assert np.array_equal(np.sign(extended @ weights), labels)
    assert threshold_network_width(points, dim) == (1 if points <= dim else 2)


def test_sizes_of_networks():
    """Numbers by hand."""
    assert [threshold_network_width(n, 20) for n in (1, 20, 21, 2500)] == [1, 1, 2, 125]
    assert two_layer_relu_width(21, 20) == 8
    assert two_layer_relu_weights(7, 3) == 17
    assert [three_layer_relu_capacity(*sizes) for sizes in [(4, 4), (3, 100), (8, 12), (11, 15), (8, 16, 2)]] == [
        4, 0, 24, 24, 16,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("exponent", "rank", "tail"),
    [(1.5, 10, 0.2361983914946878), (2.0, 10, 0.05785419464503466), (2.0, 100, 0.006048975982604929)],
)
def test_zipf_tail_reference(exponent, rank, tail):
    """Values computed independently; the power law with its constant is within 6 % at rank 10."""
    assert zipf_tail(exponent, rank) == pytest.approx(tail, rel=1e-12)
    power = rank ** (1 - exponent) / ((exponent - 1) * float(mpmath.zeta(exponent)))
    assert zipf_tail(exponent, rank) == pytest.approx(power, rel=0.06)


@given(exponent=st.floats(1.05, 30), rank=st.integers(0, 200))
def test_zipf_tail_is_the_rest(exponent, rank):
    """One minus the first terms, in 40 digits."""
    with mpmath.workdps(40):
        first = mpmath.fsum(mpmath.mpf(i) ** -mpmath.mpf(exponent) for i in range(1, rank + 1))
        rest = 1 - first / mpmath.zeta(mpmath.mpf(exponent))
        assert zipf_tail(exponent, rank) == pytest.approx(float(rest), rel=1e-11, abs=1e-30)


@given(law=simplex_rows(1, 4), samples=st.integers(0, 4))
def test_unseen_mass_by_enumeration(law, samples):
    """Sum over all samples of the mass of the tokens that are not in them."""
    p = law[0]
    expected = sum(
        np.prod(p[list(seen)]) * sum(p[i] for i in range(4) if i not in seen)
        for seen in itertools.product(range(4), repeat=samples)
    )
    assert unseen_mass(p, samples) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(
    ("contexts", "samples", "expected"),
    [(2500, 16384, 0.001423109419025094), (4900, 262144, 5.799704222225817e-24), (40000, 65536, 0.1942866796865521),
     (100, 16384, 3.0692218849538605e-72)],
)  # fmt: skip
def test_unseen_contexts_of_the_published_experiments(contexts, samples, expected):
    """(1 − 1/T)^n; in the larger-dimension experiment 19 % of the contexts are never seen."""
    assert unseen_mass(np.full(contexts, 1 / contexts), samples) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("samples", "expected"), [(10, 0.21096621223826928), (100, 0.06883755446924031), (1000, 0.021839772323964772)]
)
def test_unseen_zipf(samples, expected):
    """A Zipf law of exponent 2 on 200,000 types, computed independently."""
    p = 1 / np.arange(1, 200_001) ** 2.0
    assert unseen_mass(p / p.sum(), samples) == pytest.approx(expected, rel=1e-10)


def test_order_results_have_no_number():
    """Words and sources only."""
    results = order_results()
    assert len({(result.quantity, result.source) for result in results}) == len(results)
    for result in results:
        assert all(isinstance(text, str) and text for text in (result.quantity, result.order, result.source))
