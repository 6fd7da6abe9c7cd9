"""The sentence law: the enumeration against the generator followed by hand, and the Bayes predictor."""

import math

import numpy as np
import pytest
from hypothesis import given, settings

from plumbline.theory.reasoning import ReasoningTask, bayes_predictor, bayes_risk, enumerate_population, enumeration
from plumbline.theory.reasoning.bayes import cross_entropy, divergence
from tests import reasoning_references as references
from tests.strategies import reasoning_tasks

TINY = [
    ReasoningTask(5, 3, 2, 1),
    ReasoningTask(6, 5, 1, 2),
    ReasoningTask(6, 5, 2, 3),
    ReasoningTask(5, 6, 1, 2, 0.3),
    ReasoningTask(6, 7, 2, 1, 0.6),
]


@pytest.mark.parametrize(
    ("task", "unseen"),
    [(task, unseen) for task in TINY for unseen in (False, True) if task.unseen_tokens or not unseen],
)
def test_enumeration_follows_the_generator(task, unseen):
    """Same sentences with the same outputs and probabilities as the generator gives, each once."""
    population = enumerate_population(task, unseen=unseen)
    law = references.sentence_law(task, unseen=unseen)
    found = {
        (tuple(z), y): p
        for z, y, p in zip(
            population.sentences.tolist(), population.outputs.tolist(), population.probabilities, strict=True
        )
    }
    assert len(found) == len(population.outputs)
    assert found.keys() == law.keys()
    # One rounding per division.
    assert all(p == pytest.approx(float(law[key]), rel=1e-14) for key, p in found.items())


@given(task=reasoning_tasks(max_vocab_size=7, max_sentence_length=7))
@settings(max_examples=50)
def test_bigrams_are_where_the_law_says(task):
    """One trigger bigram with the output, with noise one with the noise token, and no other; probabilities sum to 1."""
    population = enumerate_population(task)
    z, y = population.sentences, population.outputs
    is_trigger = z[:, :-1] == z[:, -1:]
    assert (np.sum(is_trigger & (z[:, 1:] == y[:, None]), axis=1) == 1).all()
    assert (is_trigger.sum(axis=1) == (2 if task.noise else 1)).all()
    assert ((z == task.noise_token).sum(axis=1) == bool(task.noise)).all()
    assert np.isin(z[:, -1], task.sentence_triggers).all()
    assert np.isin(y, task.output_tokens).all()
    assert population.probabilities.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(population.label_probabilities.sum(axis=1), 1, rtol=1e-15)


@pytest.mark.parametrize(("task", "count"), [(ReasoningTask(7, 6, 2, 2), 1024), (ReasoningTask(7, 6, 2, 2, 0.3), 48)])
def test_number_of_sentences(task, count, monkeypatch):
    """Q Y (H−2) n^{H−3} without noise, Y (H−3)(H−4) n^{H−5} with; the limit counts them right."""
    assert len(enumerate_population(task).outputs) == count
    monkeypatch.setattr(enumeration, "MAX_SENTENCES", count)
    enumerate_population(task)
    monkeypatch.setattr(enumeration, "MAX_SENTENCES", count - 1)
    with pytest.raises(ValueError, match=f"at most {count - 1} sentences"):
        enumerate_population(task)


@pytest.mark.parametrize("task", TINY)
def test_bayes_predictor_has_the_bayes_risk(task):
    """The predictor's loss is the risk; moving probability between the two tokens only adds to it."""
    population = enumerate_population(task)
    best = bayes_predictor(task)

    def loss(output):
        probabilities = np.zeros_like(population.label_probabilities)
        probabilities[np.arange(len(probabilities)), population.outputs] = output
        probabilities[:, task.noise_token] += 1 - output
        used = population.label_probabilities > 0
        return -population.probabilities @ np.sum(
            population.label_probabilities * np.log(np.where(used, probabilities, 1)), axis=1
        )

    assert (best.output, best.noise_token) == (1 - task.noise, task.noise)
    assert loss(best.output) == pytest.approx(bayes_risk(task), abs=1e-14)
    if task.noise:
        assert loss(best.output - 0.01) > bayes_risk(task) < loss(best.output + 0.01)


@pytest.mark.parametrize("noise", [1e-300, 1e-9, 0.2, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("estimate", [1e-200, 1e-9, 0.199, 0.2000001, 0.5, 0.9, 1 - 1e-12])
def test_divergence_and_cross_entropy(noise, estimate):
    """Both against mpmath, in 60 digits."""
    import mpmath

    with mpmath.workdps(400):
        a, b = mpmath.mpf(noise), mpmath.mpf(estimate)
        kl = a * mpmath.log(a / b) + (1 - a) * mpmath.log((1 - a) / (1 - b))
        entropy = -a * mpmath.log(a) - (1 - a) * mpmath.log(1 - a)
        # 1 − α̂ is itself rounded in float64, which shows where α̂ is close to 1 or the result close to 0.
        assert divergence(noise, estimate) == pytest.approx(float(kl), rel=1e-9, abs=1e-17)
        assert cross_entropy(noise, estimate) == pytest.approx(float(kl + entropy), rel=1e-14)


def test_token_sets_partition_the_vocabulary():
    """Triggers, trained outputs, unseen outputs and the noise token are all ids, in this order."""
    task = ReasoningTask(12, 8, 3, 4, 0.1)
    parts = [*task.trigger_tokens, *task.output_tokens, *task.unseen_tokens, task.noise_token]
    assert parts == list(range(12))
    assert [*task.output_tokens, *task.unseen_tokens] == list(task.generic_tokens)
    assert list(task.sentence_triggers) == [0]
    assert ReasoningTask(12, 8, 3, 4).sentence_triggers == range(3)
    assert hash(task) == hash(ReasoningTask(12, 8, 3, 4, 0.1))
    assert ReasoningTask() == ReasoningTask(60, 256, 5, 4, 0.0)


def test_shortest_sentences():
    """Three tokens without noise, six with: there every place of the output bigram leaves one for the noise bigram."""
    assert len(enumerate_population(ReasoningTask(3, 3, 1, 1)).outputs) == 1
    assert enumerate_population(ReasoningTask(3, 6, 1, 1, 0.5)).probabilities.sum() == pytest.approx(1)
    assert math.isclose(bayes_risk(ReasoningTask(3, 6, 1, 1, 0.5)), math.log(2))
