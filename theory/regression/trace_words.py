"""Moments of products of traces of W and constant matrices, for every rotation-invariant covariate law."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache, reduce
from itertools import product

import numpy as np

from plumbline.theory.regression.task import RegressionTask

MAX_FACTORS = 4
"""Largest number of W in a product: 15 ways to share samples, 211 terms."""

Word = Sequence[np.ndarray]
"""The matrices M₁ … M_k of tr(M₁ W M₂ W ⋯ M_k W)."""


def trace_word_mean(words: Sequence[Word], task: RegressionTask) -> float:
    r"""Return E ∏ tr(M₁ W M₂ W ⋯ M_k W) over the words, W = (1/n) Σ x xᵀ, exactly.

    .. math:: E ∏_i x_{a_i}^T M_i x_{b_i} = n^{-k} ∑_{π} (n)_{|π|} ∏_{B ∈ π} g_{|B|} ∑_{pairings} ∏_{loops} tr(⋯),
              \quad g_m = \frac{E|z|^{2m}}{d (d+2) ⋯ (d+2m-2)}

    over the partitions π of the k factors W by the sample they take, (n)_b = n (n−1) ⋯ (n−b+1), and the pairings of
    the 2k vectors that stay within one sample: E z^{⊗2m} is g_m times the sum over pairings for rotation-invariant z
    (Isserlis for Gaussian, g = 1).

    Args:
        words: Each a sequence of (d, d) matrices; `MAX_FACTORS` matrices in total at most.
        task: The law of the covariates.

    Returns:
        The mean.

    Source:
        Derived here from Isserlis' theorem.

    Example:
        >>> eye = np.eye(5)
        >>> round(20**2 * trace_word_mean([[eye, eye]], RegressionTask(5, 20)), 9)  # E tr S² = n d (n + d + 1)
        2600.0
    """
    lengths = tuple(len(word) for word in words)
    factors = sum(lengths)
    if factors > MAX_FACTORS:
        raise ValueError(f"words must have at most {MAX_FACTORS} factors in total, got {factors}")
    n, s = task.context_length, task.covariance_matrix
    # z_a^T (R^T M R) z_b with x = R z; R R^T = S moves into the loops.
    scaled = [matrix @ s for word in words for matrix in word]
    turned = [matrix.T @ s for word in words for matrix in word]
    radial = [radial_factor(task, m) for m in range(factors + 1)]
    total = 0.0
    for sizes, loops in _terms(lengths):
        weight = math.prod((n - i) / n for i in range(len(sizes))) / float(n) ** (factors - len(sizes))
        if weight == 0:
            continue
        value = weight * math.prod(radial[size] for size in sizes)
        for loop in loops:
            links = [scaled[index] if straight else turned[index] for index, straight in loop]
            value *= float(np.trace(reduce(np.matmul, links)))
        total += value
    return total


def radial_factor(task: RegressionTask, power: int) -> float:
    """g_m = E|z|^{2m} / (d (d+2) ⋯ (d+2m−2)): 1 for Gaussian covariates, k1 and k2 at m = 1, 2."""
    if task.covariate_law == "gaussian":
        return 1.0
    d = task.dim
    moment = 1.0
    if task.covariate_law == "gamma":
        assert task.gamma_shape is not None
        shape = task.gamma_shape
        moment = math.prod((shape + j) * math.sqrt(10 / shape) for j in range(power))
    return moment / math.prod(d + 2 * j for j in range(power))


Loop = tuple[tuple[int, bool], ...]


@lru_cache(maxsize=256)
def _terms(lengths: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], tuple[Loop, ...]], ...]:
    """(block sizes, loops) of every partition into samples and pairing within it.

    Factor W number i has the vectors 2i (left) and 2i + 1 (right). A loop lists the matrices met on the way round,
    and whether each is met from left to right.
    """
    factors = sum(lengths)
    link: dict[int, tuple[int, int, bool]] = {}  # vector -> (vector at the other end of the matrix, matrix, straight)
    start = 0
    for length in lengths:
        for position in range(length):
            # tr(M₁ W M₂ W ⋯): matrix i stands to the left of its W, and to the right of the W before it.
            index, before = start + position, start + (position - 1) % length
            link[2 * before + 1] = (2 * index, index, True)
            link[2 * index] = (2 * before + 1, index, False)
        start += length
    terms = []
    for blocks in _partitions(list(range(factors))):
        sizes = tuple(len(block) for block in blocks)
        per_block = [list(_pairings([end for i in block for end in (2 * i, 2 * i + 1)])) for block in blocks]
        for choice in product(*per_block):
            mate = {a: b for pairs in choice for pair in pairs for a, b in (pair, pair[::-1])}
            terms.append((sizes, tuple(_loops(link, mate))))
    return tuple(terms)


def _loops(link: dict[int, tuple[int, int, bool]], mate: dict[int, int]) -> Iterator[Loop]:
    """The closed ways through matrices and pairs."""
    seen: set[int] = set()
    for start in link:
        if start in seen:
            continue
        at, loop = start, []
        while at not in seen:
            other, index, straight = link[at]
            loop.append((index, straight))
            seen |= {at, other}
            at = mate[other]
        yield tuple(loop)


def _pairings(items: list[int]) -> Iterator[list[tuple[int, int]]]:
    if not items:
        yield []
        return
    first, *rest = items
    for i, partner in enumerate(rest):
        for others in _pairings(rest[:i] + rest[i + 1 :]):
            yield [(first, partner), *others]


def _partitions(items: list[int]) -> Iterator[list[list[int]]]:
    """All set partitions."""
    if not items:
        yield []
        return
    first, *rest = items
    for blocks in _partitions(rest):
        yield [[first], *blocks]
        for i, block in enumerate(blocks):
            yield [*blocks[:i], [first, *block], *blocks[i + 1 :]]
