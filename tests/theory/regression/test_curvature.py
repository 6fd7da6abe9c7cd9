"""Robust condition number: definition, parameters without curvature, and what the published code makes of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.regression import (
    RegressionTask,
    Spectrum,
    hessian_at_zero,
    multi_step_hessian,
    one_layer_hessian,
    robust_condition_number,
)
from tests.strategies import generators


def test_median_of_odd_and_even_counts():
    """The entry in the middle, or the mean of the two in the middle; signs do not count."""
    assert robust_condition_number([1.0, -5.0, 2.0]).median == 2
    even = robust_condition_number([1.0, 4.0, -2.0, 8.0])
    assert (even.median, even.largest, even.value) == (3, 8, 8 / 3)
    assert even.without_curvature == ()


def test_a_hessian_is_read_on_its_diagonal():
    """Off-diagonal entries do not matter; the indices are those of the rows."""
    hessian = np.array([[3.0, 9.0, 0.0], [9.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    result = robust_condition_number(hessian)
    assert result == robust_condition_number(hessian.diagonal())
    assert (result.value, result.without_curvature) == (1.5, (1,))


def test_rounding_counts_as_no_curvature():
    """Entries below 1e-12 of the largest are left out and named; those above are kept."""
    result = robust_condition_number([1.0, 1e-13, -1e-13, 1e-11])
    assert result.without_curvature == (1, 2)
    assert result.median == pytest.approx((1 + 1e-11) / 2, rel=1e-15)
    scaled = robust_condition_number([1e9, 1e-4, -1e-4, 1e-2])
    assert scaled.without_curvature == (1, 2)


@given(rng=generators(), size=st.integers(1, 30), zeros=st.integers(0, 10), scale=st.floats(1e-6, 1e6))
def test_order_scale_and_flat_parameters_do_not_matter(rng, size, zeros, scale):
    """R_med ≥ 1 stays under permutation, scaling and additional parameters without curvature."""
    diagonal = rng.uniform(0.1, 10, size=size) * rng.choice([-1, 1], size=size)
    result = robust_condition_number(diagonal)
    assert result.value >= 1
    padded = rng.permutation(np.concatenate([diagonal, np.zeros(zeros)]))
    other = robust_condition_number(scale * padded)
    assert other.value == pytest.approx(result.value, rel=1e-12)
    assert other.without_curvature == tuple(np.flatnonzero(padded == 0))


def test_of_linear_transformers():
    """One at one layer and at zero for isotropic tasks, where the code that keeps flat parameters finds infinity."""
    task = RegressionTask(5, 20)
    assert robust_condition_number(one_layer_hessian(task)).value == pytest.approx(1, rel=1e-13)
    both = hessian_at_zero(task, 1)
    result = robust_condition_number(both)
    assert result.without_curvature == tuple(range(25))
    assert np.sort(np.abs(both.diagonal()))[(50 - 1) // 2] == 0  # the lower median of all parameters
    # Three layers at the multi-step optimum: only the idle last value block is left out, 25 of 150.
    hessian = multi_step_hessian(task, 3)
    result = robust_condition_number(hessian.diagonal.reshape(-1))
    assert result.without_curvature == tuple(range(50, 75))
    assert result == robust_condition_number(hessian.matrix())


def test_spectrum_properties():
    """Size counts multiplicities; the values are ascending."""
    spectrum = Spectrum(np.array([-1.0, 0.5, 3.0]), np.array([1, 4, 2]))
    assert (spectrum.smallest, spectrum.largest, spectrum.size) == (-1, 3, 7)
