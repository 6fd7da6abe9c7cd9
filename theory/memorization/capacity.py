"""How many contexts a one-layer attention-only transformer stores, whatever their next tokens are."""

from __future__ import annotations

from typing import Any

from plumbline.theory import checks

MAX_CONTEXT_LENGTH, MAX_VOCAB_SIZE = 800, 10**5
"""Largest sizes: the number N^S of contexts is computed exactly, and Python prints integers of 4300 digits."""


def attention_only_capacity(
    heads: int,
    head_dim: int,
    embed_dim: int,
    vocab_size: int,
    context_length: int,
    contexts: int | None = None,
    last_tokens: int | None = None,
) -> int:
    r"""Return the number of contexts whose next tokens a one-layer attention-only transformer can store.

    .. math:: T_0 = \min\big(T,\; H \min(d_h, d, N+S-2) + \min(d, L)\big) \quad (S ≥ 2), \qquad
              T_0 = \min(T, d) \quad (S = 1)

    It is the rank of the features for almost all weights, so T_0 contexts can be given almost any targets in R^d, with
    ordinary softmax attention and no limit taken, hence any labels (tokens on a circle, d ≥ 2). With H heads frozen,
    no T_0 + 1 contexts can have arbitrary targets.

    Conditions: d ≥ 2; all N^S contexts, or T contexts in general position (such as drawn at random). Sets with
    structure can have less, and `generic_rank` tells: with contexts (0,0), (1,1), (2,2), … each head adds 1, not
    d_h, as x(t,1) − x(t,2) has one direction only. Where L = 1 and d > N + S − 3, one direction less per head,
    min(d_h, d, N+S−3): the softmax weights of a head then satisfy a linear relation.

    Status: **corrected**. Published: H d_h + d, not clipped. It fails for S = 1, where attention does nothing (N = 6,
    d = 2, H = 2, d_h = 2: published 6, true 2); for shared last tokens (contexts (0,0), (1,0), d = 2, H = 0: published
    2, but the model sees the same input twice: 1); where d_h > d or d_h > N + S − 2 (d = 5, d_h = 10, H = 20: published
    205, true 105); beyond all N^S contexts. The published proof needs S ≥ d + 1; the closed form here is an upper
    bound proved, attained in every case that `generic_rank` has been asked (exact arithmetic), among them
    N = 50, S = 2, d = d_h = 10, H = 249.

    Args:
        heads: H, from 0 up.
        head_dim: d_h, from 1 up.
        embed_dim: d, from 2 up.
        vocab_size: N, from 2 up.
        context_length: S, from 1 up.
        contexts: T, the number of contexts considered; ``None`` is all N^S.
        last_tokens: L, the number of distinct last tokens among them; ``None`` is the fewest that T contexts
            can have, ⌈T / N^(S−1)⌉.

    Returns:
        T_0.

    Raises:
        ValueError: on sizes out of range, or T and L that no set of distinct contexts has.

    Source:
        Corrected from Dana, Pydi, Chevaleyre 2024 (2411.10115), Theorem 1 and Corollaries 1, 2. Derived here.

    Example:
        >>> attention_only_capacity(31, 10, 10, vocab_size=50, context_length=2)
        320
    """
    _check_sizes(heads, head_dim, embed_dim, vocab_size, context_length)
    count, last = _contexts(contexts, last_tokens, vocab_size, context_length)
    return min(count, heads * _per_head(head_dim, embed_dim, vocab_size, context_length, last) + min(embed_dim, last))


def compressed_attention_capacity(
    heads: int,
    head_dim: int,
    embed_dim: int,
    vocab_size: int,
    context_length: int,
    contexts: int | None = None,
    last_tokens: int | None = None,
) -> int:
    r"""Return the number of contexts that one layer of the published code's architecture can store.

    .. math:: T_0 = \min\big(T,\; H \min(d_h, q) + \min(d + 1[H ≥ 1, d_h > q], L)\big), \qquad q = \min(d, N-1) + S - 1

    There the heads read C e(t_s) + pos_s ∈ R^{d_h} and write through a shared matrix d × d_h, and the skip is
    e(t_S) without position. Heads wider than the d + S − 1 directions of C e and pos add nothing but a constant.
    For S = 1 the heads add the constant only: q = 0.

    Conditions: d ≥ 2; d_h ≥ 2, since heads that write into one dimension cannot give the two coordinates of a
    label (the rank of the features is the formula at d_h = 1, too: `generic_rank`); full heads (one head of
    dimension d_h per module, as in all experiments); all contexts, or T contexts in general position. Where L = 1 and
    q = N + S − 2 ≤ d_h, one direction less per head.

    Status: **corrected**; derived here. Published: H d_h + d, plotted for this code also where d_h > d
    (N = 20, S = 2, d = 5, d_h = 10, H = 6: published 65, true 42).

    Args:
        heads: H, the number of modules, from 0 up.
        head_dim: d_h, from 2 up.
        embed_dim: d, from 2 up.
        vocab_size: N, from 2 up.
        context_length: S, from 1 up.
        contexts: T, the number of contexts considered; ``None`` is all N^S.
        last_tokens: L, the number of distinct last tokens among them; ``None`` is the fewest possible.

    Returns:
        T_0.

    Raises:
        ValueError: on sizes out of range, or T and L that no set of distinct contexts has.

    Source:
        Derived here, for the code of Dana, Pydi, Chevaleyre 2024 (2411.10115).

    Example:
        >>> compressed_attention_capacity(6, 10, 5, vocab_size=20, context_length=2)
        42
    """
    _check_sizes(heads, head_dim, embed_dim, vocab_size, context_length)
    checks.integer("head_dim", head_dim, at_least=2)
    count, last = _contexts(contexts, last_tokens, vocab_size, context_length)
    positions = context_length - 1
    span = min(embed_dim, vocab_size - 1) + positions if positions else 0
    per_head = min(head_dim, span)
    if last == 1 and embed_dim >= vocab_size - 1 and positions:
        per_head = min(head_dim, span - 1)
    constant = heads > 0 and head_dim > span
    return min(count, heads * per_head + min(embed_dim + constant, last))


def heads_needed(
    contexts: int,
    head_dim: int,
    embed_dim: int,
    vocab_size: int,
    context_length: int,
    last_tokens: int | None = None,
) -> int:
    r"""Return the smallest number of heads with which a one-layer attention-only transformer stores T contexts.

    .. math:: H = \lceil (T - \min(d, L)) / \min(d_h, d, N+S-2) \rceil, \text{ at least } 0

    Conditions: those of `attention_only_capacity`. Enough for any labels; fewer heads can be enough for given labels.

    Args:
        contexts: T, from 1 to N^S.
        head_dim: d_h, from 1 up.
        embed_dim: d, from 2 up.
        vocab_size: N, from 2 up.
        context_length: S, from 1 up.
        last_tokens: L, the number of distinct last tokens among the contexts; ``None`` is the fewest possible.

    Returns:
        H.

    Raises:
        ValueError: on sizes out of range, or where no number of heads is enough (S = 1 and T > d).

    Source:
        Corrected from Dana, Pydi, Chevaleyre 2024 (2411.10115), Corollary 1. Derived here.

    Example:
        >>> heads_needed(2500, 10, 10, vocab_size=50, context_length=2)
        249
    """
    _check_sizes(0, head_dim, embed_dim, vocab_size, context_length)
    checks.integer("contexts", contexts, at_least=1)
    count, last = _contexts(contexts, last_tokens, vocab_size, context_length)
    missing = count - min(embed_dim, last)
    if missing <= 0:
        return 0
    if context_length == 1:
        raise ValueError(
            f"contexts must be at most embed_dim {embed_dim} for context_length 1, where heads add nothing, got {count}"
        )
    return -(-missing // _per_head(head_dim, embed_dim, vocab_size, context_length, last))


def published_capacity(heads: int, head_dim: int, embed_dim: int) -> int:
    r"""Return the capacity as it was published, which is **not** a bound in general.

    .. math:: H d_h + d

    Conditions under which it holds: S ≥ 2, d_h ≤ min(d, N + S − 2), at least d distinct last tokens (with one only, see
    `attention_only_capacity`), H d_h + d ≤ T, contexts in general position.

    Status: **published**; fails outside these conditions, with the counterexamples listed at
    `attention_only_capacity`. A readme and a notebook of the authors drop the d.

    Args:
        heads: H, from 0 up.
        head_dim: d_h, from 1 up.
        embed_dim: d, from 1 up.

    Returns:
        The published number.

    Raises:
        ValueError: on sizes out of range.

    Source:
        Dana, Pydi, Chevaleyre 2024 (2411.10115), abstract and Table 1.

    Example:
        >>> published_capacity(300, 10, 10)
        3010
    """
    checks.integer("embed_dim", embed_dim, at_least=1)
    return checks.integer("heads", heads, at_least=0) * checks.integer("head_dim", head_dim, at_least=1) + embed_dim


def multi_head_capacity(heads: int, head_dim: int, embed_dim: int, context_length: int) -> int:
    r"""Return the number of examples that a multi-head attention layer without skip stores, after Mahdavi et al.

    .. math:: H (\min(n, d_h) - 1) + 1, \qquad n = S \text{ the number of keys}

    Conditions: n ≤ d; the queries have Kruskal rank at least n (any n of them are independent) and the n inputs of each
    example are independent. Two contexts with the same last token have the same query, so that for n-gram tables
    with more than N contexts the conditions fail and the number is a reference line, not a theorem; it is below
    `attention_only_capacity` wherever that is not clipped.

    Status: **published**, with n in its place: the figures of 2411.10115 put d − 1 or d_h − 1 where min(n, d_h) − 1
    belongs and so overstate it (H = 31, S = 2, d = d_h = 10: plotted 280, true 32). Tight for shared keys, where H
    softmax matrices stacked have this rank.

    Args:
        heads: H, from 0 up.
        head_dim: d_h, from 1 up.
        embed_dim: d, from n up.
        context_length: n, the number of tokens that are attended to.

    Returns:
        The number of examples.

    Raises:
        ValueError: on sizes out of range, or n > d.

    Source:
        Mahdavi, Liao, Thrampoulidis 2023 (2306.02010), Theorem 1.

    Example:
        >>> multi_head_capacity(31, 10, 10, context_length=2)
        32
    """
    checks.integer("heads", heads, at_least=0)
    checks.integer("head_dim", head_dim, at_least=1)
    checks.integer("embed_dim", embed_dim, at_least=1)
    checks.integer("context_length", context_length, at_least=1, at_most=embed_dim)
    return heads * (min(context_length, head_dim) - 1) + 1


def _check_sizes(heads: Any, head_dim: Any, embed_dim: Any, vocab_size: Any, context_length: Any) -> None:
    checks.integer("heads", heads, at_least=0)
    checks.integer("head_dim", head_dim, at_least=1)
    checks.integer("embed_dim", embed_dim, at_least=2)
    checks.integer("vocab_size", vocab_size, at_least=2, at_most=MAX_VOCAB_SIZE)
    checks.integer("context_length", context_length, at_least=1, at_most=MAX_CONTEXT_LENGTH)


def _contexts(contexts: Any, last_tokens: Any, vocab_size: int, context_length: int) -> tuple[int, int]:
    """(T, L), checked to be possible for distinct contexts."""
    per_last_token = vocab_size ** (context_length - 1)
    count = vocab_size * per_last_token
    if contexts is not None:
        count = checks.integer("contexts", contexts, at_least=0, at_most=count)
    fewest = -(-count // per_last_token)
    if last_tokens is None:
        return count, fewest
    return count, checks.integer("last_tokens", last_tokens, at_least=fewest, at_most=min(vocab_size, count))


def _per_head(head_dim: int, embed_dim: int, vocab_size: int, context_length: int, last_tokens: int) -> int:
    """Dimensions that a head adds to the skip: of the differences x(t,s) − x(t,S), as far as it keeps them apart."""
    if context_length == 1:
        return 0
    differences = vocab_size + context_length - 2
    if last_tokens == 1 and embed_dim >= differences:
        return min(head_dim, differences - 1)
    return min(head_dim, embed_dim, differences)
