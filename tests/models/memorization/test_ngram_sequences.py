"""The sampler of next-token laws against the exact law of its sequences."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.models.memorization import sample_sequences
from plumbline.models.memorization.sequences import _cumulative, _draw, empirical_law
from plumbline.theory.memorization import NgramTask, geometric_law, lookup_table
from tests.strategies import ngram_tasks, seeds


def exact_law(task: NgramTask, length: int) -> np.ndarray:
    """The probability of every sequence, (N,) * length, by the chain rule."""
    n, order = task.vocab_size, task.context_length
    law = task.prior.reshape((n,) * order)
    while law.ndim < length:
        steps = task.conditional.reshape((1,) * (law.ndim - order) + (n,) * (order + 1))
        law = law[..., None] * steps
    return law.sum(tuple(range(length, law.ndim)))


@pytest.mark.parametrize("length", [1, 2, 3, 5])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("window", [0, 2])
def test_the_law_of_sequences(length, order, window):
    """Chi-square of the counts of all sequences, shorter and longer than a context."""
    from scipy.stats import chi2

    initial = np.random.default_rng(order).dirichlet(np.ones(3**order))
    table = np.random.default_rng(7).dirichlet(np.full(3, 0.7), size=3**order)
    task = NgramTask(3, order, "table", table=table, initial=initial, window=window)
    draws = 40_000
    sample = sample_sequences(task, draws, length, generator=torch.Generator().manual_seed(11))
    assert sample.shape == (draws, length)
    assert sample.dtype == torch.int64
    expected = draws * exact_law(task, length).ravel()
    index = sample.numpy() @ 3 ** np.arange(length - 1, -1, -1)
    counts = np.bincount(index, minlength=3**length)
    # Cells of small expectation are thrown together, as the chi-square law asks.
    small = expected < 5
    observed = np.append(counts[~small], counts[small].sum())
    wanted = np.append(expected[~small], expected[small].sum())
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    statistic = ((observed - wanted) ** 2 / wanted).sum()
    # Fixed seed; a correct sampler fails one of the 24 cases at a random seed with probability 24e-6.
    assert statistic < chi2.ppf(1 - 1e-6, len(wanted) - 1)


@given(task=ngram_tasks(), length=st.integers(1, 5), seed=seeds)
@settings(max_examples=60)
def test_nothing_impossible_is_drawn(task, length, seed):
    """Every sequence has positive probability, and the seed fixes it."""
    sample = sample_sequences(task, 50, length, generator=torch.Generator().manual_seed(seed))
    assert sample.shape == (50, length)
    law = exact_law(task, length)
    assert (law[tuple(sample.mT.numpy())] > 0).all()
    again = sample_sequences(task, 50, length, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(sample, again)


def test_the_empirical_law_has_the_axes_of_the_joint_law():
    """Frequencies of (context, next token) converge to the joint law: an index swapped would be far off."""
    rng = np.random.default_rng(4)
    law = NgramTask(3, 2, "table", table=rng.dirichlet(np.ones(3), size=9), initial=rng.dirichlet(np.ones(9)))
    frequencies = empirical_law(law, 200_000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    # Standard error below 0.0012; five of them with 27 cells fail once in 1e5.
    np.testing.assert_allclose(frequencies.numpy(), law.prior[:, None] * law.conditional, atol=0.006)


def test_draws_at_the_ends_of_the_intervals():
    """u = 0 skips impossible tokens, a boundary belongs to the next one, and rounding adds no token at the end."""
    rows = np.array([[0.0, 0.5, 0.5, 0.0], [0.25, 0.0, 0.0, 0.75]])
    u = torch.tensor([0.0, 0.5, math.nextafter(1, 0), 0.0, 0.25, math.nextafter(1, 0)], dtype=torch.float64)
    row = torch.tensor([0, 0, 0, 1, 1, 1])
    assert _draw(_cumulative(rows, torch.device("cpu")), row, u).tolist() == [1, 2, 2, 0, 3, 3]
    tenths = np.full((1, 10), 0.1)  # their sum in float64 is the largest number below 1
    assert np.cumsum(tenths)[-1] == math.nextafter(1, 0)
    assert _draw(_cumulative(tenths, torch.device("cpu")), row[:1], u[2:3]).tolist() == [9]


def test_a_look_up_table_is_followed():
    """Every further token is the label of the context before it."""
    task = lookup_table(5, 2, seed=3)
    labels = task.labels.reshape(5, 5)
    for sequence in sample_sequences(task, 20, 7, generator=torch.Generator().manual_seed(0)).tolist():
        assert all(labels[a, b] == c for a, b, c in zip(sequence, sequence[1:], sequence[2:], strict=False))


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 8, 9])
def test_every_token_is_found(size):
    """Bisection reaches each token of vocabularies around powers of two."""
    task = NgramTask(size, 1, "uniform")
    sample = sample_sequences(task, 3000, 2, generator=torch.Generator().manual_seed(2))
    # A given pair is missing with probability (1 − 1/81)^3000 < 1e-16.
    assert set(map(tuple, sample.tolist())) == set(itertools.product(range(size), repeat=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": 3}, "task must be an NgramTask"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"length": 0}, "length must be at least 1"),
        ({"length": math.pi}, "length must be an integer"),
        ({"generator": None}, "generator must be a torch.Generator"),
        ({"device": "nowhere"}, "device must name a torch device"),
    ],
)
def test_bad_input_is_named(change, message):
    """Each argument is checked at the entry."""
    good = {
        "task": geometric_law(3, ratio=0.5),
        "batch": 2,
        "length": 3,
        "generator": torch.Generator(),
        "device": None,
    }
    arguments = {**good, **change}
    with pytest.raises(ValueError, match=message):
        sample_sequences(arguments.pop("task"), arguments.pop("batch"), arguments.pop("length"), **arguments)
