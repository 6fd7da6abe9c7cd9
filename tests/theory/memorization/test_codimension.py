"""Codimension one: the entropy form against descents over logits, and certified cells against both."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad, minimize

from plumbline.theory.memorization import (
    cell_bound,
    codimension_one_divergence,
    codimension_one_optimum,
    token_block_bound,
)
from plumbline.theory.memorization.codimension import direction_objective, optimal_tilts, sum_zero_basis
from tests.strategies import generators, simplex_rows


def orthogonal_logits_divergence(row, direction):
    """min_x KL(row ‖ softmax(Y x)), Y a basis of the vectors orthogonal to the direction, by BFGS."""
    basis = np.linalg.svd(direction[None])[2][1:].T

    def objective(x):
        logits = basis @ x
        weights = np.exp(logits - logits.max())
        value = math.log(weights.sum()) + logits.max() - row @ logits + row @ np.log(row)
        return value, basis.T @ (weights / weights.sum() - row)

    return minimize(objective, np.zeros(len(row) - 1), jac=True, method="BFGS", options={"gtol": 1e-10}).fun


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 5), generators())
def test_the_entropy_of_the_tilted_row_is_the_smallest_divergence(size, random):
    """Duality, for each direction, against a descent over the logits."""
    row = random.dirichlet(np.full(size, 3.0)) * 0.99 + 0.01 / size
    direction = sum_zero_basis(size) @ random.normal(size=size - 1)
    expected = orthogonal_logits_divergence(row, direction)
    # 1e-9: the square of the gradient at which BFGS stops, over a curvature of 1e-2 or more.
    assert codimension_one_divergence([row], direction) == pytest.approx(expected, abs=1e-9)


def test_two_tokens_compared():
    """y = (1, −1, 0) demands equal logits: both tokens get the mean probability."""
    table = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    merged = table.copy()
    merged[:, :2] = table[:, :2].mean(axis=1, keepdims=True)
    expected = (table * np.log(table / merged)).sum(axis=1) @ [0.25, 0.75]
    value = codimension_one_divergence(table, [3, -3, 0], prior=[0.25, 0.75])
    assert value == pytest.approx(expected, rel=1e-12)
    assert codimension_one_divergence(table, [-1e-9, 1e-9, 0], prior=[0.25, 0.75]) == pytest.approx(value, rel=1e-12)


def test_zeros_are_taken():
    """The infimum is 0 where the tilt has no room, and the entropy bound log 2 of two merged tokens where it has."""
    assert codimension_one_divergence([[1, 0, 0]], [2, -1, -1]) == pytest.approx(math.log(3))
    assert codimension_one_divergence([[1, 0, 0]], [1, 1, -2]) == 0
    assert codimension_one_divergence([[1, 0, 0]], [1, -1, 0]) == pytest.approx(math.log(2))


def values_on_a_grid(table, prior):
    """The values over directions (cos θ, sin θ) of three tokens, 60 of them."""
    basis = sum_zero_basis(3)
    return [
        codimension_one_divergence(table, basis @ [math.cos(angle), math.sin(angle)], prior=prior)
        for angle in np.linspace(0, math.pi, 60)
    ]


@settings(max_examples=15, deadline=None)
@given(generators(), st.integers(2, 12), st.sampled_from([0.3, 1.0, 2.0]))
def test_three_tokens_are_solved(random, contexts, scale):
    """Certified from below, reached from above, the gap small, and no direction of a grid below."""
    logits = scale * random.normal(size=(contexts, 3))
    table = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    prior = random.dirichlet(np.ones(contexts))
    optimum = codimension_one_optimum(table, prior=prior, starts=6)
    bound = cell_bound(table, prior=prior, tolerance=1e-6)
    assert bound.rigorous
    assert bound.value <= optimum.divergence <= min(values_on_a_grid(table, prior)) + 1e-12
    # The gap of 1e-6 is to a value at a cell's centre, whose tilts may fall short where a probability nearly vanishes.
    assert optimum.divergence - bound.value <= 1e-4 * optimum.divergence + 1e-11
    assert codimension_one_divergence(table, optimum.direction, prior=prior) == pytest.approx(
        optimum.divergence, abs=1e-9
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 4), st.integers(1, 6), st.data())
def test_cells_are_below_every_direction(size, contexts, data):
    """Also for tables with zeros, and for budgets of any size."""
    table = data.draw(simplex_rows(contexts, size))
    cells = data.draw(st.sampled_from([1, 5, 40, 300]))
    bound = cell_bound(table, max_cells=cells).value
    random = data.draw(generators())
    for _ in range(20):
        direction = sum_zero_basis(size) @ random.normal(size=size - 1)
        assert bound <= codimension_one_divergence(table, direction) + 1e-14


def test_four_tokens_are_certified_closely():
    """Triangles: within 1e-3 of what was reached, with a budget of 2000 cells."""
    random = np.random.default_rng(1)
    logits = 2 * random.normal(size=(30, 4))
    table = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    optimum = codimension_one_optimum(table).divergence
    bound = cell_bound(table).value
    assert 0.999 * optimum <= bound <= optimum


def test_blocks_add_up():
    """Blocks by hand: the weighted sum of the conditional tables' cell bounds; they are below the optimum."""
    random = np.random.default_rng(2)
    table, prior = random.dirichlet(np.ones(7), size=20), random.dirichlet(np.ones(20))
    blocks = [[0, 3, 5], [6, 1, 2]]
    expected = 0.0
    for block in blocks:
        masses = prior * table[:, block].sum(axis=1)
        rows = table[:, block] / table[:, block].sum(axis=1, keepdims=True)
        part = cell_bound(rows, prior=masses / masses.sum(), tolerance=1e-2, max_cells=200)
        expected += masses.sum() * part.value
    value = token_block_bound(table, 1, prior=prior, blocks=blocks).value
    assert value == pytest.approx(expected, rel=1e-12)
    chosen = token_block_bound(table, 1, prior=prior)
    assert chosen.value > 0.5 * value
    assert chosen.method == "token blocks"


def test_directions_have_sum_zero():
    """The basis is orthonormal and orthogonal to 1."""
    for size in range(2, 7):
        basis = sum_zero_basis(size)
        np.testing.assert_allclose(basis.T @ basis, np.eye(size - 1), atol=1e-14)
        np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-14)


def test_gradient_over_directions():
    """∂F/∂y = Σ_t ρ_t μ_t log q_t, against finite differences."""
    random = np.random.default_rng(9)
    rows, weights = random.dirichlet(np.full(5, 4.0), size=8), random.dirichlet(np.ones(8))
    objective = direction_objective(rows, weights)
    point = random.normal(size=4)
    # 1e-6: forward differences of step 1e-8.
    assert check_grad(lambda x: objective(x)[0], lambda x: objective(x)[1], point) < 1e-6


def test_newton_finds_the_tilts_in_few_steps():
    """Twelve steps do for nine rows in ten, where halving the bracket alone would leave 2⁻¹² of it."""
    random = np.random.default_rng(10)
    rows = random.dirichlet(np.full(4, 3.0), size=50)
    direction = sum_zero_basis(4) @ random.normal(size=3)
    off = np.abs(optimal_tilts(rows, direction, 12) - optimal_tilts(rows, direction))
    assert np.quantile(off, 0.9) < 1e-10
