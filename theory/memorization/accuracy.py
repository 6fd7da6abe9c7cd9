"""Accuracy that some weights reach on a look-up table: on average over tables, and on every table."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.memorization.capacity import attention_only_capacity
from plumbline.theory.memorization.rank import MAX_FEATURES, independent_contexts


def accuracy_lower_bound(
    heads: int,
    head_dim: int,
    embed_dim: int,
    vocab_size: int,
    context_length: int,
    *,
    prior: Any = None,
) -> float:
    r"""Return the accuracy that a one-layer attention-only transformer reaches in expectation over random tables.

    .. math:: E_g \max_{\text{weights}} Acc ≥ \tfrac{1}{N} + \big(1 - \tfrac{1}{N}\big) m

    with m the mass of the contexts stored: T_0 / N^S for the uniform prior. The labels g of the other contexts
    are independent of the model, which gets 1/N of them right. Individual tables can fall below: for one given
    table use `guaranteed_accuracy`.

    Conditions: labels uniform and independent; those of `attention_only_capacity` on sizes. With a prior, the
    contexts stored are the likeliest set that can be stored (`independent_contexts`, exact).

    Status: **corrected**. Published as E Acc ≥ 1/N + (1 − 1/N)(H d_h + d)/N^S, which passes 1 where it is not
    clipped (N = 50, S = 2, d = d_h = 10, H = 300: 1.20).

    Args:
        heads: H, from 0 up.
        head_dim: d_h, from 1 up.
        embed_dim: d, from 2 up.
        vocab_size: N, from 2 up.
        context_length: S, from 1 up.
        prior: ρ (N^S,) over the contexts in lexicographic order; ``None`` is uniform.

    Returns:
        The expected accuracy.

    Raises:
        ValueError: on sizes out of range or a prior that is no distribution over the contexts.

    Source:
        Corrected from Dana, Pydi, Chevaleyre 2024 (2411.10115), Corollary 2; the prior is derived here.

    Example:
        >>> round(accuracy_lower_bound(31, 10, 10, vocab_size=50, context_length=2), 12)
        0.14544
    """
    mass = _stored_mass(heads, head_dim, embed_dim, vocab_size, context_length, prior)
    return 1 / vocab_size + (1 - 1 / vocab_size) * mass


def guaranteed_accuracy(
    heads: int,
    head_dim: int,
    embed_dim: int,
    vocab_size: int,
    context_length: int,
    *,
    prior: Any = None,
) -> float:
    r"""Return the accuracy that a one-layer attention-only transformer reaches on every look-up table.

    .. math:: \min_g \max_{\text{weights}} Acc ≥ \max(1/N,\; m)

    with m the mass of the contexts stored, T_0 / N^S for the uniform prior; a constant answer reaches 1/N
    (the likeliest label has at least the mean mass).

    Conditions: those of `attention_only_capacity` on sizes. With a prior, the contexts stored are the likeliest
    set that can be stored, which need not be the T_0 likeliest contexts even if they have d distinct last tokens: of
    the contexts (0,0), (1,1), (2,2), … only d + H can be stored, since the features of a head differ from the skip
    by one direction. The set is found exactly (`independent_contexts`).

    Status: **derived** here. The published expectation does not hold table by table.

    Args:
        heads: H, from 0 up.
        head_dim: d_h, from 1 up.
        embed_dim: d, from 2 up.
        vocab_size: N, from 2 up.
        context_length: S, from 1 up.
        prior: ρ (N^S,) over the contexts in lexicographic order; ``None`` is uniform.

    Returns:
        The accuracy.

    Raises:
        ValueError: on sizes out of range or a prior that is no distribution over the contexts.

    Source:
        Derived here.

    Example:
        >>> guaranteed_accuracy(31, 10, 10, vocab_size=50, context_length=2)
        0.128
    """
    mass = _stored_mass(heads, head_dim, embed_dim, vocab_size, context_length, prior)
    return max(1 / vocab_size, mass)


def _stored_mass(heads: int, head_dim: int, embed_dim: int, vocab_size: int, context_length: int, prior: Any) -> float:
    """Mass of the likeliest contexts that can be stored at once."""
    capacity = attention_only_capacity(heads, head_dim, embed_dim, vocab_size, context_length)
    count = vocab_size**context_length
    if prior is None:
        return capacity / count
    if count > MAX_FEATURES:
        raise ValueError(
            f"context_length must leave at most {MAX_FEATURES} contexts for a prior over all of them, "
            f"got {context_length} with vocab_size {vocab_size}"
        )
    masses = checks.probabilities("prior", prior, (count,))
    if capacity == count:
        return 1.0
    contexts = np.indices((vocab_size,) * context_length).reshape(context_length, -1).T
    order = np.argsort(-masses, kind="stable")
    stored = independent_contexts(heads, head_dim, embed_dim, vocab_size, context_length, contexts[order])
    return min(float(masses[order[stored]].sum()), 1.0)
