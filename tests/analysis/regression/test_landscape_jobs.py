"""The landscape jobs: they train as a textbook loop would, and observe what they say."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from plumbline.analysis.jobs.scheduler import run_jobs
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.jobs.store import Store
from plumbline.analysis.jobs.training_job import INITIAL_STREAM
from plumbline.analysis.regression.jobs import SampledGradientNoise, TrainAlongLandscape, TrainFeatureTransformer
from plumbline.analysis.regression.jobs.gradient_noise import REFERENCE_STREAM
from plumbline.analysis.regression.jobs.landscape import DESIGN_STREAM, TARGET_STREAM
from plumbline.models.regression import (
    FeatureTransformer,
    LinearTransformer,
    ReluFeatures,
    instances_of,
    prompt_gradients,
    risk_curvature,
    sample_feature_prompts,
    sample_instances,
    sample_prompts,
    sample_wisharts,
)
from plumbline.models.regression.landscape import published_condition_number
from plumbline.models.training import Training
from plumbline.models.training.draws import generator
from plumbline.theory.regression import RegressionTask, robust_condition_number

TASK = RegressionTask(2, 6)
# Twelve steps of float64 sums in another order.
ROUNDING = 1e-9
OPTIMIZERS = {
    "sgd": {"optimizer": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    "adam": {"optimizer": "adam", "learning_rate": 0.02, "betas": (0.9, 0.9)},
}


def training(name, **options):
    return Training(
        **{
            "steps": 6,
            "clip": 1.0,
            "clip_by": "run",
            "tolerance": 0.0,
            "record_every": 2,
            **options,
            **OPTIMIZERS[name],
        }
    )


def job(name="adam", **options):
    fields = {
        "task": TASK,
        "training": training(name),
        "layers": 2,
        "batch": 8,
        "runs": 3,
        "held_out": 10,
        "designs": 6,
    }
    return TrainAlongLandscape(**{**fields, **options})


def vector(module):
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_a_textbook_loop(name):
    """Losses, held-out losses, smoothness along the update and condition numbers, run by run with torch.optim."""
    result = job(name, smoothness=True, condition_at=(0, 4), seed=3).run()
    assert result["curve_steps"].tolist() == [0, 2, 4, 6]
    wisharts = sample_wisharts(TASK, 10, generator=generator(3, 0, DESIGN_STREAM))
    for run in range(3):
        module = LinearTransformer(2, 1, 2, init_scale=0.05, generator=generator(3, run, INITIAL_STREAM))
        optimizer = {
            "sgd": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
            "adam": lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.9, 0.9), weight_decay=0.0),
        }[name](module.parameters())
        for step in range(7):
            row = step // 2
            drawn = sample_instances(TASK, 8, generator=generator(3, run, step))
            loss = torch.stack(
                [risk_of_instance(module, drawn.wisharts[i], drawn.weights[i], drawn.queries[i]) for i in range(8)]
            ).mean()
            optimizer.zero_grad()
            loss.backward()
            if step % 2 == 0:
                curvature = risk_curvature(module, wisharts[:6], TASK)
                expected = {
                    "curve_losses": loss.item(),
                    "held_out_losses": module.mean_risk(wisharts, TASK).item(),
                    "gradient_norms": curvature.gradient.norm().item(),
                }
                for key, value in expected.items():
                    assert result[key][row, run] == pytest.approx(value, rel=ROUNDING), key
                if step in (0, 4):
                    diagonal = curvature.hessian_diagonal().numpy()
                    assert result["condition"][row, run] == pytest.approx(
                        robust_condition_number(diagonal).value, rel=1e-6
                    )
            before = vector(module)
            norm = torch.cat([parameter.grad.reshape(-1) for parameter in module.parameters()]).norm()
            for parameter in module.parameters():
                parameter.grad *= min(1.0, 1.0 / norm)
            optimizer.step()
            if step % 2 == 0 and step < 6:
                along = curvature.directional(vector(module) - before)
                assert result["smoothness"][row, run] == pytest.approx(along, rel=1e-6, abs=1e-9)
    assert np.isnan(result["condition"][[1, 3]]).all()
    assert np.isnan(result["smoothness"][-1]).all()


def risk_of_instance(module, wishart, weight, query):
    """The squared error of one prompt with this W: n = d examples that have it."""
    root = torch.linalg.cholesky(wishart) * len(wishart) ** 0.5
    x = torch.cat([root.mT, query[None]])
    y = torch.cat([root.mT @ weight, torch.zeros(1, dtype=x.dtype)])
    return (module(torch.cat([x, y[:, None]], 1)[None])[0] - weight @ query).square()


def test_a_run_in_an_ensemble_is_the_run_alone():
    """More runs beside it change nothing."""
    options = {"smoothness": True, "condition_at": (0,)}
    together, alone = job(**options).run(), job(runs=1, **options).run()
    for key, values in alone.items():
        if key == "curve_steps":
            continue
        if key == "outcomes":
            assert values == together[key][:1]
        elif key in ("steps", "losses", "residuals", "key_query", "value"):
            np.testing.assert_allclose(values[0], together[key][0], rtol=ROUNDING, err_msg=key)
        else:
            np.testing.assert_allclose(values[:, 0], together[key][:, 0], rtol=ROUNDING, err_msg=key)


def test_observing_does_not_change_the_training():
    """The same weights with and without curvature; optimizers start at the same point and see the same prompts."""
    plain, watched = job().run(), job(smoothness=True, condition_at=(2,)).run()
    assert np.array_equal(plain["key_query"], watched["key_query"])
    other = job("sgd").run()
    assert np.array_equal(plain["curve_losses"][0], other["curve_losses"][0])


def test_jobs_are_kept_and_not_run_again(tmp_path, monkeypatch):
    """A finished training is read from the store, also by a later session."""
    again = job(smoothness=True, condition_at=(0,))
    with Store(tmp_path / "store.sqlite") as store:
        (first,) = run_jobs([again], session=Session(store))
    monkeypatch.setattr(TrainAlongLandscape, "run", lambda self: pytest.fail("it ran again"))
    with Store(tmp_path / "store.sqlite") as store:
        (kept,) = run_jobs([again], session=Session(store))
    for key in ("smoothness", "condition", "held_out_losses"):
        np.testing.assert_array_equal(first[key], kept[key])


def test_the_published_condition_number_by_hand():
    """All parameters, the lower median; signs do not matter."""
    assert published_condition_number([8.0, -4.0, 2.0, 1.0]) == 4
    assert published_condition_number([8.0, 2.0, 0.0, 0.0]) == np.inf
    assert published_condition_number([0.0, 0.0]) == np.inf
    with pytest.raises(ValueError, match="diagonal"):
        published_condition_number([])


@pytest.mark.parametrize(("batch", "batches"), [(1, 30), (4, 7), (30, 3)])
def test_noise_is_the_distance_from_the_reference_gradient(batch, batches, monkeypatch):
    """The same draws, prompt by prompt; pieces of any size give the same numbers."""
    noise = SampledGradientNoise(task=TASK, layers=2, batch=batch, batches=batches, reference=50, seed=2)
    result = noise.run()
    model = LinearTransformer(2, 1, 2, init_scale=0.05, generator=generator(2, 0, INITIAL_STREAM))
    reference = prompt_gradients(model, sample_instances(TASK, 50, generator=generator(2, 0, REFERENCE_STREAM))).mean(0)
    drawn = prompt_gradients(model, sample_instances(TASK, batch * batches, generator=generator(2, 0, 0)))
    expected = (drawn.reshape(batches, batch, -1).mean(1) - reference).norm(dim=1)
    np.testing.assert_allclose(result["norms"], expected.numpy(), rtol=ROUNDING)
    assert result["gradient_norm"] == pytest.approx(reference.norm().item(), rel=ROUNDING)


def test_normal_twins_have_the_moments_of_the_noise():
    """Mean and covariance agree, so that the mean squared norms do; within five standard errors."""
    result = SampledGradientNoise(task=TASK, layers=1, batch=20, batches=4000).run()
    noise, normal = result["norms"] ** 2, result["normal"].ravel() ** 2
    error = np.hypot(noise.std(), normal.std() / np.sqrt(2)) / np.sqrt(4000)
    assert abs(noise.mean() - normal.mean()) < 5 * error


def test_noise_at_zero_weights_only_scales_with_depth():
    """At zero weights the gradient of every layer is the same: L layers have √L times the noise of one."""
    one, three = (
        SampledGradientNoise(task=TASK, layers=layers, batch=3, batches=20, init_scale=0.0).run() for layers in (1, 3)
    )
    np.testing.assert_allclose(three["norms"], np.sqrt(3) * one["norms"], rtol=ROUNDING)


def feature_job(name="adam", **options):
    fields = {"dim": 2, "context_length": 4, "layers": 2, "hidden": 3, "training": training(name), "batch": 5}
    return TrainFeatureTransformer(**{**fields, "runs": 2, "held_out": 6, "designs": 4, **options})


def test_features_are_trained_and_observed_on_the_same_task():
    """The first step by hand: loss, held-out loss and smoothness of each run on prompts of its own features."""
    result = feature_job(smoothness=True, condition_at=(0,)).run()
    for run in range(2):
        module = FeatureTransformer(2, 2, hidden=3, generator=generator(0, run, INITIAL_STREAM))
        target = ReluFeatures(2, 3, generator=generator(0, run, TARGET_STREAM))
        batch = sample_feature_prompts(target, 5, 4, generator=generator(0, run, 0))
        held = sample_feature_prompts(target, 6, 4, generator=generator(0, run, DESIGN_STREAM))
        assert result["curve_losses"][0, run] == pytest.approx(module.loss(batch.tokens, batch.targets).item())
        assert result["held_out_losses"][0, run] == pytest.approx(module.loss(held.tokens, held.targets).item())
    assert np.isfinite(result["smoothness"][:-1]).all()
    assert (result["condition"][0] >= 1).all()
    alone = feature_job(runs=1).run()
    np.testing.assert_allclose(alone["held_out_losses"][:, 0], result["held_out_losses"][:, 0], rtol=ROUNDING)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: job(batch=0), "batch must be"),
        (lambda: job(runs=0), "runs must be"),
        (lambda: job(designs=11), "designs must be"),
        (
            lambda: job(condition_at=(3,)),
            "condition_at must hold multiples of record_every=2 from 0 to below 6 steps, got 3",
        ),
        (lambda: job(condition_at=(6,)), "condition_at must hold multiples"),
        (lambda: job(task=replace(TASK, noise_variance=1.0)).run(), "task must have noise_variance 0"),
        (lambda: SampledGradientNoise(task=TASK, batches=1), "batches must be"),
        (lambda: SampledGradientNoise(task=TASK, batch=0), "batch must be"),
        (lambda: feature_job(designs=7), "designs must be"),
        (lambda: feature_job(condition_at=(1000,)), "condition_at must hold multiples"),
    ],
)
def test_bad_fields_are_named(call, message):
    """The error says which field, its value and what is allowed."""
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_instances_stand_for_prompts_in_training():
    """A batch drawn token by token has the loss that the job would take from what matters of it."""
    prompts = sample_prompts(TASK, 3, generator=generator(0, 0, 0))
    module = LinearTransformer(2, 1, 2, generator=generator(0, 0, 1))
    drawn = instances_of(prompts)
    got = [risk_of_instance(module, *(part[i] for part in drawn)).item() for i in range(3)]
    np.testing.assert_allclose(got, (module(prompts) - prompts.targets).square().detach(), rtol=ROUNDING)
