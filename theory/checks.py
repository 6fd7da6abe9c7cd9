"""Argument validation shared by every public entry: one sentence that names parameter, value and remedy."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import numpy as np

# Largest asymmetry |M - M^T| / |M| taken for rounding: products such as U D^2 U^T are symmetric to a few eps.
SYMMETRY_TOLERANCE = 1e-10
# Kinds of numpy dtype taken for real numbers: integers, floats, and objects such as Fraction.
NUMBERS = "iufO"
# Largest entry of a covariance or noise variance, and inverse of its smallest eigenvalue: products of five stay finite.
MAX_SCALE = 1e60
# Largest |sum - 1| of probabilities taken for rounding, and the largest that is left as it is.
SUM_TOLERANCE = 1e-9
SUM_ROUNDING = 1e-12


def integer(name: str, value: Any, *, at_least: int | None = None, at_most: int | None = None) -> int:
    """Return ``value`` as an int, or raise ValueError. Booleans and fractional numbers are refused."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {value!r}") from None
    if at_least is not None and number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {number}")
    if at_most is not None and number > at_most:
        raise ValueError(f"{name} must be at most {at_most}, got {number}")
    return number


def real(
    name: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
) -> float:
    """Return ``value`` as a finite float within the bounds, or raise ValueError."""
    try:
        if np.ndim(value) or np.asarray(value).dtype.kind not in NUMBERS:
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a real number, got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    if at_least is not None and number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {number}")
    if above is not None and number <= above:
        raise ValueError(f"{name} must be greater than {above}, got {number}")
    if at_most is not None and number > at_most:
        raise ValueError(f"{name} must be at most {at_most}, got {number}")
    return number


def array(name: str, value: Any, shape: Sequence[int | None]) -> np.ndarray:
    """Return ``value`` as a finite float64 array of the given shape (``None``: any size of at least one)."""
    wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
    try:
        raw = np.asarray(value)
        if raw.dtype.kind not in NUMBERS:
            raise TypeError
        if raw.dtype == object and any(isinstance(entry, bool | str) for entry in raw.flat):
            raise TypeError
        result = np.array(raw, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a real array of shape {wanted}, got {value!r}") from None
    fits = result.ndim == len(shape) and all(
        (got >= 1 if want is None else got == want) for got, want in zip(result.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} must have shape {wanted}, got shape {result.shape}")
    if not np.isfinite(result).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(result))[0])
        raise ValueError(f"{name} must be finite, got {result[where]} at index {where}")
    return result


def positive_definite(name: str, value: Any, dim: int) -> np.ndarray:
    """Return ``value`` as a symmetric positive definite (dim, dim) array; the message names the bad eigenvalue."""
    matrix = array(name, value, (dim, dim))
    size = np.abs(matrix).max()
    if size > MAX_SCALE:
        raise ValueError(f"{name} must have entries of at most {MAX_SCALE:g}, got {size:.6g}")
    asymmetry = np.abs(matrix - matrix.T).max()
    if asymmetry > SYMMETRY_TOLERANCE * size:
        raise ValueError(f"{name} must be symmetric, got a difference of {asymmetry:.3g} to its transpose")
    matrix = (matrix + matrix.T) / 2
    lowest = float(np.linalg.eigvalsh(matrix)[0])
    # An eigenvalue below rounding (dim * eps * largest) cannot be told from zero.
    if lowest <= dim * np.finfo(float).eps * size:
        raise ValueError(f"{name} must be positive definite, got the eigenvalue {lowest:.6g}")
    if lowest < 1 / MAX_SCALE:
        raise ValueError(f"{name} must have eigenvalues of at least {1 / MAX_SCALE:g}, got {lowest:.6g}")
    return matrix


def probabilities(name: str, value: Any, shape: Sequence[int | None]) -> np.ndarray:
    """Return ``value`` as an array whose last axis holds distributions; their sums are freed of rounding."""
    result = array(name, value, shape)
    if (result < 0).any():
        where = tuple(int(i) for i in np.argwhere(result < 0)[0])
        raise ValueError(f"{name} must not be negative, got {result[where]} at index {where}")
    sums = result.sum(-1, keepdims=True)
    off = np.abs(sums - 1)
    if (off > SUM_TOLERANCE).any():
        where = tuple(int(i) for i in np.unravel_index(off.argmax(), off.shape)[:-1])
        place = f" in row {where[0] if len(where) == 1 else where}" if where else ""
        raise ValueError(f"{name} must sum to one, got {sums[where].item():.10g}{place}")
    return np.where(off > SUM_ROUNDING, result / sums, result)


def tokens(name: str, value: Any, shape: Sequence[int | None], vocab_size: int) -> np.ndarray:
    """Return ``value`` as an array of integers 0, …, vocab_size − 1 of the given shape."""
    numbers = array(name, value, shape)
    wrong = (numbers < 0) | (numbers >= vocab_size) | (numbers != np.floor(numbers))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name} must be integers from 0 to {vocab_size - 1}, got {numbers[where]:g} at index {where}")
    return numbers.astype(np.int64)


@contextmanager
def float_range(name: str, value: Any) -> Iterator[None]:
    """Turn an overflow in the block into a ValueError that names the parameter which is too large."""
    try:
        with np.errstate(over="raise", invalid="raise"):
            yield
    except (FloatingPointError, OverflowError):
        raise ValueError(f"{name} must be small enough for a finite risk, got {value!r}") from None


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """Return ``value`` if it is one of ``allowed``; otherwise raise ValueError with the nearest match."""
    options = list(allowed)
    if any(value is option or (isinstance(value, str) and value == option) for option in options):
        return value
    near = get_close_matches(str(value), [option for option in options if isinstance(option, str)], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}{hint}")
