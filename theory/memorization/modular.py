"""Linear algebra modulo a prime: ranks without rounding."""

from __future__ import annotations

import numpy as np

PRIME = 8388593
"""Largest prime below 2^23: a float64 holds a sum of `BLOCK` products of residues."""
BLOCK = 64


def power(base: np.ndarray | np.integer, exponents: np.ndarray) -> np.ndarray:
    """Return base^exponents modulo the prime, elementwise, for exponents from 0 to PRIME − 1."""
    result = np.ones(np.broadcast_shapes(np.shape(base), np.shape(exponents)), dtype=np.int64)
    square = np.asarray(base, dtype=np.int64) % PRIME
    for bit in range(PRIME.bit_length()):
        result = np.where(exponents >> bit & 1, result * square % PRIME, result)
        square = square * square % PRIME
    return result


def inverse(values: np.ndarray) -> np.ndarray:
    """Return the inverses modulo the prime, elementwise; 0 for 0."""
    return power(values, np.asarray(PRIME - 2))


def pivot_columns(matrix: np.ndarray) -> np.ndarray:
    """Return the ascending indices of the columns that are no combination of columns before them; exact.

    Gaussian elimination in blocks of columns: the updates to the right of a block are float64 products of residues,
    exact because BLOCK · PRIME² < 2^53.

    Args:
        matrix: Integers (m, n); taken modulo the prime.
    """
    a = (np.asarray(matrix) % PRIME).astype(np.float64)
    rows, columns = a.shape
    pivots: list[int] = []
    top = 0  # rows above are reduced
    for start in range(0, columns, BLOCK):
        if top == rows:
            break
        panel = a[top:, start : start + BLOCK].astype(np.int64)
        factors = np.zeros((rows - top, min(BLOCK, rows - top)), dtype=np.int64)
        found = 0
        for j in range(panel.shape[1]):
            candidates = np.flatnonzero(panel[found:, j])
            if not len(candidates):
                continue
            row = found + int(candidates[0])
            if row != found:
                for part in (panel, factors):
                    part[[found, row]] = part[[row, found]]
                a[[top + found, top + row]] = a[[top + row, top + found]]
            below = panel[found + 1 :, j] * inverse(panel[found, j]) % PRIME
            factors[found + 1 :, found] = below
            panel[found + 1 :, j:] = (panel[found + 1 :, j:] - below[:, None] * panel[found, j:]) % PRIME
            pivots.append(start + j)
            found += 1
            if top + found == rows:
                break
        right = a[top:, start + BLOCK :]
        # The pivot rows first, by forward substitution, then all rows below them at once.
        for i in range(1, found):
            right[i] = (right[i] - factors[i, :i].astype(float) @ right[:i]) % PRIME
        right[found:] = (right[found:] - factors[found:, :found].astype(float) @ right[:found]) % PRIME
        top += found
    return np.array(pivots, dtype=np.int64)
