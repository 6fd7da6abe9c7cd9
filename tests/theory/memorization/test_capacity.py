"""Capacity: the closed forms against exact ranks, counterexamples to the published form, parameter counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.memorization import (
    attention_only_capacity,
    attention_only_parameters,
    compressed_attention_capacity,
    compressed_attention_parameters,
    generic_rank,
    heads_needed,
    multi_head_capacity,
    published_capacity,
    sequence_encoder_parameters,
)
from tests.references import attention_features
from tests.strategies import seeds

SIZES = {
    "heads": st.integers(0, 6), "head_dim": st.integers(1, 7), "embed_dim": st.integers(2, 6), "n": st.integers(2, 5),
    "length": st.integers(1, 3),
}  # fmt: skip


def all_contexts(n, length):
    return np.indices((n,) * length).reshape(length, -1).T


@given(**SIZES)
def test_attention_only_capacity_is_the_rank(heads, head_dim, embed_dim, n, length):
    """All contexts: the closed form is the exact generic rank, proved by bounds that meet."""
    sizes = (heads, head_dim, embed_dim, n, length)
    result = generic_rank(*sizes)
    assert result.exact
    assert attention_only_capacity(*sizes) == result.rank


@given(**SIZES)
def test_compressed_capacity_is_the_rank(heads, head_dim, embed_dim, n, length):
    """The same for the architecture of the published code."""
    sizes = (heads, head_dim + 1, embed_dim, n, length)
    result = generic_rank(*sizes, architecture="compressed")
    assert result.exact
    assert compressed_attention_capacity(*sizes) == result.rank


@given(**SIZES, last=st.integers(1, 5))
def test_capacity_with_few_last_tokens(heads, head_dim, embed_dim, n, length, last):
    """All contexts that end in one of L tokens: the closed forms with T = L N^(S−1), one direction less if L = 1."""
    last = min(last, n)
    contexts = all_contexts(n, length)
    contexts = contexts[contexts[:, -1] < last]
    sizes = (heads, head_dim + 1, embed_dim, n, length)
    assert attention_only_capacity(*sizes, len(contexts), last) == generic_rank(*sizes, contexts).rank
    found = generic_rank(*sizes, contexts, architecture="compressed").rank
    assert compressed_attention_capacity(*sizes, len(contexts), last) == found
    # The fewest last tokens that so many contexts can have are these.
    assert attention_only_capacity(*sizes, len(contexts)) == attention_only_capacity(*sizes, len(contexts), last)


@pytest.mark.parametrize("excess", [-1, 0, 1])
@pytest.mark.parametrize(("n", "length"), [(3, 3), (4, 3), (2, 5), (3, 4)])
def test_one_shared_last_token(n, length, excess):
    """d below, at and above the N + S − 2 differences: the linear relation of each head costs one direction or none."""
    contexts = all_contexts(n, length)
    contexts = contexts[contexts[:, -1] == 0]
    embed_dim, count = n + length - 2 + excess, len(contexts)
    found = []
    for head_dim in (n + length - 3, n + length - 2, n + length):
        sizes = (1, head_dim, embed_dim, n, length)
        found.append(attention_only_capacity(*sizes, count, 1))
        assert found[-1] == generic_rank(*sizes, contexts).rank
        assert compressed_attention_capacity(*sizes, count, 1) == (
            generic_rank(*sizes, contexts, architecture="compressed").rank
        )
    assert found == [n + length - 2] * 3
    # The compressed architecture tells N tokens apart from d = N − 1 on, whatever the positions.
    for embed_dim in (n - 2, n - 1, n):
        if embed_dim >= 2:
            sizes = (1, n + length, embed_dim, n, length)
            rank = generic_rank(*sizes, contexts, architecture="compressed").rank
            assert compressed_attention_capacity(*sizes, count, 1) == rank


@given(seed=seeds, heads=st.integers(0, 6), head_dim=st.integers(1, 6), embed_dim=st.integers(2, 6),
       n=st.integers(6, 9), length=st.integers(2, 3))  # fmt: skip
def test_capacity_of_random_contexts(seed, heads, head_dim, embed_dim, n, length):
    """Fifty contexts drawn at random, out of at least 36: the closed form with their number of last tokens."""
    random = np.random.default_rng(seed)
    contexts = random.permutation(all_contexts(n, length))[:50]
    sizes = (heads, head_dim, embed_dim, n, length)
    result = generic_rank(*sizes, contexts)
    assert result.rank <= attention_only_capacity(*sizes, len(contexts), len(np.unique(contexts[:, -1])))
    if result.exact:
        assert result.rank == attention_only_capacity(*sizes, len(contexts), len(np.unique(contexts[:, -1])))


def test_random_contexts_are_in_general_position():
    """Of 60 random sets, at least 58 have exactly the capacity of their sizes: the bounds meet."""
    random = np.random.default_rng(0)
    exact = 0
    for _ in range(60):
        n, length = int(random.integers(5, 9)), int(random.integers(2, 4))
        sizes = (int(random.integers(1, 7)), int(random.integers(1, 6)), int(random.integers(2, 7)), n, length)
        contexts = random.permutation(all_contexts(n, length))[: random.integers(10, 60)]
        exact += generic_rank(*sizes, contexts).exact
    assert exact >= 58


COUNTEREXAMPLES = {
    # name: (H, d_h, d, N, S, contexts, published, true)
    "context length 1": (2, 2, 2, 6, 1, None, 6, 2),
    "one shared last token": (0, 1, 2, 2, 2, [[0, 0], [1, 0]], 2, 1),
    "shared last token, one head": (1, 1, 2, 5, 2, [[i, 0] for i in range(5)], 3, 2),
    "shared last token, two heads": (2, 1, 2, 5, 2, [[i, 0] for i in range(5)], 4, 3),
    "wide heads": (20, 10, 5, 16, 2, None, 205, 105),
    "few tokens": (2, 6, 6, 3, 3, None, 18, 11),
    "more than all contexts": (9, 2, 2, 3, 2, None, 20, 9),
}


@pytest.mark.parametrize("name", COUNTEREXAMPLES)
def test_counterexamples_to_the_published_form(name):
    """Published, corrected and exact rank; and by floating-point features that no draw does better."""
    heads, head_dim, embed_dim, n, length, contexts, published, true = COUNTEREXAMPLES[name]
    assert published_capacity(heads, head_dim, embed_dim) == published
    result = generic_rank(heads, head_dim, embed_dim, n, length, contexts)
    assert (result.rank, result.exact) == (true, True)
    table = all_contexts(n, length) if contexts is None else np.array(contexts)
    last = len(np.unique(table[:, -1]))
    assert attention_only_capacity(heads, head_dim, embed_dim, n, length, len(table), last) == true
    z, _ = attention_features(table, heads, head_dim, embed_dim, n, np.random.default_rng(0))
    # Upper bound for every weights: singular values beyond it are rounding.
    values = np.linalg.svd(z, compute_uv=False)
    assert len(values) <= true or values[true] < 1e-12 * values[0]


def test_context_length_one_has_no_use_for_heads():
    """N tokens, at most d of them with targets of their own."""
    assert [attention_only_capacity(5, 3, 3, n, 1) for n in (2, 3, 9)] == [2, 3, 3]
    assert compressed_attention_capacity(5, 3, 3, 9, 1) == 4
    assert heads_needed(3, 2, 3, 9, 1) == 0
    with pytest.raises(ValueError, match="contexts must be at most embed_dim 3 for context_length 1"):
        heads_needed(4, 2, 3, 9, 1)


@given(**SIZES, data=st.data())
def test_heads_needed_is_the_least(heads, head_dim, embed_dim, n, length, data):
    """So many heads store T contexts, one fewer do not."""
    length += 1
    count = data.draw(st.integers(1, n**length))
    last = data.draw(st.none() | st.integers(-(-count // n ** (length - 1)), min(n, count)))
    needed = heads_needed(count, head_dim, embed_dim, n, length, last)
    assert attention_only_capacity(needed, head_dim, embed_dim, n, length, count, last) == count
    if needed:
        assert attention_only_capacity(needed - 1, head_dim, embed_dim, n, length, count, last) < count
    assert attention_only_capacity(heads, head_dim, embed_dim, n, length) <= n**length


# Sizes (H, d_h, d, N, S): corrected capacity, Mahdavi et al. as it applies, parameters of the paper, with rank-one
# query-key products, of the code with dead parameters. Computed independently.
REFERENCES = [
    ((1, 10, 10, 50, 2), 20, 2, 1420, 1240, 1630),
    ((31, 10, 10, 50, 2), 320, 32, 13420, 7840, 13630),
    ((20, 1, 10, 50, 2), 30, 1, 1820, 1820, 1103),
    ((22, 8, 10, 50, 2), 186, 23, 8060, 4980, 6816),
    ((249, 10, 10, 50, 2), 2500, 250, 100620, 55800, 100830),
    ((300, 10, 10, 50, 2), 2500, 301, 121020, 67020, 121230),
    ((21, 2, 2, 10, 2), 44, 22, 380, 296, 390),
    ((11, 50, 50, 200, 2), 600, 12, 130100, 76200, 135150),
    ((0, 2, 2, 10, 2), 2, 1, 44, 44, 54),
    ((20, 10, 5, 50, 2), 105, 21, 4510, 2710, 8630),
]


@pytest.mark.parametrize(("sizes", "capacity", "mahdavi", "paper", "rank_one", "code"), REFERENCES)
def test_reference_numbers(sizes, capacity, mahdavi, paper, rank_one, code):
    """The published experiments' sizes."""
    assert attention_only_capacity(*sizes) == capacity
    assert multi_head_capacity(*sizes[:3], sizes[4]) == mahdavi
    assert mahdavi <= capacity
    assert attention_only_parameters(*sizes) == paper
    assert attention_only_parameters(*sizes, rank_one=True) == rank_one
    assert compressed_attention_parameters(*sizes, dead=True) == code


@pytest.mark.parametrize(("heads", "keys"), [(3, 4), (5, 6), (1, 5), (0, 3)])
def test_multi_head_capacity_is_tight_for_shared_keys(heads, keys):
    """Rank of H softmax matrices (T, n) side by side: H (n − 1) + 1, as each has rows that sum to one."""
    if heads == 0:
        assert multi_head_capacity(0, keys, keys, keys) == 1
        return
    random = np.random.default_rng(keys)
    scores = np.exp(2 * random.normal(size=(heads, 60, keys)))
    weights = np.concatenate(scores / scores.sum(axis=2, keepdims=True), axis=1)
    assert np.linalg.matrix_rank(weights, tol=1e-9) == multi_head_capacity(heads, keys + 2, keys + 1, keys)
    assert multi_head_capacity(heads, 2, keys, keys) == heads + 1


@given(**SIZES, layers=st.integers(1, 3), width=st.integers(0, 4))
def test_parameters_are_counted(heads, head_dim, embed_dim, n, length, layers, width):
    """Against lists of the shapes of all weights."""
    d, h = embed_dim, head_dim
    paper = [(n, d), (d, n), (length, d), *heads * [(h, d), (h, d), (h, d), (d, h)]]
    assert attention_only_parameters(heads, h, d, n, length) == sum(a * b for a, b in paper)
    rank_one = [(n, d), (d, n), (length, d), *heads * [(1, d), (1, d), (h, d), (d, h)]]
    assert attention_only_parameters(heads, h, d, n, length, rank_one=True) == sum(a * b for a, b in rank_one)
    mlp = [(width, d), (d, width), (1, width)]
    code = [(n, d), (d, n), (length, h), *layers * (heads * [(3 * h, h), (h, h)] + mlp)]
    shared = [(h, d), (d, h)]
    used = sum(a * b for a, b in code + shared * (h != d))
    sizes = (heads, h, d, n, length)
    assert compressed_attention_parameters(*sizes, layers=layers, mlp_width=width) == used
    allocated = sum(a * b for a, b in [*code, *shared, (1, h)])
    assert compressed_attention_parameters(*sizes, layers=layers, mlp_width=width, dead=True) == allocated
    assert sequence_encoder_parameters(d, n, length) == n**length * d + d * n
