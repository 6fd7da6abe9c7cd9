"""The samplers have exactly the law of the task, and a seed is all that decides."""

import collections
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from plumbline.models.reasoning import sample_label_counts, sample_sentences, sample_token_counts
from plumbline.theory.reasoning import ReasoningTask, enumerate_population
from tests.strategies import reasoning_tasks

# Each statistical test below fails with this probability at its fixed seed; it was drawn once.
LEVEL = 1e-3


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def p_value(counts: np.ndarray, probabilities: np.ndarray) -> float:
    return stats.chisquare(counts, counts.sum() * probabilities).pvalue


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize(
    "task", [ReasoningTask(6, 4, 2, 2), ReasoningTask(5, 7, 1, 2, noise=0.3), ReasoningTask(5, 6, 1, 2, noise=0.7)]
)
def test_every_sentence_has_its_probability(task, unseen):
    """Sentences and labels against the exact probabilities of all of them (chi-square)."""
    population = enumerate_population(task, unseen=unseen)
    index = {tuple(sentence): i for i, sentence in enumerate(population.sentences.tolist())}
    tokens, labels, outputs = sample_sentences(task, 60_000, unseen=unseen, generator=draws(0))
    rows = np.array([index[tuple(sentence)] for sentence in tokens.tolist()])
    assert (population.outputs[rows] == outputs.numpy()).all()
    assert p_value(np.bincount(rows, minlength=len(index)), population.probabilities) > LEVEL
    noisy = labels == task.noise_token
    assert torch.equal(labels[~noisy], outputs[~noisy])
    # Independent of the sentence: a 2 by (number of sentences) table.
    if task.noise:
        assert stats.binomtest(int(noisy.sum()), len(noisy), task.noise).pvalue > LEVEL
        table = np.stack([np.bincount(rows[noisy.numpy() == flag], minlength=len(index)) for flag in (True, False)])
        assert stats.chi2_contingency(table).pvalue > LEVEL
    else:
        assert not noisy.any()


@given(reasoning_tasks(), st.integers(0, 2**31), st.booleans())
def test_every_sentence_is_one_of_the_law(task, seed, unseen):
    """The trigger stands last and before the output and, with noise, the noise token; nothing else is special."""
    if unseen and not task.unseen_tokens:
        return
    tokens, labels, outputs = sample_sentences(task, 20, unseen=unseen, generator=draws(seed))
    for sentence, label, output in zip(tokens.tolist(), labels.tolist(), outputs.tolist(), strict=True):
        assert output in (task.unseen_tokens if unseen else task.output_tokens)
        assert label in ((output, task.noise_token) if task.noise else (output,))
        trigger = sentence[-1]
        assert trigger in task.sentence_triggers
        followers = [b for a, b in itertools.pairwise(sentence) if a == trigger]
        assert sorted(followers) == ([output, task.noise_token] if task.noise else [output])
        generic = [token for token in sentence if token in task.generic_tokens]
        assert len(generic) == task.sentence_length - (4 if task.noise else 2)


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_token_counts_have_the_law_of_the_sentences(noise):
    """Counts of two samples, of sentences and of counts, against the law counted from all sentences."""
    task = ReasoningTask(6, 7, 2, 2, noise)
    population = enumerate_population(task)
    law = collections.Counter()
    for sentence, output, weight in zip(
        population.sentences, population.outputs.tolist(), population.probabilities, strict=True
    ):
        law[(*np.bincount(sentence, minlength=6).tolist(), int(sentence[-1]), output)] += weight
    keys = {key: i for i, key in enumerate(law)}
    counts, triggers, outputs, labels = sample_token_counts(task, 40_000, generator=draws(1))
    rows = [
        keys[(*row, trigger, output)]
        for row, trigger, output in zip(counts.tolist(), triggers.tolist(), outputs.tolist(), strict=True)
    ]
    assert p_value(np.bincount(rows, minlength=len(keys)), np.array(list(law.values()))) > LEVEL
    noisy = int((labels == task.noise_token).sum())
    assert stats.binomtest(noisy, 40_000, noise).pvalue > LEVEL if noise else noisy == 0


def test_label_counts_have_the_law_of_the_sentences():
    """Multinomial triggers and binomial noise labels, every value of a small batch."""
    counts = sample_label_counts(ReasoningTask(8, 9, 3, 2), 4, size=(200, 100), generator=draws(2))
    assert counts.shape == (200, 100, 3)
    tally = collections.Counter(map(tuple, counts.reshape(-1, 3).long().tolist()))
    law = {k: stats.multinomial(4, [1 / 3] * 3).pmf(k) for k in tally}
    assert sum(law.values()) == pytest.approx(1)
    assert p_value(np.array(list(tally.values())), np.array(list(law.values()))) > LEVEL
    counts = sample_label_counts(ReasoningTask(8, 9, 3, 2, noise=0.3), 5, size=(20_000,), generator=draws(3))
    assert (counts.sum(1) == 5).all()
    assert p_value(np.bincount(counts[:, 1].long(), minlength=6), stats.binom(5, 0.3).pmf(np.arange(6))) > LEVEL
    # In float32 the sum is exact too; without a size there is one batch.
    one = sample_label_counts(ReasoningTask(), 512, generator=draws(0), dtype=torch.float32)
    assert (one.shape, one.dtype, one.sum().item()) == ((5,), torch.float32, 512)


def test_the_seed_decides():
    """The same seed gives the same sentences, another seed others, whatever was drawn globally."""
    task = ReasoningTask(noise=0.2)
    first = sample_sentences(task, 10, generator=draws(5))
    torch.rand(7)
    again, other = sample_sentences(task, 10, generator=draws(5)), sample_sentences(task, 10, generator=draws(6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.tokens, other.tokens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": 3}, "task must be a ReasoningTask"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"batch": 2.5}, "batch must be an integer"),
        ({"generator": 0}, "generator must be a torch.Generator"),
        ({"device": "nowhere"}, "device must name a torch device"),
        ({"unseen": "yes"}, "unseen must be one of"),
        ({"unseen": True}, "unseen must be False where every generic token is a trained output"),
    ],
)
def test_bad_input_is_refused(change, message):
    """One sentence that names the parameter, its value and what is allowed, from every sampler that has it."""
    arguments = {"task": ReasoningTask(6, 9, 2, 3), "batch": 4, "generator": draws(0), **change}
    for sampler in (sample_sentences, sample_token_counts):
        with pytest.raises(ValueError, match=message):
            sampler(
                arguments["task"],
                arguments["batch"],
                **{k: v for k, v in arguments.items() if k not in ("task", "batch")},
            )
    if "unseen" not in change:
        with pytest.raises(ValueError, match=message):
            sample_label_counts(**arguments)


@pytest.mark.parametrize("size", [3, [3], (0,), (1.5,)])
def test_bad_sizes_are_refused(size):
    """The size is a tuple of positive integers."""
    with pytest.raises(ValueError, match="size must be"):
        sample_label_counts(ReasoningTask(), 4, size=size, generator=draws(0))
