"""Closed forms for deterministic next-token tables, and bounds for nearly deterministic ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.memorization.task import table_and_prior

SUFFICIENT_CONSTANT = 32.0
"""The 32 of C = sqrt(32 log(N+1)/d) in the published bound."""


def circle_divergence(scale: float, vocab_size: int) -> float:
    r"""Return the divergence from any look-up table of logits λ cos(2π(i − g)/N): N points on a circle, rank 2.

    .. math:: KL = \log \sum_{k<N} e^{-λ(1 - \cos(2πk/N))} ≤ \log(1 + (N-1) e^{-λ(1 - \cos(2π/N))})

    It decreases to 0 as λ grows and is positive at every λ: a rank of 2 stores every look-up table in the limit,
    and never exactly.

    Args:
        scale: λ ≥ 0, the product of the norms of a context's and a token's vector.
        vocab_size: Number N of tokens, from 2 up.

    Returns:
        The divergence in nats, the same for every label g.

    Raises:
        ValueError: on a negative scale or fewer than two tokens.

    Source:
        Construction: Dana, Pydi, Chevaleyre 2024 (2411.10115), Proposition 3; the value is derived here.

    Example:
        >>> round(circle_divergence(1000, 50), 12)
        0.000752185476
    """
    scale = checks.real("scale", scale, at_least=0.0)
    n = checks.integer("vocab_size", vocab_size, at_least=2)
    # 1 − cos 2a = 2 sin² a keeps its digits for neighbouring points.
    gaps = 2 * np.sin(math.pi * np.arange(1, n) / n) ** 2
    return float(np.log1p(np.exp(-scale * gaps).sum()))


def circle_scale(divergence: float, vocab_size: int) -> float:
    r"""Return the scale λ at which the circle construction has the given divergence.

    .. math:: λ ≤ \log\frac{N-1}{e^ε - 1} \Big/ (1 - \cos(2π/N)) ≈ \frac{N²}{2π²} \log\frac{N-1}{ε}

    The right-hand side is enough for a divergence of at most ε; the exact scale is the root of
    `circle_divergence`, which lies below it.

    Args:
        divergence: ε in (0, log N], in nats.
        vocab_size: Number N of tokens, from 2 up.

    Returns:
        The root λ, to a relative accuracy of 1e-12.

    Raises:
        ValueError: on a divergence outside (0, log N], or fewer than two tokens.

    Source:
        Derived here.

    Example:
        >>> round(circle_scale(1e-3, 50), 6)
        963.869946
    """
    from scipy.optimize import brentq

    n = checks.integer("vocab_size", vocab_size, at_least=2)
    target = checks.real("divergence", divergence, above=0.0, at_most=math.log(n))
    # At log N both sides are 0; the bracket gets a little room for rounding.
    enough = max(math.log((n - 1) / math.expm1(target)), 0.0) / (2 * math.sin(math.pi / n) ** 2)
    if enough == 0:
        return 0.0
    return float(
        brentq(lambda scale: math.log(circle_divergence(scale, n) / target), 0.0, 1.01 * enough + 1e-9, rtol=1e-13)
    )


def one_dimensional_divergence(label_masses: Any) -> float:
    r"""Return the infimum of the divergence from a look-up table over logits of rank 1.

    .. math:: \mathrm{OPT}(1) = \sum_{r=1}^N q_{(r)} \log ⌈r/2⌉, \qquad q_{(1)} ≥ q_{(2)} ≥ …

    Logits x_t y_i order the tokens on a line. A token of rank k from one end has k − 1 tokens beyond it, whose
    logits are at least its own for one sign of x_t, or N − k for the other sign: the loss is at least
    log min(k, N − k + 1). Gaps between the y_i that grow geometrically from both ends inwards reach it in the
    limit (not for N ≥ 3 at finite weights), with the two most frequent tokens outermost.

    Conditions: a deterministic table.

    Args:
        label_masses: q (N,), the prior mass Σ_{g(t) = i} ρ_t of the contexts with each label i.

    Returns:
        The infimum in nats.

    Raises:
        ValueError: if the masses are no distribution.

    Source:
        Derived here. The published claim that every dimension stores every table (2411.10115, version 2) fails here.

    Example:
        >>> round(one_dimensional_divergence([0.1] * 10), 12)
        0.957498348556
    """
    masses = np.sort(checks.probabilities("label_masses", label_masses, (None,)))[::-1]
    return float(masses @ np.log((np.arange(len(masses)) + 2) // 2))


def lookup_divergence(label_masses: Any, rank: int) -> float:
    r"""Return the infimum of the divergence from a look-up table over logits of rank d.

    .. math:: \mathrm{OPT}(0) = \log N, \qquad \mathrm{OPT}(1) = \sum_r q_{(r)} \log ⌈r/2⌉, \qquad
              \mathrm{OPT}(d) = 0 \;\; (d ≥ 2)

    Conditions: a deterministic table; no output bias.

    Args:
        label_masses: q (N,), the prior mass of the contexts with each label.
        rank: d, from 0 up.

    Returns:
        The infimum in nats; attained at d = 0 and, for one label or two tokens, nowhere else.

    Raises:
        ValueError: if the masses are no distribution, or on a negative rank.

    Source:
        d ≥ 2: Dana, Pydi, Chevaleyre 2024 (2411.10115), Proposition 3; d = 0 and 1: derived here.

    Example:
        >>> [round(lookup_divergence([0.25] * 4, d), 6) for d in (0, 1, 2)]
        [1.386294, 0.346574, 0.0]
    """
    masses = checks.probabilities("label_masses", label_masses, (None,))
    rank = checks.integer("rank", rank, at_least=0)
    if rank >= 2:
        return 0.0
    return one_dimensional_divergence(masses) if rank else math.log(len(masses))


def circle_cosines(vocab_size: int) -> tuple[float, float]:
    r"""Return the smallest and the largest cosine between two of N equally spaced points on a circle.

    .. math:: C_- = -1 \;(N \text{ even}), \; -\cos(π/N) \;(N \text{ odd}), \qquad C_+ = \cos(2π/N)

    Args:
        vocab_size: Number N of tokens, from 2 up.

    Raises:
        ValueError: on fewer than two tokens.

    Source:
        Elementary.

    Example:
        >>> [round(cosine, 6) for cosine in circle_cosines(5)]
        [-0.809017, 0.309017]
    """
    n = checks.integer("vocab_size", vocab_size, at_least=2)
    return -math.cos(math.pi * (n % 2) / n), math.cos(2 * math.pi / n)


def noisy_lookup_bound(task_or_table: Any, *, prior: Any = None, cosines: Any = None) -> float:
    r"""Return an upper bound of the divergence that rank d ≥ 2 reaches on a nearly deterministic table.

    .. math:: \mathrm{OPT}(d) ≤ \sum_t ρ_t (1 - P_t(g_t)) \frac{1 - C_-}{1 - C_+}
              \log \frac{N-1}{e^{H(P_t)} - 1}, \qquad g_t = \arg\max P_t

    Logits λ_t W_j·W_{g_t} with unit vectors W_j whose pairwise cosines lie in [C_-, C_+], C_+ < 1, and λ_t such
    that log Σ_j exp(λ_t (W_j − W_g)·W_g) = H(P_t): the divergence of the context is then
    λ_t Σ_j P_t(j)(1 − W_j·W_g), and each factor is bounded.

    Conditions: H is the Shannon entropy in nats. Contexts of entropy 0 contribute 0. No condition on d or N other
    than that the vectors exist: on the circle, the default, in every d ≥ 2.

    Args:
        task_or_table: An `NgramTask`, or P (T, N).
        prior: ρ (T,) beside an explicit table; ``None`` is uniform.
        cosines: (C_-, C_+) of the unit vectors; ``None`` is the circle.

    Returns:
        The bound in nats.

    Raises:
        ValueError: if rows or prior are no distributions, or unless −1 ≤ C_- ≤ C_+ < 1.

    Source:
        Derived here, correcting Dana, Pydi, Chevaleyre 2024 (2411.10115), Theorem 2; see
        `published_noisy_lookup_bound`.

    Example:
        >>> noisy = 0.99 * np.eye(5) + 0.0025 * (1 - np.eye(5))
        >>> round(noisy_lookup_bound(noisy), 9)
        0.105044862
    """
    from scipy.special import entr

    table, weights = table_and_prior(task_or_table, prior)
    n = table.shape[1]
    if n < 2:
        raise ValueError(f"task_or_table must have at least 2 tokens, got shape {table.shape}")
    lowest, highest = circle_cosines(n) if cosines is None else checks.array("cosines", cosines, (2,)).tolist()
    if not -1 <= lowest <= highest < 1:
        raise ValueError(f"cosines must satisfy -1 <= smallest <= largest < 1, got {(lowest, highest)}")
    entropy = entr(table).sum(axis=1)
    noisy = entropy > 0
    # e^H − 1 exceeds N − 1 by rounding where a row is uniform.
    scale = np.log((n - 1) / np.minimum(np.expm1(entropy[noisy]), n - 1))
    errors = 1 - table[noisy].max(axis=1)
    return float(weights[noisy] @ (errors * scale)) * (1 - lowest) / (1 - highest)


def published_noisy_lookup_bound(task_or_table: Any, rank: int, *, prior: Any = None) -> float:
    r"""Return the published bound for nearly deterministic tables, where its constant makes it meaningful.

    .. math:: C = \sqrt{32 \log(N+1)/d}, \qquad \sum_t ρ_t (1 - P_t(g_t)) \frac{1 + 2C}{1 - 2C}
              \log\frac{N-1}{e^{H(P_t)} - 1}

    the bound of random unit vectors, whose cosines are at most 2C in size. Three things about the statement:

    - It needs 2C < 1, that is d > 128 log(N + 1): 504 dimensions for 50 tokens. For every N ≤ 867 such a d is
      at least N − 1, where every table is stored anyway: the bound is then vacuous, and refused here.
    - Its H is the *negative* entropy Σ p log p, although the appendix places H in [0, log N]: read with Shannon's
      H the published e^{-H} − 1 is negative and its logarithm undefined. The sign above is the one that holds.
    - A further term, C times a distance in total variation, is not needed for the bound and left out.

    `noisy_lookup_bound` with the circle needs none of it.

    Args:
        task_or_table: An `NgramTask`, or P (T, N).
        rank: d.
        prior: ρ (T,) beside an explicit table; ``None`` is uniform.

    Returns:
        The bound in nats.

    Raises:
        ValueError: if rows or prior are no distributions, or d ≤ 128 log(N + 1).

    Source:
        Dana, Pydi, Chevaleyre 2024 (2411.10115), Theorem 2, its sign of the entropy corrected here.

    Example:
        >>> noisy = 0.99 * np.eye(5) + 0.0025 * (1 - np.eye(5))
        >>> round(published_noisy_lookup_bound(noisy, 1000), 6)
        0.113872
    """
    table, _ = table_and_prior(task_or_table, prior)
    rank = checks.integer("rank", rank, at_least=1)
    constant = math.sqrt(SUFFICIENT_CONSTANT * math.log(table.shape[1] + 1) / rank)
    if 2 * constant >= 1:
        raise ValueError(
            f"rank must be greater than 128 log(N + 1) = {4 * SUFFICIENT_CONSTANT * math.log(table.shape[1] + 1):.1f} "
            f"for the published bound to say anything, got {rank}; see noisy_lookup_bound"
        )
    return noisy_lookup_bound(task_or_table, prior=prior, cosines=(-2 * constant, 2 * constant))
