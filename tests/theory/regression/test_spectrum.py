"""Quadrature of the expected Wishart spectrum: exactness, accuracy, bounds."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from plumbline.theory.regression import spectral_moments, spectral_quadrature
from plumbline.theory.regression.spectrum import MAX_NODES, christoffel_at_zero, recursion_coefficients
from tests import references

SIZES = [(1, 1), (1, 20), (2, 1), (5, 2), (5, 5), (5, 20), (50, 2), (50, 10**6)]


@pytest.mark.parametrize("radau", [False, True])
@pytest.mark.parametrize(("dim", "context_length"), SIZES)
def test_rule_is_exact_up_to_its_degree_and_not_beyond(dim, context_length, radau):
    """Σ w t^k is the k-th moment for k ≤ degree, and smaller (Gauss) or larger (Radau) for the next one."""
    for nodes in (1, 2, 4, 9):
        rule = spectral_quadrature(nodes, dim, context_length, radau=radau)
        assert rule.degree == 2 * nodes - 1 + radau
        m = spectral_moments(dim, context_length, rule.degree + 2)
        # Exact sums of the rounded nodes and weights: a rounding of t changes t^k by k eps, k ≤ 18.
        for k in range(rule.degree + 1):
            total = sum(Fraction(w) * Fraction(t) ** k for t, w in zip(rule.nodes, rule.weights, strict=True))
            assert abs(total / m[k] - 1) < 1e-14
        if context_length < 10**6:  # there the difference is below rounding
            total = sum(Fraction(w) * Fraction(t) ** (k + 1) for t, w in zip(rule.nodes, rule.weights, strict=True))
            # the error term of the rule carries the sign of the next derivative: Gauss is below t^{2N},
            # Gauss-Radau at 0 below t^{2N+1}
            assert total < m[k + 1] * (1 - Fraction(1, 10**9))


@pytest.mark.parametrize("radau", [False, True])
@pytest.mark.parametrize(("dim", "context_length"), SIZES)
def test_nodes_are_zeros_of_the_orthogonal_polynomial(dim, context_length, radau):
    """The free nodes are the zeros of the polynomial orthogonal to all of lower degree, to rounding."""
    count = 5
    m = spectral_moments(dim, context_length, 2 * count + 2)[int(radau) :]
    # p = t^N + Σ c_j t^j with ∫ p t^i dν = 0 for i < N.
    gram = [[m[i + j] for j in range(count)] for i in range(count)]
    c, _ = references.solve(gram, [-m[i + count] for i in range(count)])
    nodes = spectral_quadrature(count, dim, context_length, radau=radau).nodes
    assert nodes[0] == 0.0 or not radau
    assert np.all(np.diff(nodes) > 0)
    # Nodes are rounded once, from at least 25 correct digits.
    assert all(references.has_zero([*c, Fraction(1)], node, relative=3e-16) for node in nodes[int(radau) :])


def test_weights_are_christoffel_numbers():
    """In one dimension with n = 2 the spectrum is exponential: nodes and weights are Gauss-Laguerre's."""
    nodes, weights = np.polynomial.laguerre.laggauss(12)
    rule = spectral_quadrature(12, dim=1, context_length=2)
    # laggauss itself is good to 1e-12 in its small weights.
    np.testing.assert_allclose(rule.nodes, nodes, rtol=1e-12)
    np.testing.assert_allclose(rule.weights, weights, rtol=1e-11)


def test_largest_rule_keeps_its_smallest_weights():
    """At `MAX_NODES` nodes, weights of 1e-60 and less are still right: Gauss-Laguerre in 60 digits."""
    rule = spectral_quadrature(MAX_NODES, dim=1, context_length=2)
    with mpmath.workdps(60):
        for t, w in zip(rule.nodes, rule.weights, strict=True):
            # verify asks for a value below the tolerance, which the polynomial's size of 1e60 does not allow
            node = mpmath.findroot(lambda x: mpmath.laguerre(MAX_NODES, 0, x), mpmath.mpf(float(t)), verify=False)
            weight = node / ((MAX_NODES + 1) * mpmath.laguerre(MAX_NODES + 1, 0, node)) ** 2
            assert abs(t / node - 1) < 1e-15
            assert abs(w / weight - 1) < 1e-15
    assert rule.weights[-1] < 1e-70


@pytest.mark.parametrize(("dim", "context_length"), SIZES)
@pytest.mark.parametrize("degree", [1, 2, 3, 6])
def test_christoffel_function_is_a_ratio_of_hankel_determinants(degree, dim, context_length):
    """λ_L(0) = det[m_{i+j}]/det[m_{i+j+2}], exactly."""
    m = references.moments(dim, context_length, 2 * degree + 1)
    assert christoffel_at_zero(degree, dim, context_length) == references.christoffel(degree, m)
    rule = spectral_quadrature(degree, dim, context_length, radau=True)
    assert rule.weights[0] == float(references.christoffel(degree, m))


def test_recursion_coefficients_of_the_exponential_law():
    """d = 1, n = 2: μ is exponential, α_k = 2k + 1 and β_k = k²; for t dμ, α_k = 2k + 2 and β_k = k(k + 1)."""
    alpha, beta = recursion_coefficients(1, 2, 6)
    assert alpha == tuple(2 * k + 1 for k in range(6))
    assert beta == (1, *(k * k for k in range(1, 6)))
    alpha, beta = recursion_coefficients(1, 2, 6, 1)
    assert alpha == tuple(2 * k + 2 for k in range(6))
    assert beta == (1, *(k * (k + 1) for k in range(1, 6)))


def test_gauss_and_radau_enclose():
    """∫ 1/(t + 1) dμ lies between Gauss and Gauss-Radau; at d = 1, n = 2 it is e·E₁(1)."""
    exact = float(mpmath.e * mpmath.e1(1))
    for nodes in (2, 5, 20):
        low, high = (
            float(rule.weights @ (1 / (rule.nodes + 1)))
            for rule in (spectral_quadrature(nodes, 1, 2, radau=radau) for radau in (False, True))
        )
        assert low < exact < high
        assert high - low < 2 / nodes**2


def test_rules_are_read_only():
    """The cached arrays cannot be changed by a caller."""
    rule = spectral_quadrature(3, 5, 20)
    with pytest.raises(ValueError, match="read-only"):
        rule.nodes[0] = 1.0
