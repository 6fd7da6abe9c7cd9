"""The optimal low-rank law: against independent descents, enclosed by bounds, exact where closed forms exist."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad, minimize

from plumbline.theory.memorization import (
    codimension_one_optimum,
    divergence,
    eckart_young_bound,
    geometric_law,
    lookup_table,
    one_dimensional_divergence,
    optimal_low_rank,
    uniform_divergence,
)
from plumbline.theory.memorization.eckart_young import curvature_factor, largest_log_ratio, relative_divergence
from plumbline.theory.memorization.objective import DivergenceObjective, lbfgs
from tests.strategies import generators, ngram_tasks, simplex_rows


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def gaussian_table(random, contexts, size, scale):
    return softmax(scale * random.normal(size=(contexts, size)))


def descents(table, prior, rank, starts, seed=0):
    """The best of plain L-BFGS-B runs over (X, Y) without preconditioning, from random starts."""
    random = np.random.default_rng(seed)
    contexts, size = table.shape

    def objective(flat):
        left, right = flat[: contexts * rank].reshape(contexts, rank), flat[contexts * rank :].reshape(size, rank)
        change = prior[:, None] * (softmax(left @ right.T) - table)
        return divergence(table, left @ right.T, prior=prior), np.concatenate(
            [(change @ right).ravel(), (change.T @ left).ravel()]
        )

    runs = [
        minimize(
            objective, random.normal(size=(contexts + size) * rank), jac=True, method="L-BFGS-B",
            options={"maxiter": 400, "maxfun": 500, "ftol": 1e-12, "gtol": 1e-9},
        ).fun
        for _ in range(starts)
    ]  # fmt: skip
    return min(runs)


@settings(max_examples=25, deadline=None)
@given(generators(), st.integers(1, 5), st.integers(2, 6), st.integers(1, 3), st.booleans())
def test_objective_and_gradient(random, contexts, size, rank, one_chunk):
    """The value is `divergence`, the gradient that of finite differences, whatever the chunks."""
    table, prior = random.dirichlet(np.ones(size), size=contexts), random.dirichlet(np.ones(contexts) * 5)
    objective = DivergenceObjective(table, prior, rank)
    if not one_chunk:
        objective.chunk = 2
    left, right = random.normal(size=(contexts, rank)), random.normal(size=(size, rank))
    vector = objective.pack(left, right)
    assert objective(vector)[0] == pytest.approx(divergence(table, left @ right.T, prior=prior), abs=1e-13)
    # 1e-5: forward differences of step 1e-8 on a function of curvature below a hundred.
    assert check_grad(lambda x: objective(x)[0], lambda x: objective(x)[1], vector) < 1e-5
    np.testing.assert_allclose(objective.unpack(vector)[0], left, atol=1e-12)


def test_lbfgs_on_a_quadratic():
    """It reaches the minimum of an ill-conditioned quadratic, and stops at once at a minimum."""
    scales = np.logspace(0, 4, 30)
    centre = np.arange(30.0)

    def quadratic(x):
        return float(scales @ (x - centre) ** 2) / 2, scales * (x - centre)

    point, value, gradient = lbfgs(quadratic, np.zeros(30), max_iterations=500, tolerance=1e-9)
    # It stops where one step promises less than ε; several such steps may be left.
    assert value < 1e-12
    assert np.abs(gradient).max() < 1e-3
    np.testing.assert_allclose(point, centre, atol=1e-5)
    assert lbfgs(quadratic, centre, max_iterations=5, tolerance=1e-9)[0] is centre
    # Steepest descent would be at 1e2: the condition is 1e4. scipy's L-BFGS-B, memory 20, is at 2e-3.
    assert lbfgs(quadratic, np.zeros(30), max_iterations=180, tolerance=1e-9)[1] < 2e-2


@pytest.mark.parametrize(
    ("contexts", "size", "scale", "rank"), [(12, 6, 1.0, 1), (12, 6, 1.0, 3), (15, 3, 2.0, 1), (10, 5, 0.3, 2)]
)
def test_not_above_independent_descents(contexts, size, scale, rank):
    """No plain descent from four starts goes lower."""
    random = np.random.default_rng(contexts)
    table, prior = gaussian_table(random, contexts, size, scale), random.dirichlet(np.ones(contexts) * 3)
    optimum = optimal_low_rank(table, rank, prior=prior)
    # 1e-9: what a gradient of 1e-9 leaves.
    assert optimum.divergence <= descents(table, prior, rank, 4) + 1e-9
    left, right = optimum.factors
    assert divergence(table, left @ right.T, prior=prior) == pytest.approx(optimum.divergence, abs=1e-12)
    assert 0 < optimum.lower_bound < optimum.divergence
    assert optimum.certificate.value == optimum.lower_bound
    assert optimum.certificate.rigorous
    assert min(optimum.starts) == pytest.approx(optimum.divergence, abs=1e-9)
    assert optimal_low_rank(table, rank, prior=prior).divergence == optimum.divergence


@settings(max_examples=5, deadline=None)
@given(generators(), st.integers(3, 5))
def test_codimension_one_agrees(random, size):
    """Rank N − 2 by logits and by directions."""
    table = gaussian_table(random, 8, size, 1.0)
    optimum = optimal_low_rank(table, size - 2)
    assert optimum.divergence == pytest.approx(codimension_one_optimum(table).divergence, abs=1e-8)


@settings(max_examples=6, deadline=None)
@given(ngram_tasks(max_vocab_size=4, max_context_length=2), st.data())
def test_enclosed_and_monotone(task, data):
    """Every law: bounds in order, also against lower ranks; uniform at rank 0, and 0 from N − 1 on."""
    last = math.inf
    for rank in range(task.vocab_size + 1):
        optimum = optimal_low_rank(task, rank, starts=4)
        assert 0 <= optimum.lower_bound <= optimum.divergence
        assert optimum.lower_bound <= last
        last = min(last, optimum.divergence)
        if rank == 0:
            assert last == pytest.approx(uniform_divergence(task), abs=1e-12)
        if optimum.factors is not None:
            left, right = optimum.factors
            assert (left.shape, right.shape) == ((task.context_count, rank), (task.vocab_size, rank))
            # Rounded up, visibly so for the huge logits of sparse tables; 1e-11 for the circle, whose infimum is 0.
            assert divergence(task, left @ right.T) <= optimum.divergence + 1e-11
    assert last == 0
    noise = data.draw(generators()).normal(size=(2, max(task.context_count, task.vocab_size)))
    logits = np.outer(noise[0, : task.context_count], noise[1, : task.vocab_size])
    assert divergence(task, logits) >= optimal_low_rank(task, 1, starts=2).lower_bound


def test_monotone_in_the_rank():
    """More rank never costs anything, and gains something until rank N − 1."""
    table = gaussian_table(np.random.default_rng(11), 12, 6, 1.0)
    values = [optimal_low_rank(table, rank).divergence for rank in range(6)]
    assert all(later < earlier for earlier, later in itertools.pairwise(values))
    assert values[-1] == 0


def test_closed_forms():
    """Look-up tables, and equal rows merged: rank 0, 1, 2, and the number of different rows."""
    task = lookup_table(6, 2, seed=3)
    masses = np.bincount(task.labels, minlength=6) / 36
    assert optimal_low_rank(task, 0).divergence == pytest.approx(math.log(6))
    line, circle = optimal_low_rank(task, 1), optimal_low_rank(task, 2)
    assert line.divergence == line.lower_bound == one_dimensional_divergence(masses)
    assert line.factors is None
    assert circle.divergence == circle.lower_bound == 0
    assert divergence(task, circle.factors[0] @ circle.factors[1].T) <= 1.01e-12 * 10
    rows = np.random.default_rng(0).dirichlet(np.ones(9), size=3)[[0, 1, 2, 1, 0, 2, 2]]
    exact = optimal_low_rank(rows, 3)
    assert exact.certificate.method == "exact"
    assert divergence(rows, exact.factors[0] @ exact.factors[1].T) < 1e-14
    assert optimal_low_rank(rows, 2).lower_bound > 0


def test_contexts_of_prior_zero_do_not_count():
    """They change neither value nor bound, and their factor is 0."""
    random = np.random.default_rng(6)
    table = gaussian_table(random, 12, 5, 1.0)
    prior = random.dirichlet(np.ones(12))
    more = np.vstack([np.eye(5)[:2], table])
    wide, narrow = (
        optimal_low_rank(more, 2, prior=np.concatenate([[0, 0], prior])),
        optimal_low_rank(table, 2, prior=prior),
    )
    assert wide.divergence == pytest.approx(narrow.divergence, abs=1e-12)
    assert wide.lower_bound == pytest.approx(narrow.lower_bound, rel=1e-9)
    assert not wide.factors[0][:2].any()


def test_splitting_a_context_changes_nothing():
    """Two contexts of one row are one context of their joint prior."""
    random = np.random.default_rng(7)
    table, prior = gaussian_table(random, 9, 6, 1.0), random.dirichlet(np.ones(9))
    split = np.concatenate([prior, prior[:3] / 3])
    split[:3] *= 2 / 3
    twice = optimal_low_rank(np.vstack([table, table[:3]]), 2, prior=split)
    assert twice.divergence == pytest.approx(optimal_low_rank(table, 2, prior=prior).divergence, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 7), st.integers(2, 12), st.integers(1, 4), st.sampled_from([None, 2, 4]), st.data())
def test_singular_values_bound_every_model(size, contexts, rank, group, data):
    """Models near the table, which are the ones that come close: truncated log tables, polished."""
    table = data.draw(simplex_rows(contexts, size))
    random = data.draw(generators())
    prior = random.dirichlet(np.ones(contexts))
    kept = prior > 0
    objective = DivergenceObjective(table[kept], prior[kept] / prior[kept].sum(), rank)
    logs = np.log(np.maximum(table[kept], 1e-3))
    u, s, v = np.linalg.svd(logs - logs.mean(axis=1, keepdims=True), full_matrices=False)
    left = np.pad(u * s, ((0, 0), (0, rank)))[:, :rank]
    right = np.pad(v, ((0, rank), (0, 0)))[:rank].T
    reached = lbfgs(objective, objective.pack(left, right), max_iterations=60, tolerance=1e-9)[1]
    # 1e-14 beside the bound's own allowance: rounding of what was reached.
    assert eckart_young_bound(table, rank, prior=prior, group_size=group).value <= reached + 1e-14
    assert eckart_young_bound(table, rank, prior=prior, upper=max(reached, 0.0)).value <= reached + 1e-14


def test_singular_values_are_nearly_tight_for_small_signals():
    """A ratio above 0.9 at a scale of 0.01, from the metric of the mean and the dual factor."""
    table = gaussian_table(np.random.default_rng(8), 50, 9, 0.01)
    for rank in (0, 1, 4, 7):
        optimum = optimal_low_rank(table, rank, starts=2).divergence
        assert 0.9 * optimum < eckart_young_bound(table, rank).value <= optimum


def test_singular_values_by_hand():
    """The dual factor alone (a reached divergence of 1e9 says nothing), for each metric and number of tokens."""
    random = np.random.default_rng(12)
    table, prior = gaussian_table(random, 6, 4, 0.7), random.dirichlet(np.ones(6))
    envelope = table.min(axis=0)
    expected = 0.0
    for count in (2, 3, 4):
        tokens = np.argsort(-envelope)[:count]
        for metric in (envelope, prior @ table, np.ones(4)):
            m = metric[tokens]
            second = np.diag(m) - np.outer(m, m) / m.sum()
            values, vectors = np.linalg.eigh(second)
            root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
            rows = []
            for weight, row in zip(prior, table[:, tokens], strict=True):
                share = min(row / m)
                x = share * math.sqrt(np.log(row) @ second @ np.log(row)) * max(np.sqrt(m) / row)
                factor = (math.exp(-x) - 1 + x) / x**2
                rows.append(math.sqrt(weight * share * factor) * root @ np.log(row))
            total = np.square(np.linalg.svd(np.array(rows), compute_uv=False)[1:]).sum()
            expected = max(expected, total)
    assert eckart_young_bound(table, 1, prior=prior, upper=1e9).value == pytest.approx(expected, rel=1e-9)


@given(st.floats(1e-6, 0.999), st.floats(1e-9, 300))
def test_largest_log_ratio(probability, kappa):
    """The binary divergence at the ratio found is κ, from above; ratios of likelier tokens are smaller."""
    b = float(largest_log_ratio(np.array(probability), np.array(kappa)))

    def binary(p, b):
        return p * b + (1 - p) * (math.log1p(-p) - math.log1p(-p * math.exp(-b)))

    assert binary(probability, b) >= kappa * (1 - 1e-9) - 1e-15
    assert binary(probability, b) <= kappa * (1 + 1e-6) + 1e-9
    assert float(largest_log_ratio(np.array(min(1.5 * probability, 0.9995)), np.array(kappa))) <= b * (1 + 1e-9) + 1e-9


def test_factors_of_the_bound():
    """φ(x) and κ/(e^κ − 1), by series and far out."""
    for x in (1e-9, 1e-5, 1e-3, 0.7, 5.0):
        series = sum((-x) ** k / math.factorial(k + 2) for k in range(120))
        assert float(curvature_factor(np.array(x))) == pytest.approx(series, rel=1e-6)
        assert float(relative_divergence(np.array(x))) == pytest.approx(x / math.expm1(x), rel=1e-12)
    assert curvature_factor(np.array(0.0)) == 0.5
    assert relative_divergence(np.array([0.0, 1e9])).tolist() == [1.0, 0.0]


def test_published_size():
    """N = 50, 2,500 contexts, d = 10: below every published training run, within a bound on the time."""
    start = time.perf_counter()
    optimum = optimal_low_rank(geometric_law(50, ratio=0.9), 10)
    seconds = time.perf_counter() - start
    # .6937 is uniform, .5170 the best Adam run on such a table; optima of other draws are .4862 and .4867.
    assert 0.484 < optimum.divergence < 0.489
    assert optimum.lower_bound > 3e-3
    # Two to three seconds on a free core; the rest is for busy machines.
    assert seconds < 60
