"""The jobs of memorization: exact against sampled, ensembles against single runs, constructions against the witness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.analysis.memorization.cases import Sizes, gaussian_law, low_rank_law, noisy_lookup_law
from plumbline.analysis.memorization.claims.lookup import circle_at_equal_entropy, line_construction
from plumbline.analysis.memorization.jobs.constructions import (
    ConstructedAccuracy,
    StoreContexts,
    StoreDistribution,
    contexts_with_last_tokens,
)
from plumbline.analysis.memorization.jobs.next_token_model import TrainNextTokenModel
from plumbline.analysis.memorization.jobs.optimal_low_rank import OptimalLowRank
from plumbline.models.memorization import memorizing_transformer
from plumbline.models.training import Training
from plumbline.theory.memorization import (
    accuracy_lower_bound,
    attention_only_capacity,
    generic_rank,
    geometric_law,
    guaranteed_accuracy,
    lookup_table,
    one_dimensional_divergence,
    optimal_low_rank,
    rank_for_zero_divergence,
    uniform_divergence,
)

SHORT = Training(optimizer="adam", steps=20, learning_rate=0.05, record_every=5)


def _job(**changes):
    options = {"task": lookup_table(5, 2, seed=3), "architecture": "attention only", "embed_dim": 3, "heads": 2}
    return TrainNextTokenModel(**{**options, "training": SHORT, "runs": 3, **changes})


@pytest.mark.parametrize(
    "sizes",
    [
        {"architecture": "attention only"},
        {"architecture": "compressed", "head_dim": 2, "layers": 2},
        {"architecture": "mlp", "heads": 1, "width": 4},
        {"architecture": "sequence encoder", "heads": 0},
    ],
)
def test_training_lowers_the_exact_divergence(sizes):
    """Shapes, a curve that ends at the exact divergence of the weights, and learning."""
    result = _job(**sizes, accuracy_curve=True).run()

    assert result["divergences"].shape == result["accuracies"].shape == (3,)
    np.testing.assert_array_equal(result["curve_steps"], [0, 5, 10, 15, 20])
    assert result["curve_divergences"].shape == result["curve_accuracies"].shape == (5, 3)
    # The same sum in two orders.
    np.testing.assert_allclose(result["curve_divergences"][-1], result["divergences"], rtol=1e-11)
    np.testing.assert_array_equal(result["curve_accuracies"][-1], result["accuracies"])
    assert (result["divergences"] < result["curve_divergences"][0]).all()


def test_a_curve_of_a_noisy_law_is_a_divergence():
    """The conditional entropy is taken off the cross-entropy: zero weights have the uniform divergence."""
    law = geometric_law(4, 2, ratio=0.5, seed=1)
    result = _job(task=law, init_scale=0.0).run()
    np.testing.assert_allclose(result["curve_divergences"][0], uniform_divergence(law), rtol=1e-12)


def test_each_run_learns_its_own_table():
    """Run r of an ensemble with own tables is the run with that number alone, on the table of seed + r."""
    together = _job(own_tables=True).run()
    shared = _job().run()
    assert together["divergences"][0] == pytest.approx(shared["divergences"][0], rel=1e-9)
    assert abs(together["divergences"][1] - shared["divergences"][1]) > 1e-3


def test_the_precision_is_that_of_the_training():
    """Parameters, objective and what is measured; enough heads store the table in either."""
    steps = replace(SHORT, steps=300)
    for precision in ("float32", "float64"):
        result = _job(precision=precision, heads=12, training=steps).run()
        assert result["accuracies"].dtype == result["divergences"].dtype == precision
        np.testing.assert_allclose(result["accuracies"], 1, rtol=1e-6)


def test_lbfgs_sees_the_table_of_its_run():
    """L-BFGS goes run by run: with free states of full rank every run stores its own table."""
    training = Training(optimizer="lbfgs", steps=100, tolerance=1e-6)
    job = _job(architecture="sequence encoder", embed_dim=4, own_tables=True, training=training)
    np.testing.assert_array_equal(job.run()["accuracies"], np.ones(3))


def test_sampled_training_meets_the_exact_one():
    """The second route: cross-entropies of sampled sequences lead to the same divergence."""
    training = Training(optimizer="adam", steps=300, learning_rate=0.05, halve_every=60, record_every=300)
    law = geometric_law(4, 1, ratio=0.5, seed=2)
    options = {"task": law, "architecture": "sequence encoder", "embed_dim": 2, "training": training, "runs": 4}
    exact = TrainNextTokenModel(**options).run()["divergences"]
    sampled = TrainNextTokenModel(**options, samples=2000).run()["divergences"]
    # The excess of maximum likelihood is about (free numbers) / (2 · samples of the last, slow steps): below 1e-3.
    np.testing.assert_allclose(sampled, exact, atol=2e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "rnn"}, "architecture"),
        ({"runs": 0}, "runs"),
        ({"samples": -1}, "samples"),
        ({"precision": "half"}, "precision"),
        ({"training": Training(optimizer="lbfgs", steps=5), "samples": 3}, "L-BFGS"),
    ],
)
def test_bad_jobs_are_refused(changes, message):
    """At construction, naming what is wrong."""
    with pytest.raises(ValueError, match=message):
        _job(**changes)


@settings(max_examples=25)
@given(
    vocab_size=st.integers(3, 8),
    context_length=st.integers(2, 3),
    heads=st.integers(0, 6),
    head_dim=st.integers(1, 4),
    embed_dim=st.integers(2, 4),
    seed=st.integers(0, 2**31 - 1),
)
def test_any_table_of_the_capacity_is_stored(vocab_size, context_length, heads, head_dim, embed_dim, seed):
    """Capacity attained over random sizes, contexts and labels, below the sizes at which heads saturate."""
    head_dim = min(head_dim, embed_dim, vocab_size + context_length - 3)
    count = attention_only_capacity(heads, head_dim, embed_dim, vocab_size, context_length)
    rng = np.random.default_rng(seed)
    chosen = contexts_with_last_tokens(rng, vocab_size, context_length, count, embed_dim)
    labels = rng.integers(vocab_size, size=count)
    sizes = {"heads": heads, "head_dim": head_dim, "embed_dim": embed_dim, "vocab_size": vocab_size}
    # A random set of few tokens may be special: the refusal then says so.
    if generic_rank(**sizes, context_length=context_length, contexts=chosen).rank < count:
        with pytest.raises(ValueError, match="features of rank"):
            memorizing_transformer(chosen, labels, **sizes, seed=seed)
        return
    stored = memorizing_transformer(chosen, labels, **sizes, seed=seed)
    assert stored.associations == count
    assert stored.accuracy == 1.0


@given(
    vocab_size=st.integers(2, 6),
    context_length=st.integers(1, 3),
    last=st.integers(1, 8),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31 - 1),
)
def test_chosen_contexts_are_distinct_with_enough_last_tokens(vocab_size, context_length, last, share, seed):
    """T distinct contexts, tokens in range, min(T, L, N) last tokens or more."""
    count = max(1, round(share * vocab_size**context_length))
    chosen = contexts_with_last_tokens(np.random.default_rng(seed), vocab_size, context_length, count, last)
    assert chosen.shape == (count, context_length)
    assert len(np.unique(chosen, axis=0)) == count
    assert chosen.min() >= 0
    assert chosen.max() < vocab_size
    assert len(np.unique(chosen[:, -1])) >= min(count, last, vocab_size)


def test_constructed_accuracies_lie_where_theory_puts_them():
    """The mean is the expectation, no table is below the guarantee, and the adversarial one attains it."""
    sizes = Sizes(vocab_size=6, heads=4, head_dim=2, embed_dim=3)
    result = ConstructedAccuracy(vocab_size=6, context_length=2, heads=4, head_dim=2, embed_dim=3, batches=16).run()

    assert result["stored"] == sizes.capacity == 11
    # 16,000 tables of standard deviation below 0.08: five standard errors.
    assert result["batch_means"].mean() == pytest.approx(accuracy_lower_bound(*sizes.layer), abs=0.0032)
    guaranteed = pytest.approx(guaranteed_accuracy(*sizes.layer), abs=1e-12)
    assert result["adversarial"].min() == guaranteed
    assert min(result["accuracies"].min(), result["adversarial"].min()) == guaranteed


def test_the_witness_is_stored_for_both_architectures():
    """Every table, all contexts."""
    for architecture in ("attention-only", "compressed"):
        job = StoreContexts(
            vocab_size=8, context_length=2, heads=5, head_dim=3, embed_dim=3, architecture=architecture, tables=2
        )
        np.testing.assert_array_equal(job.run()["stored"], [18, 18])


def test_a_stored_distribution_obeys_its_bound():
    """Equal to the encoder where stored, below the bound over all contexts."""
    job = StoreDistribution(task=geometric_law(5, 2, ratio=0.5), heads=4, head_dim=2, embed_dim=2, tables=2)
    result = job.run()
    assert (result["oscillations"] < 1e-6).all()
    assert (result["divergences"] <= result["bounds"]).all()
    assert (result["divergences"] > result["encoder_divergences"]).all()


def test_the_optimum_job_is_the_calculator():
    """The same numbers under the names the claims read."""
    law = gaussian_law(4, 1, seed=5)
    result, best = OptimalLowRank(task=law, rank=1).run(), optimal_low_rank(law, 1)
    assert result["divergence"] == best.divergence
    assert result["lower_bound"] == best.lower_bound <= best.divergence
    assert result["rigorous"]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_low_rank_laws_have_their_rank(rank):
    """Centred rank as asked for, rank of the log table one more."""
    law = low_rank_law(6, 2, rank, seed=rank)
    assert rank_for_zero_divergence(law) == rank
    assert np.linalg.matrix_rank(np.log(law.conditional)) == rank + 1


def test_noisy_lookup_laws_err_with_their_probability():
    """One label of probability 1 − ε in every context."""
    law = noisy_lookup_law(5, 2, 0.3, seed=1)
    np.testing.assert_allclose(law.conditional.max(axis=1), 0.7, rtol=1e-14)


def test_the_circle_of_equal_entropy_is_what_a_model_gives():
    """The divergence by context is that of its logits, built here from the definition of the scale."""
    law = noisy_lookup_law(4, 1, 0.2, seed=2)
    logits = []
    for row in law.conditional:
        entropy = -sum(p * np.log(p) for p in row if p > 0)
        low, high = 0.0, 200.0
        cosines = np.cos(2 * np.pi * (np.arange(4) - row.argmax()) / 4)
        for _ in range(200):
            middle = (low + high) / 2
            too_spread = np.log(np.exp(middle * (cosines - 1)).sum()) > entropy
            low, high = (middle, high) if too_spread else (low, middle)
        logits.append(low * cosines)
    logs = torch.log_softmax(torch.as_tensor(np.array(logits)), 1).numpy()
    p = law.conditional
    expected = (p * (np.log(np.where(p > 0, p, 1)) - logs)).sum(1).mean()
    assert circle_at_equal_entropy(law) == pytest.approx(expected, rel=1e-9)


def test_the_line_construction_is_a_softmax_on_a_line():
    """Against explicit coordinates in high precision: N = 5, R = 10⁴."""
    from mpmath import exp, log, mp, mpf

    masses = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    ratio = mpf(10) ** 4
    with mp.workdps(60):
        wide = ratio**10
        place = [(-1) ** r * (wide - ratio ** (r // 2 + 1)) for r in range(5)]
        total = mpf(0)
        for r, mass in enumerate(masses):
            slope = (-1) ** r * ratio ** -(r // 2 + mpf(3) / 2)
            total += mpf(float(mass)) * log(sum(exp(slope * (y - place[r])) for y in place))
    # exp(−R^{1/2}) = exp(−100) is what the formula leaves out.
    assert line_construction(masses, 1e4) == pytest.approx(float(total), rel=1e-12)
    assert line_construction(masses, 1e14) == pytest.approx(one_dimensional_divergence(masses), abs=1e-6)
