"""A linear transformer that is given: its algorithm is read off whatever gauge it is in, and a wrong one is refuted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.analysis import Outcome, check_model
from plumbline.analysis.regression.cases import random_task
from plumbline.analysis.regression.jobs import TrainLinearTransformer
from plumbline.models.regression import LinearTransformer, sample_prompts, sample_wisharts
from plumbline.theory.regression import (
    RegressionTask,
    bayes_risk,
    gd_plus_plus_optimum,
    linear_transformer_risk,
    looped_optimum,
    multi_step_optimum,
    noisy_multi_step_optimum,
    noisy_multi_step_risk,
    one_step_optimum,
    one_step_risk,
)
from tests.strategies import regression_tasks, seeds

TASK = RegressionTask(5, 20)
COVARIANCE = np.array([[2.0, 0.5], [0.5, 1.0]])
CONSISTENT, REFUTED, IDLE = Outcome.CONSISTENT, Outcome.REFUTED, Outcome.NOT_APPLICABLE


def layers(step_sizes, dim=5):
    """Preconditioners a_l I."""
    return np.multiply.outer(np.asarray(step_sizes), np.eye(dim))


def full_weights(preconditioners, value_blocks, corner):
    """The transformer of an algorithm in full weights, every head scaled by the corner of P."""
    count, d, _ = np.shape(preconditioners)
    model = LinearTransformer(count, 1, d, full=True, init_scale=0.0)
    with torch.no_grad():
        for layer, a in enumerate(preconditioners):
            model.key_query[layer, 0, :d, :d] = -torch.as_tensor(a) / corner
            model.value[layer, 0, d, d] = corner
            if layer < len(value_blocks):
                model.value[layer, 0, :d, :d] = corner * torch.as_tensor(value_blocks[layer])
    return model


def test_trained_layer_is_the_optimum_and_five_percent_more_is_not():
    """Noise and a weight covariance that does not commute: trained by L-BFGS; the rival is the catalogue's."""
    task = random_task(3, 6, 11, noise_variance=1.0)
    trained = TrainLinearTransformer(task=task, runs=1, init_scale=0.5, seed=0).run()
    model = LinearTransformer.from_algorithm(-trained["key_query"][0, 0])
    report = check_model(model, task)
    assert report.loss.error == 0
    assert report.loss.method == "exact"
    assert report.gap("optimum").value == pytest.approx(0, abs=1e-9)
    assert report.finding("distance from the optimum") < 1e-4
    names = ("one-step-optimum-loss", "one-step-preconditioner", "transformer-is-its-algorithm")
    assert [report.outcomes()[name] for name in names] == [CONSISTENT] * 3
    assert report.outcomes()["multi-step-loss"] is IDLE

    rival = check_model(LinearTransformer.from_algorithm(-1.05 * trained["key_query"][0, 0]), task)
    assert [rival.outcomes()[name] for name in names] == [REFUTED, REFUTED, CONSISTENT]
    assert rival.finding("distance from the optimum") == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_layers_in_any_order_and_any_frame_are_the_multi_step_optimum(scale):
    """Weights N(0, c Σ⁻¹): the optimum has a_l Σ⁻¹, and c times the risk of c = 1."""
    task = RegressionTask(2, 9, COVARIANCE, scale * np.linalg.inv(COVARIANCE))
    best = multi_step_optimum(3, 2, 9)
    blocks = np.multiply.outer(best.step_sizes[[2, 0, 1]], np.linalg.inv(COVARIANCE))
    report = check_model(LinearTransformer.from_algorithm(blocks), task)
    assert report.finding("algorithm") == "3 steps of gradient descent preconditioned by S⁻¹"
    assert report.finding("step sizes") == pytest.approx(best.step_sizes)
    assert report.loss.value == pytest.approx(scale * best.loss)
    assert report.gap("optimum").value == pytest.approx(0, abs=1e-12)
    assert report.outcomes()["multi-step-loss"] is report.outcomes()["multi-step-step-sizes"] is CONSISTENT

    plain = check_model(LinearTransformer.from_algorithm(layers(best.step_sizes, 2)), task)  # no preconditioner
    assert plain.finding("algorithm") == "3 steps of gradient descent"
    assert plain.outcomes()["multi-step-loss"] is plain.outcomes()["multi-step-step-sizes"] is REFUTED


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_many_layers_have_an_exact_risk_too(noise):
    """Six steps in the frame of S⁻¹: exact, and beside scalar weights the nearest ones with a small difference."""
    weights = 2.0 * np.linalg.inv(COVARIANCE)
    task = RegressionTask(2, 9, COVARIANCE, weights, noise_variance=noise)
    steps = multi_step_optimum(6, 2, 9).step_sizes[[2, 0, 5, 1, 4, 3]]
    scalar = np.multiply.outer(steps, np.linalg.inv(COVARIANCE))
    report = check_model(LinearTransformer.from_algorithm(scalar), task)
    assert (report.loss.error, report.loss.method) == (0, "exact")
    assert report.loss.value == pytest.approx(2 * noisy_multi_step_risk(steps, 2, 9, noise / 2))

    blocks = scalar.copy()
    blocks[4] = blocks[4] @ np.diag([1.1, 0.9])
    near = check_model(LinearTransformer.from_algorithm(blocks), task)
    plain = linear_transformer_risk(None, -blocks, task, draws=100_000, seed=3)
    assert 0 < near.loss.error < plain.error
    assert near.loss.value - report.loss.value > 6 * near.loss.error
    assert abs(near.loss.value - plain.value) < 6 * plain.error
    with torch.no_grad():
        wisharts = sample_wisharts(task, 100_000, generator=torch.Generator().manual_seed(5))
        risks = [LinearTransformer.from_algorithm(b).conditional_risk(wisharts, task) for b in (blocks, scalar)]
    off = risks[0] - risks[1]
    assert abs(near.loss.value - report.loss.value - float(off.mean())) < 6 * near.loss.error


def test_heads_that_share_a_step_are_one_step():
    """Two heads of any split have the report of one."""
    best = multi_step_optimum(2, 5, 20)
    model = LinearTransformer(2, 2, 5, value_block="zero", init_scale=0.4)
    with torch.no_grad():
        model.key_query[:, 1] = -torch.as_tensor(layers(best.step_sizes)) - model.key_query[:, 0]
    report = check_model(model, TASK)
    assert report.finding("distance from the optimum") < 1e-12
    assert report.outcomes()["transformer-is-its-algorithm"] is CONSISTENT


def test_optimum_of_gd_plus_plus_is_named_and_its_perturbation_refuted():
    """Value blocks move the covariates; 10 % less of that is another model."""
    best = gd_plus_plus_optimum(2, 5, 20)
    blocks = [best.shrinkages[0] * np.eye(5)]
    report = check_model(LinearTransformer.from_algorithm(layers(best.step_sizes), value_blocks=blocks), TASK)
    assert "the covariates move (GD++)" in report.finding("algorithm")
    assert report.outcomes()["gd-plus-plus-two-layers"] is CONSISTENT
    assert report.outcomes()["christoffel-bound"] is CONSISTENT
    assert report.finding("shrinkages") == pytest.approx(best.shrinkages)

    less = [0.9 * blocks[0]]
    rival = check_model(LinearTransformer.from_algorithm(layers(best.step_sizes), value_blocks=less), TASK)
    assert rival.outcomes()["gd-plus-plus-two-layers"] is REFUTED
    matrices = [np.diag([0.9, 0.1, 0.5, 0.5, 0.5])]
    other = check_model(LinearTransformer.from_algorithm(layers(best.step_sizes), value_blocks=matrices), TASK)
    assert "the covariates move (by matrices)" in other.finding("algorithm")
    assert other.outcomes()["christoffel-bound"] is IDLE


@pytest.mark.parametrize("corner", [1.0, -3.0])
def test_full_weights_are_read_modulo_scale_and_sign(corner):
    """Two layers of full weights in the published form, whatever the gauge; outside of it there is no algorithm."""
    best = gd_plus_plus_optimum(2, 5, 20)
    model = full_weights(layers(best.step_sizes), [best.shrinkages[0] * np.eye(5)], corner)
    report = check_model(model, TASK)
    assert report.finding("step sizes") == pytest.approx(best.step_sizes)
    assert report.finding("shrinkages") == pytest.approx(best.shrinkages)
    assert report.finding("distance from the optimum") < 1e-12
    assert report.loss.error > 0  # no closed form for full weights of two layers
    assert abs(report.loss.value - best.loss) < 8 * report.loss.error

    with torch.no_grad():
        model.key_query[0, 0, 5, 2] = 1.0
    mixed = check_model(model, TASK)
    assert any("published form" in sentence for sentence in mixed.missing)
    assert not mixed.findings


@given(regression_tasks(max_dim=3), seeds, st.sampled_from([-4.0, -0.3, 2.0]))
@settings(max_examples=15)
def test_one_layer_of_any_heads_is_read_modulo_its_symmetries(task, seed, scale):
    """Random full weights: scaled against each other, with heads split in two, they have the same report."""
    generator = torch.Generator().manual_seed(seed)
    model = LinearTransformer(1, 1, task.dim, full=True, init_scale=0.5, generator=generator)
    other = LinearTransformer(1, 3, task.dim, full=True)
    with torch.no_grad():
        for head, share in enumerate((0.5, 0.8, -0.3)):
            other.value[:, head] = scale * model.value[:, 0]
            other.key_query[:, head] = share / scale * model.key_query[:, 0]
    first, second = check_model(model, task), check_model(other, task)
    assert first.loss.value == pytest.approx(second.loss.value, rel=1e-9)
    for name in ("preconditioners", "distance from the optimum", "distance from the nearest scalar algorithm"):
        np.testing.assert_allclose(first.finding(name), second.finding(name), rtol=1e-7, atol=1e-9)
    assert first.outcomes() == second.outcomes()


def test_part_even_in_the_labels_counts():
    """One layer of full weights: the odd part is A*, and an even part on top of it costs exactly its own risk."""
    task = RegressionTask(3, 8)
    best = one_step_optimum(task)
    model = full_weights(best.preconditioner[None], [], -2.0)
    report = check_model(model, task)
    assert report.outcomes()["one-step-full-weights"] is CONSISTENT
    assert report.finding("risk of the part even in the labels") == pytest.approx(0, abs=1e-12)

    with torch.no_grad():
        model.value[0, 0, 3, 0] = 0.7
    rival = check_model(model, task)
    even = rival.finding("risk of the part even in the labels")
    assert rival.outcomes()["one-step-full-weights"] is REFUTED
    assert even == pytest.approx(rival.loss.value - one_step_risk(task, best.preconditioner))
    with torch.no_grad():
        prompts = sample_prompts(task, 200_000, generator=torch.Generator().manual_seed(0))
        sampled = (model(prompts) - prompts.targets).square()
    assert abs(float(sampled.mean()) - rival.loss.value) < 6 * float(sampled.std()) / 200_000**0.5
    assert even > 0.05


def test_noise_changes_the_optimum_and_the_bayes_risk():
    """The optimum with noise; the steps that would be best without it are refuted. No model is below Bayes."""
    task = RegressionTask(5, 20, noise_variance=1.0)
    best = noisy_multi_step_optimum(2, 5, 20, 1.0)
    report = check_model(LinearTransformer.from_algorithm(layers(best.step_sizes)), task)
    assert report.outcomes()["noisy-multi-step-loss"] is report.outcomes()["bayes-bound"] is CONSISTENT
    assert report.gap("Bayes risk").value == pytest.approx(best.loss - bayes_risk(task).value)

    clean = multi_step_optimum(2, 5, 20)
    rival = check_model(LinearTransformer.from_algorithm(layers(clean.step_sizes)), task)
    assert rival.outcomes()["noisy-multi-step-loss"] is REFUTED
    assert rival.outcomes()["bayes-bound"] is CONSISTENT


def test_a_wrong_bayes_risk_would_be_refuted(monkeypatch):
    """The bound can fail: a Bayes risk above the optimum's is violated."""
    from plumbline.analysis.regression import reading as model_reading
    from plumbline.theory.estimate import Estimate

    monkeypatch.setattr(model_reading, "bayes_risk", lambda task: Estimate(0.5, 0.0, "wrong"))
    best = noisy_multi_step_optimum(2, 5, 20, 0.1)
    task = RegressionTask(5, 20, noise_variance=0.1)
    report = check_model(LinearTransformer.from_algorithm(layers(best.step_sizes)), task)
    assert report.outcomes()["bayes-bound"] is REFUTED


def test_looped_weights_need_to_be_told():
    """One set of weights is one layer, or with the file's word for it several."""
    best = looped_optimum(3, 5, 20)
    weights = {"key_query": -torch.as_tensor(layers(best.step_sizes[:1]))[:, None]}
    assert check_model(weights, TASK).outcomes()["looped-loss"] is IDLE
    report = check_model(weights, TASK, model={"looped": True, "layers": 3})
    assert report.outcomes()["looped-loss"] is CONSISTENT
    assert report.outcomes()["multi-step-loss"] is IDLE
    assert report.loss.value == pytest.approx(best.loss)
    with pytest.raises(ValueError, match="layers must be given for a looped model"):
        check_model(weights, TASK, model={"looped": True})


def test_other_attention_is_sampled_and_no_claim_applies():
    """Softmax attention has no exact risk and no algorithm; zero weights of linear attention answer zero."""
    model = LinearTransformer(1, 1, 5, value_block="zero", activation="softmax", init_scale=0.0)
    report = check_model(model, TASK)
    assert set(report.outcomes().values()) == {IDLE}
    # At zero weights it answers −(mean of the labels): a risk of |w|² + |w|²/n in expectation.
    assert abs(report.loss.value - 5 * (1 + 1 / 20)) < 6 * report.loss.error
    assert "softmax attention" in report.missing[0]
    assert check_model(LinearTransformer(1, 1, 5, init_scale=0.0), TASK).finding("algorithm") == "answers zero"


@pytest.mark.parametrize(("context_length", "outcome"), [(8, CONSISTENT), (200, IDLE)])
def test_a_loop_is_held_against_scalars_in_short_contexts_only(context_length, outcome):
    """In long contexts rotations go below the best scalar, which is then no minimum to be held against."""
    best = looped_optimum(2, 3, context_length)
    model = LinearTransformer(2, 1, 3, value_block="zero", looped=True)
    one = LinearTransformer.from_algorithm([best.step_sizes[0] * np.eye(3)])
    model.load_state_dict(one.state_dict())
    assert check_model(model, RegressionTask(3, context_length)).outcomes()["looped-loss"] is outcome
