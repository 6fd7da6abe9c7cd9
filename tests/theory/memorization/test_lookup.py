"""Deterministic and nearly deterministic tables: constructions on the circle and the line, and their bounds."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.memorization import (
    circle_cosines,
    circle_divergence,
    circle_scale,
    divergence,
    lookup_divergence,
    noisy_lookup_bound,
    one_dimensional_divergence,
    published_noisy_lookup_bound,
)
from tests.strategies import generators, simplex_rows


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        # (N, λ, KL) from a separate implementation
        (3, 5.0, 0.0011055573864534683),
        (10, 50.0, 0.00014251342413489627),
        (50, 1000.0, 0.0007521854756952787),
        (50, 2000.0, 2.8310433508459846e-07),
    ],
)
def test_circle_divergence_is_that_of_its_logits(size, scale, expected):
    """Against a reference, 50-digit arithmetic, and the logits themselves."""
    value = circle_divergence(scale, size)
    assert value == pytest.approx(expected, rel=1e-12)
    with mpmath.workdps(50):
        terms = [mpmath.exp(-scale * (1 - mpmath.cos(2 * mpmath.pi * k / size))) for k in range(size)]
        # 1e-11: an exponent of 2000 · 0.008 carries 16 ε, more where the gap itself is rounded.
        assert value == pytest.approx(float(mpmath.log(mpmath.fsum(terms))), rel=1e-11)
    points = np.exp(2j * math.pi * np.arange(size) / size)
    logits = scale * (points[:, None] * points.conj()).real
    # 1e-12: logits of 2000 carry 2000 ε.
    assert divergence(np.eye(size), logits) == pytest.approx(value, abs=1e-12)


@given(st.integers(2, 60), st.floats(1e-12, 1.0))
def test_circle_scale_inverts_the_divergence(size, fraction):
    """The scale reaches the divergence, and the closed sufficient scale is not smaller."""
    target = fraction * math.log(size)
    scale = circle_scale(target, size)
    # 1e-9: the divergence changes by λ(1 − cos) < 40 times the relative change 1e-13 of the scale, or less.
    assert circle_divergence(scale, size) == pytest.approx(target, rel=1e-9)
    enough = math.log((size - 1) / math.expm1(target)) if fraction < 1 else 0.0
    assert scale <= enough / (1 - math.cos(2 * math.pi / size)) * (1 + 1e-9) + 1e-9


def line_infimum(masses):
    """Σ q_i log(min of one plus the tokens beyond i) minimised over all orders of the tokens on a line."""
    n = len(masses)
    return min(
        sum(masses[token] * math.log(min(k + 1, n - k)) for k, token in enumerate(order))
        for order in itertools.permutations(range(n))
    )


@given(st.integers(1, 6), st.data())
def test_one_dimension_is_the_best_order_on_a_line(size, data):
    """Sorting gives the smallest loss among all orders."""
    masses = data.draw(simplex_rows(1, size))[0]
    assert one_dimensional_divergence(masses) == pytest.approx(line_infimum(masses), abs=1e-12)


@pytest.mark.parametrize("size", [3, 4, 7])
def test_one_dimension_is_approached_by_growing_gaps(size):
    """Tokens on a line with gaps that grow from both ends inwards, in 60 digits: an excess below 1e-6."""
    growth = mpmath.mpf(10) ** 9
    with mpmath.workdps(80):
        # level ℓ of either side is at ±(big − Σ_{j<ℓ} growth^j)
        levels = (size + 1) // 2
        depth = [mpmath.fsum(growth**j for j in range(level)) for level in range(levels + 1)]
        radius = 2 * depth[levels]
        places = [(radius - depth[r // 2]) * (1 if r % 2 == 0 else -1) for r in range(size)]
        total = mpmath.mpf(0)
        for r, place in enumerate(places):
            slope = (1 if place > 0 else -1) * 40 / growth ** (r // 2)
            total += mpmath.log(mpmath.fsum(mpmath.exp(slope * (other - place)) for other in places))
        reached = float(total / size)
    expected = one_dimensional_divergence(np.full(size, 1 / size))
    # e^{-40} from the tokens inside and 40/growth from those outside.
    assert expected - 1e-12 <= reached <= expected + 1e-6


@given(generators(), st.integers(2, 6))
def test_no_logits_of_rank_one_go_below(random, size):
    """Random logits on a line, of random scales."""
    logits = np.outer(random.normal(size=size), random.normal(size=size)) * 10 ** random.uniform(-1, 3)
    assert divergence(np.eye(size), logits) >= one_dimensional_divergence(np.full(size, 1 / size)) - 1e-10


def test_lookup_divergence_by_rank():
    """log N, the line, and 0 from the circle on; reference values for the line."""
    uniform = np.full(10, 0.1)
    assert lookup_divergence(uniform, 0) == math.log(10)
    assert lookup_divergence(uniform, 1) == pytest.approx(0.9574983485564093, rel=1e-14)
    assert lookup_divergence(uniform, 2) == lookup_divergence(uniform, 7) == 0
    assert lookup_divergence([0.1, 0.4, 0.2, 0.3], 1) == pytest.approx(0.20794415416798356, rel=1e-14)
    assert lookup_divergence([0.5, 0.5], 1) == 0


@pytest.mark.parametrize(
    ("size", "noise", "expected"),
    # (N, η, bound) from a separate implementation
    [(5, 0.01, 0.10504486205215302), (10, 0.001, 0.07107380555605956), (50, 1e-6, 0.0037483440125932175)],
)
def test_noisy_lookup_reference(size, noise, expected):
    """1 − η on the label, the rest spread evenly."""
    table = (1 - noise - noise / (size - 1)) * np.eye(size) + noise / (size - 1)
    # 1e-9: the entropy of a row of noise 1e-6 is known to ε/η.
    assert noisy_lookup_bound(table) == pytest.approx(expected, rel=1e-8)


def code_divergence(table, vectors):
    """The divergence of logits λ_t W_j·W_g with λ_t such that log Σ_j e^{λ_t (W_j − W_g)·W_g} is the entropy."""
    from scipy.optimize import brentq

    cosines = vectors @ vectors.T
    logits = np.zeros_like(table)
    for t, row in enumerate(table):
        gaps = 1 - cosines[row.argmax()]
        entropy = -sum(p * math.log(p) for p in row if p > 0)
        scale = brentq(lambda x, gaps=gaps, h=entropy: math.log(np.exp(-x * gaps).sum()) - h, 0, 1e6)
        logits[t] = -scale * gaps
    return divergence(table, logits)


@given(generators(), st.integers(3, 8), st.floats(0.05, 2))
def test_noisy_bound_is_above_its_construction(random, size, noise):
    """With points on the circle, and with random unit vectors and their own cosines."""
    table = np.eye(size) * 3 / noise + random.exponential(size=(size, size))
    table /= table.sum(axis=1, keepdims=True)
    angles = 2 * math.pi * np.arange(size) / size
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert code_divergence(table, circle) <= noisy_lookup_bound(table) + 1e-9
    vectors = random.normal(size=(size, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (vectors @ vectors.T)[~np.eye(size, dtype=bool)]
    bound = noisy_lookup_bound(table, cosines=(cosines.min(), cosines.max()))
    assert code_divergence(table, vectors) <= bound + 1e-9


def test_noisy_bound_corners():
    """Nothing for a look-up table; tight, and 0, for uniform rows."""
    assert noisy_lookup_bound(np.eye(4)) == 0
    assert noisy_lookup_bound(np.full((3, 4), 0.25)) == pytest.approx(0, abs=1e-12)
    assert circle_cosines(2) == (-1, -1)
    for size in range(2, 9):
        angles = 2 * math.pi * np.arange(1, size) / size
        assert circle_cosines(size) == pytest.approx((np.cos(angles).min(), np.cos(angles).max()))


def test_the_published_constant_is_vacuous_below_868_tokens():
    """2C < 1 needs d > 128 log(N + 1), which is N − 1 or more for every vocabulary of 867 tokens or fewer."""
    for size, constant in [(50, 3.5470892326974015), (200, 1.8423124439567269 * math.sqrt(5))]:
        assert math.sqrt(32 * math.log(size + 1) / 10) == pytest.approx(constant)
        with pytest.raises(ValueError, match=f"128 log.* = {128 * math.log(size + 1):.1f}"):
            published_noisy_lookup_bound(np.eye(size), size - 2)
    table = 0.99 * np.eye(50) + 0.01 / 50
    assert published_noisy_lookup_bound(table, 504) > noisy_lookup_bound(table, cosines=(-0.9, 0.9))
    assert all(128 * math.log(size + 1) >= size - 2 for size in range(2, 868))
    assert 128 * math.log(869) < 868 - 1
    with pytest.raises(ValueError, match="rank must be greater"):
        published_noisy_lookup_bound(table, 503)


def test_the_published_sign_has_no_logarithm():
    """With Shannon's entropy the published e^{-H} − 1 is negative for every row with any noise."""
    rows = np.random.default_rng(0).dirichlet(np.ones(5), size=50)
    entropy = -(rows * np.log(rows)).sum(axis=1)
    assert (np.expm1(-entropy) < 0).all()
    assert (np.expm1(entropy) > 0).all()
