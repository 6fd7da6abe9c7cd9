"""The generic rank of attention features, proved for given sizes by exact arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from plumbline.theory import checks
from plumbline.theory.memorization.modular import PRIME, inverse, pivot_columns, power

Architecture = Literal["attention_only", "compressed"]
ARCHITECTURES = ("attention_only", "compressed")
MAX_FEATURES = 3 * 10**7
"""Largest number of entries of the feature matrix: 240 MB, and minutes of elimination."""
MAX_SIZE = 10**5
"""Largest sizes of a model: sums of so many products of residues stay below 2^63."""

MAX_LENGTH = 24
"""No longer contexts fit `MAX_FEATURES` all together, even with two tokens."""


@dataclass(frozen=True)
class GenericRank:
    """A proved lower bound of a generic rank, and a proved upper bound.

    Attributes:
        rank: Rank found in exact arithmetic: almost all weights have at least this rank.
        upper_bound: No weights have more.
        draws: Number of weights that were tried.
    """

    rank: int
    upper_bound: int
    draws: int

    @property
    def exact(self) -> bool:
        """Whether the two bounds meet, so that the generic rank is proved."""
        return self.rank == self.upper_bound


def generic_rank(
    heads: int,
    head_dim: int,
    embed_dim: int,
    vocab_size: int,
    context_length: int,
    contexts: Any = None,
    *,
    architecture: Architecture = "attention_only",
    seed: int = 0,
    draws: int = 2,
) -> GenericRank:
    r"""Return the rank of the features of one attention layer over contexts, for almost all weights.

    .. math:: Z = [x(t,S); W_V^1 A^1(t); …; W_V^H A^H(t)]_t, \qquad A^h(t) = \sum_s a^h_s(t) x(t,s)

    with softmax weights a and x(t,s) = e(t_s) + pos_s for ``"attention_only"``; the published code
    (``"compressed"``) has the skip e(t_S) and attends over C e(t_s) + pos_s ∈ R^{d_h}. The readout of Z is free,
    so the rank is the number of contexts whose targets can be chosen at will.

    Lower bound: embeddings and weights are integers and the scores are multiplied by log x, so that a minor of
    Z is a rational function of x; it is evaluated modulo a prime. Where it is not 0 there, it is not 0 as an
    analytic function of the weights, hence for almost all of them. No rounding enters. Upper bound: A^h − x(t,S)
    lies in the span of the x(t,s) − x(t,S), of dimension q, so a head adds at most min(d_h, q) to the skip; where
    all contexts share the last token and d allows q to count every token and position, one less, because
    Σ_{s<S} a_s (exp(−score of t_s) + κ) = κ is a linear relation in each head.

    Conditions: none on sizes but that Z has at most 3e7 entries. The lower bound misses the generic rank with
    a probability of about (rank / 8.4e6) per draw.

    Args:
        heads: H, from 0 up.
        head_dim: d_h, from 1 up.
        embed_dim: d, from 1 up.
        vocab_size: N.
        context_length: S.
        contexts: Distinct contexts (T, S); ``None`` is all N^S.
        architecture: ``"attention_only"`` (the paper) or ``"compressed"`` (its code, one head per module).
        seed: Seed of the integer weights.
        draws: Number of weights to try, as long as the bounds do not meet.

    Returns:
        `GenericRank`; the rank is proved where it equals the upper bound.

    Raises:
        ValueError: on sizes out of range, or contexts that are not distinct contexts of tokens.

    Source:
        Derived here. Lemma 2 of Dana, Pydi, Chevaleyre 2024 (2411.10115) claims min(T, H d) for the A^h alone, by
        a proof that needs S ≥ d + 1; for S = 1 it fails (rank min(d, N)).

    Example:
        >>> generic_rank(2, 2, 3, vocab_size=4, context_length=2)
        GenericRank(rank=7, upper_bound=7, draws=1)
    """
    sizes = _sizes(heads, head_dim, embed_dim, vocab_size, context_length)
    checks.one_of("architecture", architecture, ARCHITECTURES)
    checks.integer("seed", seed, at_least=0)
    checks.integer("draws", draws, at_least=1)
    table = distinct_contexts(contexts, sizes)
    bound = _upper_bound(sizes, table, architecture)
    rank, tried = 0, 0
    for tried in range(1, draws + 1):
        random = np.random.Generator(np.random.PCG64([seed, tried]))
        rank = max(rank, len(pivot_columns(_features(sizes, table, architecture, random))))
        if rank == bound:
            break
    return GenericRank(rank, bound, tried)


def independent_contexts(
    heads: int,
    head_dim: int,
    embed_dim: int,
    vocab_size: int,
    context_length: int,
    contexts: Any = None,
    *,
    architecture: Architecture = "attention_only",
    seed: int = 0,
) -> np.ndarray:
    r"""Return the indices of the contexts that one attention layer stores at once, the first ones preferred.

    A context is taken if its column of Z (see `generic_rank`) is no combination of those taken before. The sets that
    can be stored are the independent sets of a matroid, so that with contexts in descending order of
    probability no storable set has more mass.

    Conditions: as for `generic_rank`: every index returned is proved; one may be missed with probability of about
    1e-4.

    Args:
        heads: H, from 0 up.
        head_dim: d_h, from 1 up.
        embed_dim: d, from 1 up.
        vocab_size: N.
        context_length: S.
        contexts: Distinct contexts (T, S) in order of preference; ``None`` is all N^S in lexicographic order.
        architecture: ``"attention_only"`` (the paper) or ``"compressed"`` (its code, one head per module).
        seed: Seed of the integer weights.

    Returns:
        Ascending indices into the contexts.

    Raises:
        ValueError: on sizes out of range, or contexts that are not distinct contexts of tokens.

    Source:
        Derived here.

    Example:
        >>> independent_contexts(0, 1, 2, 4, 2, contexts=[[0, 1], [2, 1], [0, 2], [0, 3]]).tolist()
        [0, 2]
    """
    sizes = _sizes(heads, head_dim, embed_dim, vocab_size, context_length)
    checks.one_of("architecture", architecture, ARCHITECTURES)
    checks.integer("seed", seed, at_least=0)
    table = distinct_contexts(contexts, sizes)
    random = np.random.Generator(np.random.PCG64([seed, 0]))
    return pivot_columns(_features(sizes, table, architecture, random))


@dataclass(frozen=True)
class Sizes:
    """Sizes of a one-layer model and of the contexts it reads."""

    heads: int
    head_dim: int
    embed_dim: int
    vocab_size: int
    context_length: int


def _sizes(heads: Any, head_dim: Any, embed_dim: Any, vocab_size: Any, context_length: Any) -> Sizes:
    return Sizes(
        checks.integer("heads", heads, at_least=0, at_most=MAX_SIZE),
        checks.integer("head_dim", head_dim, at_least=1, at_most=MAX_SIZE),
        checks.integer("embed_dim", embed_dim, at_least=1, at_most=MAX_SIZE),
        checks.integer("vocab_size", vocab_size, at_least=2, at_most=MAX_SIZE),
        checks.integer("context_length", context_length, at_least=1, at_most=MAX_SIZE),
    )


def distinct_contexts(contexts: Any, sizes: Sizes) -> np.ndarray:
    """Return the contexts (T, S), all N^S where None; refuse repeated ones and a feature matrix that is too large."""
    rows = sizes.embed_dim + sizes.heads * sizes.head_dim
    n, length = sizes.vocab_size, sizes.context_length
    if contexts is None:
        if length > MAX_LENGTH or n**length * rows > MAX_FEATURES:
            raise ValueError(
                f"contexts must be given where all vocab_size^context_length contexts with {rows} features each are "
                f"more than {MAX_FEATURES} numbers, got None with vocab_size {n} and context_length {length}"
            )
        return np.indices((n,) * length).reshape(length, -1).T
    table = checks.tokens("contexts", contexts, (None, length), n)
    if len(table) * max(rows, length * min(sizes.head_dim, sizes.embed_dim)) > MAX_FEATURES:
        raise ValueError(
            f"contexts must have at most {MAX_FEATURES} features in total, got {len(table)} with {rows} each"
        )
    _, first = np.unique(table, axis=0, return_index=True)
    if len(first) < len(table):
        repeated = int(np.setdiff1d(np.arange(len(table)), first)[0])
        raise ValueError(f"contexts must be distinct, got {table[repeated].tolist()} again at index {repeated}")
    return table


def _upper_bound(sizes: Sizes, contexts: np.ndarray, architecture: Architecture) -> int:
    """min(T, H min(d_h, q) + what depends on the last token only), see `generic_rank`."""
    d, width = sizes.embed_dim, sizes.head_dim
    last_tokens = len(np.unique(contexts[:, -1]))
    all_tokens, tokens_and_positions = _span(contexts, None), _span(contexts, d)
    if architecture == "attention_only":
        span, constants = min(d, all_tokens), 0
    else:
        # A direction of R^{d_h} orthogonal to the differences reads C e(t_S) + pos_S: the skip has it but for pos_S.
        span = min(width, tokens_and_positions)
        constants = int(width > span and sizes.heads > 0)
    per_head = min(width, span)
    if last_tokens == 1 and span == all_tokens > 0:
        per_head = min(width, span - 1)
    return min(len(contexts), sizes.heads * per_head + min(d + constants, last_tokens))


def _span(contexts: np.ndarray, token_dim: int | None) -> int:
    """Dimension of span{x(t,s) − x(t,S)} with free positions and generic tokens in R^token_dim (None: independent)."""
    count, length = contexts.shape
    if length == 1:
        return 0
    used, tokens = np.unique(contexts, return_inverse=True)
    tokens = tokens.reshape(count, length)
    triples = np.stack(
        [tokens[:, :-1].ravel(), np.tile(np.arange(length - 1), count), np.repeat(tokens[:, -1], length - 1)]
    )
    v, s, c = np.unique(triples, axis=1)
    if len(v) * (len(used) + length) > MAX_FEATURES:
        raise ValueError(f"contexts must use fewer tokens and positions, got {len(used)} tokens in {count} contexts")
    vectors = np.eye(len(used), dtype=np.int64)
    if token_dim is not None and token_dim < len(used):
        vectors = np.random.Generator(np.random.PCG64(0)).integers(PRIME, size=(len(used), token_dim))
    positions = np.eye(length - 1, dtype=np.int64)
    return len(pivot_columns(np.concatenate([vectors[v] - vectors[c], positions[s]], axis=1)))


def _features(
    sizes: Sizes, contexts: np.ndarray, architecture: Architecture, random: np.random.Generator
) -> np.ndarray:
    """Z (d + H d_h, T) modulo the prime, for integer weights drawn at random."""
    d, width, n, length = sizes.embed_dim, sizes.head_dim, sizes.vocab_size, sizes.context_length

    def draw(*shape: int) -> np.ndarray:
        return random.integers(PRIME, size=shape)

    def mixture() -> np.ndarray:
        """One A^h (T, width of the attention); drawn again where a denominator is 0 modulo the prime."""
        while True:
            query, key = draw(values.shape[-1], width), draw(values.shape[-1], width)
            queries, keys = values[:, -1] % order @ query % order, values % order @ key % order
            weights = power(base, np.einsum("tj,tsj->ts", queries, keys) % order)
            total = weights.sum(axis=1) % PRIME
            if total.all():
                mixed = np.einsum("ts,tsi->ti", weights, values % PRIME) % PRIME
                return mixed * inverse(total)[:, None] % PRIME

    tokens, order, base = draw(n, d), PRIME - 1, random.integers(2, PRIME - 1)
    if architecture == "attention_only":
        inputs = tokens[:, None] + draw(length, d)
        skip = inputs[contexts[:, -1], -1]
    else:
        inputs = (tokens @ draw(d, width))[:, None] + draw(length, width)
        skip = tokens[contexts[:, -1]]
    values = inputs[contexts, np.arange(length)]  # (T, S, width of the attention), integers
    blocks = [skip % PRIME]
    blocks += [mixture() @ draw(values.shape[-1], width) % PRIME for _ in range(sizes.heads)]
    return np.concatenate(blocks, axis=1).T
