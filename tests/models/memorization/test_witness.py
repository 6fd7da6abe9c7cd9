"""The constructed transformers store what they claim, in both architectures, and nothing beyond their capacity."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.models.memorization import (
    AttentionOnlyTransformer,
    CompressedAttentionTransformer,
    memorizing_transformer,
)
from tests.strategies import generators

ARCHITECTURES = {"attention-only": AttentionOnlyTransformer, "compressed": CompressedAttentionTransformer}
architectures = st.sampled_from(list(ARCHITECTURES))


def some_contexts(random: np.random.Generator, vocab_size: int, length: int, count: int, last: int) -> np.ndarray:
    """At most ``count`` distinct contexts in random order whose last tokens are below ``last``."""
    every = np.indices((vocab_size,) * length).reshape(length, -1).T
    every = every[every[:, -1] < last]
    return every[random.permutation(len(every))[:count]]


def apart(contexts: np.ndarray, vocab_size: int) -> np.ndarray:
    """Without those that one head cannot tell from others of their last token, of which its sums are combinations.

    The exponentials that a head adds belong to positions and tokens: (1, 2), (1, 0), (2, 2), (2, 0) before one last
    token have rank 3.
    """
    kept: list[np.ndarray] = []
    for context in contexts:
        group = np.array([other for other in kept if other[-1] == context[-1]] + [context])
        marks = np.eye(vocab_size)[group].reshape(len(group), -1)
        if np.linalg.matrix_rank(marks) == len(group):
            kept.append(context)
    return np.array(kept)


@st.composite
def problems(draw: st.DrawFn) -> dict:
    """Distinct contexts at the capacity or below it, for heads whose features have that rank in float64.

    Heads of dimension 1 are few: what they can tell apart is one number, and many are alike in float64.
    """
    random = draw(generators())
    vocab_size, length = draw(st.integers(3, 6)), draw(st.integers(2, 3))
    dim = draw(st.integers(2, 4))
    head_dim = draw(st.integers(2, dim))
    heads = draw(st.integers(0, 5))
    last = draw(st.integers(1, vocab_size))
    # One shared last token leaves the heads a smaller space, see the rank formula: then d_h < N + S − 2.
    head_dim = min(head_dim, vocab_size + length - 3)
    contexts = some_contexts(random, vocab_size, length, heads * head_dim + min(dim, last), last)
    while len(contexts) > heads * head_dim + min(dim, len(np.unique(contexts[:, -1]))):
        contexts = contexts[:-1]
    if heads == 1:
        contexts = apart(contexts, vocab_size)
    used = len(np.unique(contexts))
    if used + length - 3 < head_dim:  # outside the conditions of the rank formula: fewer tokens than named
        contexts = contexts[:1]
    return {
        "contexts": contexts,
        "sizes": {"heads": heads, "head_dim": head_dim, "embed_dim": dim, "vocab_size": vocab_size},
        "random": random,
    }


@given(problem=problems(), architecture=architectures)
@settings(max_examples=60)
def test_labels_are_stored(problem, architecture):
    """Token by token and in the table of all contexts, the largest logit is the label's."""
    contexts, sizes = problem["contexts"], problem["sizes"]
    labels = problem["random"].integers(sizes["vocab_size"], size=len(contexts))
    stored = memorizing_transformer(contexts, labels, **sizes, architecture=architecture)
    assert isinstance(stored.model, ARCHITECTURES[architecture])
    assert stored.associations == len(contexts) <= stored.capacity
    assert stored.accuracy == 1
    assert stored.margin > 0
    logits = stored.model(torch.tensor(contexts)).detach().numpy()
    np.testing.assert_array_equal(logits.argmax(1), labels)
    top = np.sort(logits, axis=1)
    assert stored.margin == pytest.approx((top[:, -1] - top[:, -2]).min())
    weights = sizes["vocab_size"] ** np.arange(contexts.shape[1] - 1, -1, -1)
    np.testing.assert_array_equal(stored.model.table_logits().argmax(1).numpy()[contexts @ weights], labels)


@given(problem=problems(), architecture=architectures, data=st.data())
@settings(max_examples=60)
def test_a_sequence_encoder_is_reproduced(problem, architecture, data):
    """The logits on the stored contexts are those of W E, also for states of lower rank."""
    contexts, sizes, random = problem["contexts"], problem["sizes"], problem["random"]
    writable = sizes["embed_dim"] if architecture == "attention-only" else sizes["head_dim"]
    rank = data.draw(st.integers(1, writable))
    width = data.draw(st.integers(rank, sizes["embed_dim"]))
    states = random.normal(size=(len(contexts), rank)) @ random.normal(size=(rank, width))
    unembedding = random.normal(size=(sizes["vocab_size"], width))
    stored = memorizing_transformer(contexts, targets=(states, unembedding), **sizes, architecture=architecture)
    expected = states @ unembedding.T
    logits = stored.model(torch.tensor(contexts)).detach().numpy()
    error = np.abs(logits - expected).max()
    # The construction gives out nothing worse than 1e-3; it looks for 1e-6 in eight draws.
    assert error <= 1e-3 * np.abs(expected).max()
    # The report sums in another order; large weights that cancel make that felt.
    assert stored.logit_error == pytest.approx(error, rel=0.1, abs=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("vocab_size", "length", "dim", "head_dim", "heads"), [(10, 2, 2, 2, 49), (10, 3, 4, 4, 40), (30, 2, 6, 3, 30)]
)
def test_larger_tables(architecture, vocab_size, length, dim, head_dim, heads):
    """At capacity, hundreds of associations with a margin far above the error."""
    random = np.random.default_rng(0)
    count = heads * head_dim + dim
    contexts = some_contexts(random, vocab_size, length, count, vocab_size)
    labels = random.integers(vocab_size, size=len(contexts))
    stored = memorizing_transformer(
        contexts, labels, heads=heads, head_dim=head_dim, embed_dim=dim, architecture=architecture
    )
    assert stored.associations == stored.capacity == count
    assert stored.accuracy == 1
    assert stored.margin > 1e3 * stored.logit_error
    # On circles of frequencies f the margin is ∑ (1 − cos 2πf/N), up to the error.
    written = dim if architecture == "attention-only" else head_dim
    exact = sum(1 - np.cos(2 * np.pi * f / vocab_size) for f in range(1, written // 2 + 1))
    assert stored.margin == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("last", [1, 2, 6])
def test_compressed_heads_that_write_one_number(last):
    """Labels on a parabola: one number from the heads, the constant from the skip connection."""
    random = np.random.default_rng(2)
    contexts = some_contexts(random, 6, 2, 4 + min(3, last), last)
    labels = random.integers(6, size=len(contexts))
    stored = memorizing_transformer(
        contexts, labels, heads=4, head_dim=1, embed_dim=3, vocab_size=6, architecture="compressed"
    )
    assert stored.associations == stored.capacity
    assert stored.accuracy == 1
    assert stored.margin == pytest.approx(0.5, rel=1e-3)
    assert stored.model(torch.tensor(contexts)).argmax(1).tolist() == labels.tolist()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_labels_of_any_law(architecture):
    """All the same, only two, or a repetition of contexts with the same label: no degenerate basis."""
    contexts = [(i, j) for i in range(4) for j in range(3)]
    for labels in ([2] * 12, [0, 3] * 6, [3] + [0] * 11):
        stored = memorizing_transformer(
            contexts * 2, labels * 2, heads=5, head_dim=2, embed_dim=3, vocab_size=4, architecture=architecture
        )
        assert stored.associations == 12
        assert stored.accuracy == 1


def test_small_components_of_targets_are_kept():
    """States whose second direction is 1e-8 of the first are stored with it."""
    states = np.array([[1.0, 1e-8], [1.0, -1e-8], [1.0, 0.0]])
    stored = memorizing_transformer(
        [(0, 1), (1, 2), (2, 0)], targets=(states, np.eye(3)[:, :2]), heads=1, head_dim=2, embed_dim=2
    )
    # Of the order of the rounding of logits of size one, times a condition of a hundred or so.
    assert stored.logit_error < 1e-12


def test_targets_of_zero():
    """A constant encoder is stored too."""
    stored = memorizing_transformer(
        [(0, 1), (1, 1)], targets=(np.zeros((2, 2)), np.ones((3, 2))), heads=2, head_dim=2, embed_dim=2
    )
    assert stored.logit_error == 0


def test_the_seed_fixes_the_weights():
    """The same seed gives the same transformer, another seed another."""
    sizes = {"heads": 2, "head_dim": 2, "embed_dim": 2, "vocab_size": 3}
    contexts, labels = [(0, 1), (1, 2), (2, 0)], [1, 2, 0]
    first, again, other = (memorizing_transformer(contexts, labels, **sizes, seed=s).model.query for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_more_than_the_capacity_is_refused_and_unsolvable(architecture):
    """With the features that the construction freezes, capacity + 1 associations have no solution."""
    contexts = [(i, j) for i in range(6) for j in range(6)][: 5 * 2 + 3 + 1]
    sizes = {"heads": 5, "head_dim": 2, "embed_dim": 3}
    with pytest.raises(ValueError, match=r"at most 13 distinct ones, the capacity .* = 5\*2 \+ 3, got 14"):
        memorizing_transformer(contexts, [0] * 14, **sizes, architecture=architecture)
    model = ARCHITECTURES[architecture](6, 2, 5, 2, 3, init_scale=4.0, generator=torch.Generator().manual_seed(0))
    features = model.attention_features(torch.tensor(contexts)).detach()
    assert torch.linalg.matrix_rank(features) == 13
    assert torch.linalg.matrix_rank(features[:13]) == 13


def test_heads_wider_than_the_embedding_count_as_narrow():
    """A head sees d dimensions at most, whatever d_h."""
    contexts = [(i, j) for i in range(6) for j in range(6)]
    sizes = {"heads": 3, "head_dim": 5, "embed_dim": 2}
    with pytest.raises(ValueError, match=r"at most 8 distinct ones, .* = 3\*2 \+ 2, got 9"):
        memorizing_transformer(contexts[:9], [0] * 9, **sizes)
    for architecture in ARCHITECTURES:
        stored = memorizing_transformer(contexts[:8], [5, 0] * 4, **sizes, architecture=architecture)
        assert stored.accuracy == 1


def test_one_shared_last_token_lowers_the_capacity():
    """With a single last token the skip connection stores one association, not d."""
    contexts = [(i, 0) for i in range(5)]
    sizes = {"heads": 2, "head_dim": 1, "embed_dim": 2, "vocab_size": 5}
    with pytest.raises(ValueError, match=r"at most 3 distinct ones, .* = 2\*1 \+ 1, got 4"):
        memorizing_transformer(contexts[:4], [0, 1, 2, 3], **sizes)
    assert memorizing_transformer(contexts[:3], [0, 1, 2], **sizes).accuracy == 1


GOOD = {"contexts": [(0, 1), (1, 0)], "labels": [0, 1], "heads": 1, "head_dim": 2, "embed_dim": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contexts": [(0,), (1,)]}, "contexts must have at least two tokens, got 1"),
        ({"contexts": [(0, 1), (0, 1)]}, r"labels must be the same where a context is repeated, got .*\[0, 1\]"),
        (
            {"contexts": [(0, 1)] * 2, "labels": None, "targets": ([[1.0, 2.0], [1.0, 3.0]], np.eye(2))},
            "targets must be the same where a context is repeated",
        ),
        ({"contexts": [(0, 1), (1, -1)]}, "contexts must be integers from 0"),
        ({"contexts": [(0, 1), (1, 0.5)]}, "contexts must be integers from 0"),
        ({"contexts": [(0, 1), (1, 2)], "vocab_size": 2}, "contexts must be integers from 0 to 1, got 2"),
        ({"labels": [0, 2], "vocab_size": 2}, "labels must be integers from 0 to 1, got 2"),
        ({"labels": [0, 1, 1]}, "labels must have shape"),
        ({"labels": None}, "labels or targets must be given"),
        ({"targets": ([[1.0], [2.0]], [[1.0], [2.0]])}, "labels or targets must be given, and not both"),
        (
            {"labels": None, "targets": (np.ones((2, 1)), np.ones((1, 1)))},
            "unembedding of at least 2 tokens, got 1",
        ),
        ({"labels": None, "targets": (np.ones((2, 1)), np.ones((2, 1))), "vocab_size": 3}, "of 3 tokens, got 2"),
        ({"labels": None, "targets": 3}, "targets must be a pair"),
        ({"labels": None, "targets": (np.ones((2, 3)), np.ones((2, 3)))}, "at most 2 numbers, got 3"),
        ({"labels": None, "targets": (np.ones((3, 2)), np.ones((2, 2)))}, "targets.0. must have shape"),
        ({"labels": None, "targets": (np.ones((2, 2)), np.ones((2, 1)))}, "targets.1. must have shape"),
        ({"labels": None, "targets": (np.full((2, 1), np.nan), np.ones((2, 1)))}, "targets.0. must be finite"),
        ({"embed_dim": 1}, "embed_dim must be at least 2 for labels"),
        ({"heads": -1}, "heads must be at least 0"),
        ({"head_dim": 0}, "head_dim must be at least 1"),
        ({"architecture": "compresed"}, "did you mean 'compressed'"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"draws": 0}, "draws must be at least 1"),
        (
            {
                "labels": None,
                "targets": (np.eye(2), np.eye(2)),
                "head_dim": 1,
                "architecture": "compressed",
            },
            "targets must have rank at most 1, all that the heads write, got 2",
        ),
    ],
)
def test_bad_input_is_named(change, message):
    """Each argument is checked at the entry, with its value and what is allowed."""
    arguments = {**GOOD, **change}
    with pytest.raises(ValueError, match=message):
        memorizing_transformer(arguments.pop("contexts"), arguments.pop("labels"), **arguments)


def test_features_that_are_alike_in_float64_are_refused():
    """Forty compressed heads that see one number each differ by their sharpness only: an error, no wrong weights."""
    contexts = [(i, j) for i in range(10) for j in range(10)][:43]
    with pytest.raises(ValueError, match="features of rank 43 in float64, got less in 2 draws"):
        memorizing_transformer(
            contexts, [0] * 43, heads=40, head_dim=1, embed_dim=3, architecture="compressed", draws=2
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_contexts_that_no_weights_tell_apart_are_refused(architecture):
    """Four contexts in a rectangle before one last token have rank 3 in one head, though its capacity is five."""
    rectangle = [(1, 2, 0), (1, 0, 0), (2, 2, 0), (2, 0, 0)]
    sizes = {"head_dim": 4, "embed_dim": 4, "architecture": architecture}
    with pytest.raises(ValueError, match=r"features of rank 4, got 3 for almost all weights .* more heads break"):
        memorizing_transformer(rectangle, [0, 1, 2, 0], heads=1, **sizes)
    assert memorizing_transformer(rectangle, [0, 1, 2, 0], heads=2, **sizes).accuracy == 1
