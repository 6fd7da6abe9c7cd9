"""The job of the reasoning family: it trains what it says, on what it says, and measures it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from plumbline.analysis.jobs.job import job_key
from plumbline.analysis.reasoning.cases import ModelCase, exact_loss, small_tasks
from plumbline.analysis.reasoning.jobs.reasoner import TrainReasoner, exact_lbfgs, normalized_descent
from plumbline.models.normalized_gd import NormalizedGD
from plumbline.models.reasoning import OneLayerTransformer, enumerated_sentences, sample_sentences
from plumbline.models.training.draws import generator
from plumbline.theory.reasoning import Layer, ReasoningTask, normalized_gd_curve, population_loss, replay_normalized_gd
from plumbline.theory.reasoning.layer import RELU_OFFSET

TASK = ReasoningTask(12, 10, 3, 2)
NOISY = replace(TASK, noise=0.3)


def job(model, task=TASK, **options):
    return TrainReasoner(
        **{"task": task, "model": model, "training": normalized_descent(0.2, 12), "batch": 16} | options
    )


def test_an_ensemble_trains_like_a_textbook_loop():
    """Origin-Relu-FA by the trainer, and by a plain loop over the same sentences with the optimizer of models/."""
    result = job("Origin-Relu-FA", NOISY, noise_levels=(0.3, 0.7), seed=5).run()
    for run, noise in enumerate((0.3, 0.7)):
        model = OneLayerTransformer.from_name("Origin-Relu-FA", replace(TASK, noise=noise))
        optimizer = NormalizedGD(model.parameters(), lr=0.2)
        for step in range(13):
            draws = generator(5, 0, step)
            tokens, _, outputs = sample_sentences(NOISY, 16, generator=draws)
            coins = torch.rand(16, generator=draws, dtype=torch.float64)
            loss = model.loss(tokens, torch.where(coins < noise, TASK.noise_token, outputs))
            # Rounding of twelve steps; the stacked program sums in another order.
            assert result["curve_losses"][step, run] == pytest.approx(loss.item(), rel=1e-10)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@pytest.mark.parametrize("data", ["sentences", "token counts", "label counts"])
@pytest.mark.parametrize("task", [TASK, NOISY], ids=["no noise", "noise"])
def test_losses_of_every_route_replay_from_their_counts(data, task):
    """Sentences, token counts and label counts: the loss of each batch is what its counts say."""
    result = job("Reparam-Linear-FA", task, data=data, seeds=2).run()
    for run in range(2):
        replay = replay_normalized_gd(task, result["counts"][:, run], 0.2)
        np.testing.assert_allclose(result["curve_losses"][:, run], replay.losses, rtol=1e-10)
    assert (result["counts"].sum(axis=2) == 16).all()
    assert not np.array_equal(result["counts"][:, 0], result["counts"][:, 1])


@pytest.mark.parametrize("data", ["population", "expected counts"])
def test_exact_objectives_follow_the_population_curve(data):
    """No sampling: the curve is the closed form to rounding."""
    task = ReasoningTask(7, 7, 2, 2, 0.3)
    result = job("Reparam-Linear-FA", task, data=data, noise_levels=(0.3, 0.6)).run()
    for run, noise in enumerate((0.3, 0.6)):
        curve = normalized_gd_curve(replace(task, noise=noise), 12, 0.2)
        np.testing.assert_allclose(result["curve_losses"][:, run], curve.losses, rtol=1e-12)


def test_a_finite_sample_is_read_once_an_epoch():
    """Two epochs hold the same labels, in another order; the feed-forward layer knows their share."""
    result = job(
        "Reparam-Linear-FA", NOISY, data="finite sample", sample_size=64, training=normalized_descent(0.2, 7)
    ).run()
    noise = result["counts"][:, 0, 1]
    assert noise[:4].sum() == noise[4:].sum() == 64 * result["noise_estimates"][0]
    assert list(noise[:4]) != list(noise[4:])
    assert np.isnan(job("Origin-Linear-F", NOISY, data="finite sample", sample_size=64).run()["noise_estimates"]).all()


def test_measurements_are_those_of_the_trained_model():
    """Losses, probabilities, layers and roles of a model whose logits are known: λ = 0.2 t at y, γ + λ at τ."""
    result = job("Reparam-Linear-FA", NOISY, test=50, training=normalized_descent(0.2, 12, record_every=4)).run()
    assert result["curve_steps"].tolist() == [0, 4, 8, 12]
    scale = 0.2 * result["curve_steps"]
    gamma = np.log(0.3 / 0.7)
    np.testing.assert_allclose(result["scales"][:, 0, 0], scale, rtol=1e-14)
    np.testing.assert_allclose(result["unseen"][:, 0], [population_loss(NOISY, x) for x in scale], rtol=1e-13)
    np.testing.assert_allclose(result["population"], result["unseen"], rtol=1e-13)
    total = np.exp(scale) + np.exp(gamma + scale) + 10
    np.testing.assert_allclose(result["probabilities"][:, 0, 0], np.exp(scale) / total, rtol=1e-13)
    np.testing.assert_allclose(result["probabilities"][:, 0, 1], np.exp(gamma + scale) / total, rtol=1e-13)
    np.testing.assert_allclose(result["unseen_output"][:, 0], np.log(total) - scale, rtol=1e-13)
    layers = np.stack([scale, scale, gamma + scale, np.maximum(gamma + scale, 0)], axis=1)
    np.testing.assert_allclose(result["layers"][:, 0], layers, atol=1e-13)
    assert result["roles"][:, 0].tolist() == [[1, 0], [1, 0], [1, 1], [1, 1]]
    np.testing.assert_allclose(result["logit_sums"][:, 0], np.abs(gamma + 2 * scale), atol=1e-13)


def test_a_training_that_ends_early_is_measured_at_its_end():
    """Softmax has no gradient left in float64 at λ ≈ 42, here between two recorded steps: all curves end there."""
    task, training = ReasoningTask(8, 6, 2, 2, 0.3), normalized_descent(5.0, 60, record_every=7)
    trained = job("Reparam-Softmax-FA", task, data="token counts", training=training, test=16).run()
    end = trained["curve_steps"][-1]

    assert end < 60
    assert end % 7
    columns = ("curve_steps", "curve_losses", "population", "scales")
    assert len({len(trained[name]) for name in columns}) == 1
    # Noise: every step is η, for every batch.
    np.testing.assert_allclose(trained["scales"][:, 0, 0], 5.0 * trained["curve_steps"], rtol=1e-12)


def test_test_sentences_do_not_depend_on_the_training():
    """Two learning rates are measured on the same sentences, which come from a stream of their own."""
    one, two = (job("Origin-Softmax-F", training=normalized_descent(rate, 2), test=20).run() for rate in (0.1, 0.5))
    assert one["unseen"][0] == two["unseen"][0] == pytest.approx(np.log(12))
    assert one["unseen"][1] != two["unseen"][1]


def test_lbfgs_reaches_the_minimum_from_random_starts():
    """Each run by itself, on its own noise."""
    result = job(
        "Reparam-Linear-F", NOISY, training=exact_lbfgs(50), data="expected counts", noise_levels=(0.3, 0.6), seeds=2,
        start=1.0,
    ).run()  # fmt: skip
    best = [np.log(1 + (1 - noise) * 10 / noise) for noise in (0.3, 0.6)] * 2
    np.testing.assert_allclose(result["scales"][-1, :, 0], best, rtol=1e-6)


def test_the_standard_loss_is_torchs():
    """In float64 and early in training the two losses agree; float32 is what it says."""
    stable, standard = (job("Reparam-Relu-FA", NOISY, loss=loss).run() for loss in ("stable", "standard"))
    np.testing.assert_allclose(stable["curve_losses"], standard["curve_losses"], rtol=1e-12)
    single = job("Reparam-Relu-FA", NOISY, loss="standard", precision="float32").run()
    assert 1e-9 < np.abs(single["curve_losses"] / stable["curve_losses"] - 1).max() < 1e-5


def test_a_seed_changes_the_data_and_is_part_of_the_key():
    """Nothing but the fields decides the result."""
    first, again, other = (job("Reparam-Linear-FA", NOISY, seed=seed) for seed in (0, 0, 1))
    assert job_key(first, version="v") == job_key(again, version="v") != job_key(other, version="v")
    a, b, c = first.run(), again.run(), other.run()
    assert np.array_equal(a["curve_losses"], b["curve_losses"])
    assert not np.array_equal(a["curve_losses"], c["curve_losses"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "Reparam-Linear"}, "model must be one of"),
        ({"data": "sentence"}, "data must be one of"),
        (
            {"training": exact_lbfgs(5)},
            "training must not be L-BFGS unless data is an exact objective, got 'sentences'",
        ),
        ({"precision": "float16"}, "precision must be one of"),
        ({"loss": "exact"}, "loss must be one of"),
        ({"loss": "standard", "data": "population"}, "loss must be 'stable' unless"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"test": -1}, "test must be at least 0"),
        ({"start": -1.0}, "start must be at least 0"),
        ({"data": "finite sample"}, "sample_size must be a multiple of batch=16, got 0"),
        ({"data": "finite sample", "sample_size": 20}, "sample_size must be a multiple of batch=16, got 20"),
        ({"noise_levels": (0.0, 0.5)}, "noise_levels must be all 0 or all greater than 0"),
    ],
)
def test_bad_fields_are_named(options, words):
    """Every field is checked when the job is made, not when it runs."""
    with pytest.raises(ValueError, match=words):
        job(**{"model": "Reparam-Linear-FA"} | options)


def test_small_tasks_can_be_enumerated_and_widened():
    """The same function in all three parameterisations, at the closed form's loss."""
    for task in small_tasks(7, 4):
        model = OneLayerTransformer(task, parameterization="reparam", attention="relu")
        with torch.no_grad():
            model.scale.fill_(2.0)
        losses = [m.loss(*enumerated_sentences(task)).item() for m in (model, model.widened("origin"))]
        assert losses == pytest.approx([exact_loss(task, 2.0, Layer("relu"))] * 2, rel=1e-12)
    assert RELU_OFFSET == 1e-8


def test_a_trained_case_knows_its_data():
    """What suffices of the sentences, by published name."""
    names = ("Origin-Linear-F", "Reparam-Linear-W-FA", "Reparam-Softmax-F", "Reparam-Relu-FA")
    assert [ModelCase(TASK, name).data for name in names] == ["sentences", "sentences", "token counts", "label counts"]
    assert ModelCase(TASK, "Reparam-Linear-W-FA").layer == Layer("linear", "FA")
