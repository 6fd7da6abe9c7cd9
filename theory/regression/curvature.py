"""What a Hessian comes down to: its spectrum, and the robust condition number of its diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.theory import checks

NO_CURVATURE = 1e-12
"""Diagonal entries up to this share of the largest count as zero: rounding of what is zero in exact arithmetic."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues (ascending) of a symmetric matrix, and how often each occurs."""

    values: np.ndarray
    multiplicities: np.ndarray

    @property
    def size(self) -> int:
        """The number of parameters: eigenvalues counted with multiplicity."""
        return int(self.multiplicities.sum())

    @property
    def largest(self) -> float:
        """The largest eigenvalue, the sharpness."""
        return float(self.values[-1])

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue."""
        return float(self.values[0])


@dataclass(frozen=True)
class RobustConditionNumber:
    """R_med = largest / median of |H_ii|, over the parameters that have curvature.

    Attributes:
        value: R_med, at least 1.
        largest: max |H_ii|.
        median: Median |H_ii| over those with curvature; of an even count the mean of the two in the middle.
        without_curvature: Indices of the parameters left out, ascending, in the order of the diagonal.
    """

    value: float
    largest: float
    median: float
    without_curvature: tuple[int, ...]


def robust_condition_number(hessian_or_diagonal: Any) -> RobustConditionNumber:
    r"""Return the robust condition number of a Hessian.

    .. math:: R_{med} = \max_i |H_{ii}| \,/\, median_i |H_{ii}|

    over the parameters with curvature, |H_ii| > `NO_CURVATURE` · max |H_ii|. The median of an even count is the mean
    of the two entries in the middle. The published code takes all parameters and the lower of the two: one layer has
    no curvature in its value block, half of its parameters, so that its quotient is infinite; of three layers the
    value block of the last, a sixth of the entries, is counted with curvature 0.

    Args:
        hessian_or_diagonal: A Hessian (size, size), of which only the diagonal is read, or its diagonal (size,).

    Returns:
        `RobustConditionNumber`.

    Raises:
        ValueError: on another shape, on entries that are not finite, and where no parameter has curvature.

    Source:
        Jiang, Malik, Li 2022 (2211.02254) for the definition; Ahn et al. 2023 (2310.01082) for linear transformers.
        The treatment of parameters without curvature is chosen here.

    Example:
        >>> robust_condition_number([4.0, 2.0, 0.0, 1.0])
        RobustConditionNumber(value=2.0, largest=4.0, median=2.0, without_curvature=(2,))
    """
    two_dimensional = np.ndim(hessian_or_diagonal) == 2 if _regular(hessian_or_diagonal) else False
    entries = checks.array("hessian_or_diagonal", hessian_or_diagonal, (None, None) if two_dimensional else (None,))
    if two_dimensional:
        if entries.shape[0] != entries.shape[1]:
            raise ValueError(f"hessian_or_diagonal must be square or one-dimensional, got shape {entries.shape}")
        entries = entries.diagonal()
    size = np.abs(entries)
    largest = float(size.max())
    curved = size > NO_CURVATURE * largest
    if not curved.any():
        raise ValueError(f"hessian_or_diagonal must have a diagonal entry other than zero, got {entries}")
    median = float(np.median(size[curved]))
    left_out = tuple(int(index) for index in np.flatnonzero(~curved))
    return RobustConditionNumber(largest / median, largest, median, left_out)


def _regular(value: Any) -> bool:
    """Whether numpy makes an array of it (ragged lists are left to `checks.array`)."""
    try:
        np.shape(value)
    except ValueError:
        return False
    return True
