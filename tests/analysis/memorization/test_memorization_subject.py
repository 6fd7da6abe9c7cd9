"""A model of next tokens that is given: what it stores of what its sizes allow, and how far from the optimum it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from plumbline.analysis import Outcome, check_model
from plumbline.analysis.memorization import subject as model_check
from plumbline.models.memorization import (
    AttentionOnlyTransformer,
    CompressedAttentionTransformer,
    MLPTransformer,
    SequenceEncoder,
    memorizing_transformer,
)
from plumbline.theory.memorization import (
    attention_only_capacity,
    conditional_entropy,
    geometric_law,
    lookup_table,
    one_dimensional_divergence,
    optimal_low_rank,
)

CONSISTENT, REFUTED, OPEN, IDLE = (
    Outcome.CONSISTENT,
    Outcome.REFUTED,
    Outcome.INCONCLUSIVE,
    Outcome.NOT_APPLICABLE,
)
LAW = geometric_law(4, 2, ratio=0.5, seed=3)


def encoder(rank, factors):
    """The sequence encoder with these factors."""
    model = SequenceEncoder(4, 2, rank)
    with torch.no_grad():
        model.encoding.copy_(torch.as_tensor(factors[0].copy()))
        model.unembedding.copy_(torch.as_tensor(factors[1].copy()))
    return model


def test_witness_of_capacity_stores_all_and_a_damaged_one_less():
    """Exactly constructed weights store every context; with the heads turned off the skip connection is left."""
    law = lookup_table(6, 2, seed=0)
    model = memorizing_transformer(law.contexts, law.labels, heads=17, head_dim=2, embed_dim=2).model
    report = check_model(model, law)
    assert (
        report.finding("contexts stored") == report.finding("contexts that occur") == report.finding("capacity") == 36
    )
    assert report.finding("accuracy") == 1
    assert report.finding("rank of the attention features") == 36
    names = ("capacity-is-attained", "feature-rank", "no-more-with-frozen-features", "trained-above-the-bound")
    assert [report.outcomes()[name] for name in names] == [CONSISTENT] * 4
    assert report.outcomes()["context-length-one"] is report.outcomes()["low-rank-optimum"] is IDLE
    without = report.finding("accuracy without the heads")

    with torch.no_grad():
        model.output.zero_()
    damaged = check_model(model, law)
    assert damaged.finding("accuracy") == without < 0.5
    assert [damaged.outcomes()[name] for name in names] == [OPEN, CONSISTENT, CONSISTENT, REFUTED]

    with torch.no_grad():
        model.value.zero_()
    blind = check_model(model, law)
    assert blind.finding("rank of the attention features") == 2
    assert [blind.outcomes()[name] for name in names[1:3]] == [REFUTED, CONSISTENT]


@pytest.mark.parametrize(("occur", "last_tokens"), [((0, 4, 8), 1), ((0, 5, 10), 3)])
def test_contexts_that_do_not_occur_do_not_count(occur, last_tokens):
    """A prior on three contexts: what is stored, and what could be, are of these."""
    table = lookup_table(4, 2, seed=1)
    prior = np.zeros(16)
    prior[list(occur)] = 1 / 3
    law = dataclasses.replace(table, initial=prior)
    report = check_model(AttentionOnlyTransformer(4, 2, 0, 1, 2), law)
    wanted = min(2, last_tokens)
    assert report.finding("contexts that occur") == 3
    assert report.finding("capacity") == attention_only_capacity(0, 1, 2, 4, 2, 3, last_tokens) == wanted
    assert report.finding("rank of the attention features") == wanted

    assert report.outcomes()["feature-rank"] is IDLE
    assert report.outcomes()["no-more-with-frozen-features"] is CONSISTENT

    everything = encoder(2, optimal_low_rank(table, 2).factors)
    assert check_model(everything, table).finding("contexts stored") == 16
    assert check_model(everything, law).finding("contexts stored") == 3


def test_optimal_factors_are_the_low_rank_optimum_and_perturbed_ones_are_not():
    """A sequence encoder at the descent's factors, and beside them."""
    best = optimal_low_rank(LAW, 2)
    report = check_model(encoder(2, best.factors), LAW)
    names = ("low-rank-optimum", "codimension-one", "no-model-below-the-low-rank-bound")
    assert [report.outcomes()[name] for name in names] == [CONSISTENT] * 3
    assert report.loss.value == pytest.approx(best.divergence)
    assert report.gap("optimum of rank 2").value == pytest.approx(0, abs=1e-9)
    assert 0 <= report.gap("no model of rank 2 is below").value < 1e-6
    assert report.finding("cross-entropy in nats") == pytest.approx(best.divergence + conditional_entropy(LAW))
    assert report.finding("rank of the centred logits") == 2

    left, right = best.factors
    rival = check_model(encoder(2, (1.1 * left, right)), LAW)
    assert [rival.outcomes()[name] for name in names] == [REFUTED, REFUTED, CONSISTENT]


def test_a_model_below_the_bound_would_refute_it(monkeypatch):
    """The bound of one dimension less is too high, as the catalogue's rival has it."""
    best = optimal_low_rank(LAW, 2)
    monkeypatch.setattr(model_check, "optimal_low_rank", lambda law, rank: optimal_low_rank(law, rank - 1))
    assert check_model(encoder(2, best.factors), LAW).outcomes()["no-model-below-the-low-rank-bound"] is REFUTED


def test_full_rank_reaches_zero_and_one_dimension_stays_above_the_line():
    """N − 1 dimensions hold the law itself; one dimension of a look-up table has its infimum."""
    full = check_model(encoder(3, optimal_low_rank(LAW, 3).factors), LAW)
    assert full.outcomes()["zero-divergence-rank"] is CONSISTENT
    assert full.gap("Bayes risk").value == pytest.approx(0, abs=1e-9)
    assert check_model(encoder(2, optimal_low_rank(LAW, 2).factors), LAW).outcomes()["zero-divergence-rank"] is IDLE

    table = lookup_table(4, 2, seed=0)
    line = check_model(SequenceEncoder(4, 2, 1), table)
    assert line.outcomes()["line-is-not-undercut"] is CONSISTENT
    infimum = one_dimensional_divergence(table.prior @ table.conditional)
    (verdict,) = [claim.verdict for claim in line.claims if claim.name == "line-is-not-undercut"]
    assert verdict.predicted == infimum < verdict.estimate == line.loss.value


@pytest.mark.parametrize(
    "model",
    [
        SequenceEncoder(4, 2, 3),
        AttentionOnlyTransformer(4, 2, 3, 1, 2),
        CompressedAttentionTransformer(4, 2, 2, 3, 2),
        CompressedAttentionTransformer(4, 2, 2, 2, 2, layers=2),
        MLPTransformer(4, 2, 1, 2, 2, 5, layers=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_weights_alone_say_which_model_they_are(model):
    """Names and shapes fix the class and its sizes."""
    report = check_model(model.state_dict(), LAW)
    assert report.model == str(model)
    assert report.loss.value == pytest.approx(model.divergence(LAW).item())


def test_context_of_one_token():
    """Heads add nothing."""
    report = check_model(AttentionOnlyTransformer(5, 1, 4, 2, 3), geometric_law(5, 1, ratio=0.5))
    assert report.outcomes()["context-length-one"] is CONSISTENT
    assert report.outcomes()["feature-rank"] is IDLE
