"""The exact rank certificate: elimination modulo a prime, both architectures, bounds that meet."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.memorization import generic_rank, independent_contexts, modular, rank
from plumbline.theory.memorization.modular import BLOCK, PRIME, inverse, pivot_columns, power
from tests.references import attention_features
from tests.strategies import seeds


def all_contexts(n, length):
    return np.indices((n,) * length).reshape(length, -1).T


def float_rank(contexts, heads, head_dim, embed_dim, vocab_size, *, compressed=False):
    """Largest numerical rank of the features over 8 draws of Gaussian weights.

    Singular values that are zero come out at 1e-16 of the largest; one draw can be nearly singular, not all of them.
    """
    ranks = []
    for seed in range(8):
        z, _ = attention_features(
            contexts,
            heads,
            head_dim,
            embed_dim,
            vocab_size,
            np.random.default_rng(seed),
            compressed=compressed,
            scale=4,
        )
        ranks.append(np.linalg.matrix_rank(z / np.linalg.norm(z, axis=1, keepdims=True), tol=1e-12))
    return max(ranks)


def greedy_columns(matrix):
    """Column by column in exact rationals: those that enlarge the span of the columns before."""
    basis, chosen = [], []
    for j, column in enumerate(np.array(matrix).T.tolist()):
        rest = [Fraction(x) for x in column]
        for pivot, vector in basis:
            rest = [x - rest[pivot] / vector[pivot] * y for x, y in zip(rest, vector, strict=True)]
        where = next((i for i, x in enumerate(rest) if x), None)
        if where is not None:
            basis.append((where, rest))
            chosen.append(j)
    return chosen


@given(seed=seeds, rows=st.integers(1, 8), columns=st.integers(1, 12), rank=st.integers(0, 8))
def test_pivot_columns_of_small_integers(seed, rows, columns, rank):
    """Against elimination in rationals: minors of such matrices are far below the prime."""
    random = np.random.default_rng(seed)
    matrix = random.integers(-1, 2, size=(rows, rank)) @ random.integers(-1, 2, size=(rank, columns))
    # Hadamard: an 8 × 8 minor with entries up to 8 can pass the prime, but is a multiple of it with probability 1e-7.
    np.testing.assert_array_equal(pivot_columns(matrix), greedy_columns(matrix))


@pytest.mark.parametrize(("rows", "columns", "rank"), [(200, 150, 97), (70, 300, 70), (300, 129, 129), (190, 190, 64)])
def test_pivot_columns_across_blocks(rows, columns, rank):
    """Products of random factors; columns that are combinations of those before are put in at known places."""
    random = np.random.default_rng(rank)
    places = np.sort(random.choice(columns, size=rank, replace=False))
    left = random.integers(PRIME, size=(rows, rank))
    right = np.zeros((rank, columns), dtype=np.int64)
    for j in range(columns):
        known = int(np.searchsorted(places, j))
        right[:known, j] = random.integers(PRIME, size=known)
        if known < rank and places[known] == j:
            right[known, j] = 1
    product = np.zeros((rows, columns), dtype=np.int64)
    for k in range(rank):
        product = (product + left[:, k : k + 1] * right[k] % PRIME) % PRIME
    assert columns > BLOCK
    np.testing.assert_array_equal(pivot_columns(product), places)


def test_modular_arithmetic():
    """Powers, inverses (Fermat), and no rounding in a block: BLOCK (PRIME − 1)² is below 2^53."""
    random = np.random.default_rng(0)
    values, exponents = random.integers(1, PRIME, size=50), random.integers(0, PRIME - 1, size=50)
    assert power(values, exponents).tolist() == [
        pow(int(v), int(e), PRIME) for v, e in zip(values, exponents, strict=True)
    ]
    np.testing.assert_array_equal(values * inverse(values) % PRIME, 1)
    assert all(PRIME % k for k in range(2, 2897))
    assert 2896**2 < PRIME < 2897**2
    assert BLOCK * (PRIME - 1) ** 2 + PRIME < 2**53


@given(
    n=st.integers(2, 4), length=st.integers(1, 3), embed_dim=st.integers(1, 5), head_dim=st.integers(1, 6),
    heads=st.integers(0, 4), compressed=st.booleans(),
)  # fmt: skip
def test_rank_of_floating_point_features(n, length, embed_dim, head_dim, heads, compressed):
    """Numerical rank of Z for real weights, built with softmax attention, equals the certificate, which is tight."""
    name = "compressed" if compressed else "attention_only"
    result = generic_rank(heads, head_dim, embed_dim, n, length, architecture=name)
    assert result.exact
    assert result.draws <= 2
    found = float_rank(all_contexts(n, length), heads, head_dim, embed_dim, n, compressed=compressed)
    assert found == result.rank


@given(
    n=st.integers(2, 4), length=st.integers(1, 3), embed_dim=st.integers(1, 5), head_dim=st.integers(1, 6),
    heads=st.integers(0, 4), compressed=st.booleans(), seed=seeds,
)  # fmt: skip
def test_rank_over_subsets(n, length, embed_dim, head_dim, heads, compressed, seed):
    """Random subsets in random order: bounds in order, the independent contexts are as many and independent."""
    random = np.random.default_rng(seed)
    contexts = all_contexts(n, length)
    contexts = random.permutation(contexts)[: random.integers(1, len(contexts) + 1)]
    name = "compressed" if compressed else "attention_only"
    sizes = (heads, head_dim, embed_dim, n, length)
    result = generic_rank(*sizes, contexts, architecture=name)
    assert result.rank <= result.upper_bound
    assert result.rank == float_rank(contexts, heads, head_dim, embed_dim, n, compressed=compressed)
    chosen = independent_contexts(*sizes, contexts, architecture=name)
    assert len(chosen) == result.rank
    assert float_rank(contexts[chosen], heads, head_dim, embed_dim, n, compressed=compressed) == len(chosen)
    # Greedy: a context that was passed over depends on those chosen before it.
    for j in sorted(set(range(len(contexts))) - set(chosen.tolist()))[:1]:
        before = contexts[[*chosen[chosen < j], j]]
        assert generic_rank(*sizes, before, architecture=name).rank == len(before) - 1


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((3, 6, 4), 20), ((5, 10, 6), 42), ((4, 4, 5), 24), ((4, 3, 5), 19), ((4, 5, 5), 29)],
)
def test_reference_ranks_of_the_code(sizes, expected):
    """Ranks of the published code's architecture measured independently, for (d, d_h, H) at S = 2."""
    embed_dim, head_dim, heads = sizes
    result = generic_rank(heads, head_dim, embed_dim, 15, 2, architecture="compressed")
    assert (result.rank, result.exact) == (expected, True)


@pytest.mark.parametrize(("heads", "expected"), [(3, 13), (4, 17), (5, 21), (6, 25)])
def test_one_last_token_costs_a_direction_per_head(heads, expected):
    """N = 3, S = 4, d = d_h = 5, one last token: ranks confirmed elsewhere with 60 digits; H (q − 1) + 1."""
    contexts = [[a, b, c, 0] for a in range(3) for b in range(3) for c in range(3)]
    result = generic_rank(heads, 5, 5, 3, 4, contexts)
    assert (result.rank, result.exact) == (expected, True)


def test_structured_contexts_have_less():
    """Contexts (c, c): a head adds one direction, d + H in all, which the span bound knows."""
    contexts = [[c, c] for c in range(30)]
    results = [generic_rank(h, 5, 5, 30, 2, contexts) for h in (0, 1, 4)]
    assert [(result.rank, result.exact) for result in results] == [(5, True), (6, True), (9, True)]
    # With ten other contexts the span bound does not see it, and the certificate says that it is not tight.
    mixed = contexts + [[c, 0] for c in range(1, 11)]
    result = generic_rank(4, 5, 5, 30, 2, mixed)
    assert result.rank == 19
    assert result.upper_bound == 25
    assert not result.exact
    assert float_rank(np.array(mixed), 4, 5, 5, 30) == 19


def test_the_largest_published_size():
    """N = 30, S = 2 with d = d_h = 10: 89 heads give all 900 contexts, proved; 88 do not."""
    assert generic_rank(89, 10, 10, 30, 2).rank == 900
    result = generic_rank(88, 10, 10, 30, 2)
    assert (result.rank, result.exact) == (890, True)


def test_a_denominator_of_zero_proves_nothing(monkeypatch):
    """Modulo a small prime denominators vanish often; weights are drawn again, and no rank passes the upper bound.

    Here a column with a wrong A^h would break the linear relation of contexts that share their last token.
    """
    monkeypatch.setattr(modular, "PRIME", 101)
    monkeypatch.setattr(rank, "PRIME", 101)
    contexts = [[a, b, c, 0] for a in range(3) for b in range(3) for c in range(3)]
    ranks = {generic_rank(3, 5, 5, 3, 4, contexts, seed=seed).rank for seed in range(30)}
    assert max(ranks) == 13


def test_random_zeros_modulo_the_prime_are_no_loss():
    """Other seeds, other weights: the same rank."""
    assert {generic_rank(5, 3, 3, 8, 2, seed=seed, draws=1).rank for seed in range(20)} == {18}
