"""Normalised gradient descent: curves and replays against the algorithm run on gradients by finite differences."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.theory.reasoning import (
    Layer,
    ReasoningTask,
    bayes_risk,
    convergence_rate,
    gradient_flow,
    limit_cycle,
    minimum_loss,
    normalized_gd_curve,
    normalized_gradient_flow,
    optimal_scale,
    population_loss,
    published_rate,
    replay_normalized_gd,
    stall_scale,
    steps_to,
)
from tests.strategies import generators, reasoning_tasks

UNEVEN = [0.4, 0.3, 0.15, 0.1, 0.05]
layers = st.builds(Layer, st.sampled_from(("linear", "relu")), st.sampled_from(("F", "FA")))


def descend(losses_and_shares, count, learning_rate):
    """Plain normalised gradient descent on λ (count,), the gradient by central differences; the path and the losses."""
    scales, path, values = np.zeros(count), [np.zeros(count)], []
    for loss in losses_and_shares:
        values.append(loss(scales))
        h = 1e-5 * np.eye(count)
        gradient = np.array([(loss(scales + step) - loss(scales - step)) / 2e-5 for step in h])
        norm = np.linalg.norm(gradient)
        if norm > 1e-8:  # no step where the ReLU is off
            scales = scales - learning_rate * gradient / norm
        path.append(scales)
    return np.array(path), np.array(values)


@pytest.mark.parametrize("triggers", [1, 2, 5])
def test_noiseless_curve_is_the_algorithm(triggers):
    """Equal triggers: η t/√Q for each; uneven ones: the same iteration. One norm over all scales."""
    task = ReasoningTask(20, 8, triggers, 2)
    for weights in (np.full(triggers, 1 / triggers), np.arange(1.0, triggers + 1) / np.arange(1, triggers + 1).sum()):

        def loss(scales, weights=weights):
            return weights @ np.log(1 + 19 * np.exp(-scales))

        path, losses = descend([loss] * 60, triggers, 0.2)
        curve = normalized_gd_curve(task, 59, 0.2, trigger_probabilities=weights)
        # Differences with h = 1e-5 give the direction to about 1e-9 a step.
        np.testing.assert_allclose(curve.scales, path[:-1], atol=1e-7)
        np.testing.assert_allclose(curve.losses, losses, atol=1e-7)
        if weights[0] == weights[-1]:
            plain = normalized_gd_curve(task, 59, 0.2)
            np.testing.assert_allclose(plain.scales, curve.scales[:, 0], atol=1e-12)
            np.testing.assert_allclose(plain.losses, curve.losses, rtol=1e-12)


@pytest.mark.parametrize("noise", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("feed_forward", ["F", "FA"])
def test_noisy_curve_is_the_algorithm(noise, feed_forward):
    """Steps of η each, turning round at the optimum of F."""
    task = ReasoningTask(20, 8, 3, 2, noise)

    def loss(scales):
        gamma = math.log(noise / (1 - noise)) + (scales[0] if feed_forward == "FA" else 0)
        log_sum = math.log(math.exp(scales[0]) + math.exp(gamma) + 18)
        return log_sum - (1 - noise) * scales[0] - noise * gamma

    path, losses = descend([loss] * 70, 1, 0.13)
    for attention in ("linear", "relu"):
        curve = normalized_gd_curve(task, 69, 0.13, Layer(attention, feed_forward))
        np.testing.assert_allclose(curve.scales, path[:-1, 0], atol=1e-12)
        np.testing.assert_allclose(curve.losses, losses, rtol=1e-12)


@given(task=reasoning_tasks(), rng=generators(), layer=layers)
@settings(max_examples=40)
def test_replay_is_the_algorithm(task, rng, layer):
    """Random batches: losses before the step, path of every trigger."""
    steps, size, rate = 12, 13, 0.4  # size: a prime that no vocabulary has, so that no batch sits at its optimum
    n, a = task.vocab_size, task.noise
    gamma = math.log(a / (1 - a)) if a else 0.0

    if a:
        counts = rng.binomial(size, a, steps)
        counts = np.stack([size - counts, counts], axis=1)
    else:
        counts = rng.multinomial(size, [1 / task.triggers] * task.triggers, steps)

    def batch_loss(row):
        share = row / size

        def loss(scales):
            if not a:
                return share @ np.log(1 + (n - 1) * np.exp(-scales))
            x = max(scales[0], 0.0) if layer.attention == "relu" else scales[0]
            noise_token = gamma + (x if layer.feed_forward == "FA" else 0)
            return math.log(math.exp(x) + math.exp(noise_token) + n - 2) - share[0] * x - share[1] * noise_token

        return loss

    path, losses = descend([batch_loss(row) for row in counts], 1 if a else task.triggers, rate)
    replay = replay_normalized_gd(task, counts, rate, layer)
    assert replay.losses.shape == (steps,)
    np.testing.assert_allclose(replay.scales.reshape(path.shape), path, atol=1e-6)
    np.testing.assert_allclose(replay.losses, losses, atol=1e-6)


def test_relu_stays_where_it_is_off():
    """A first batch of noise labels only throws the F model below zero; ReLU attention never comes back."""
    task = ReasoningTask(12, 8, 2, 2, 0.5)
    counts = [[0, 8], [8, 0], [8, 0]]
    replay = replay_normalized_gd(task, counts, 0.5, Layer("relu", "F"))
    assert replay.scales.tolist() == [0.0, -0.5, -0.5, -0.5]
    # There the model has the loss at λ = 0, log(e^0 + e^0 + 10) − ξ_y with ξ_y = 0.
    assert replay.losses[2] == pytest.approx(math.log(12))
    linear = replay_normalized_gd(task, counts, 0.5, Layer(feed_forward="F"))
    assert linear.scales.tolist() == [0.0, -0.5, 0.0, 0.5]


def test_population_curve_below_zero():
    """An estimate far below α puts the optimum of F below zero: linear attention goes there, ReLU takes one step."""
    task = ReasoningTask(4, 6, 1, 1, 0.9)
    layer = Layer("linear", "F", 0.1)
    assert optimal_scale(task, layer) < -0.6
    assert normalized_gd_curve(task, 3, 0.25, layer).scales.tolist() == [0.0, -0.25, -0.5, -0.75]
    assert normalized_gd_curve(task, 3, 0.25, Layer("relu", "F", 0.1)).scales.tolist() == [0.0, -0.25, -0.25, -0.25]


def test_batches_do_not_matter_with_noise_and_fa():
    """Any label counts give η t, and a batch loss that differs by (α − α_B) γ̂."""
    task = ReasoningTask(30, 12, 3, 2, 0.2)
    replay = replay_normalized_gd(task, [[3, 1], [0, 5], [7, 0]], 0.1, Layer(noise_estimate=0.25))
    np.testing.assert_allclose(replay.scales, [0, 0.1, 0.2, 0.3], rtol=1e-15)
    curve = normalized_gd_curve(task, 3, 0.1, Layer(noise_estimate=0.25)).losses[:3]
    gamma = math.log(0.25 / 0.75)
    np.testing.assert_allclose(replay.losses - curve, (0.2 - np.array([0.25, 1, 0])) * gamma, rtol=1e-12)


def test_batch_correction_of_the_speed():
    """Mean speed over 200 replays of 300 steps: 1 − (Q−1)/(2B) within 5 standard errors; the uncorrected is outside."""
    task, size, rng = ReasoningTask(60, 16, 5, 4), 128, np.random.default_rng(7)
    counts = rng.multinomial(size, [0.2] * 5, (200, 300))
    ends = np.array([replay_normalized_gd(task, batch, 0.1).scales[-1].mean() for batch in counts])
    ideal = normalized_gd_curve(task, 300, 0.1).scales[-1]
    corrected = normalized_gd_curve(task, 300, 0.1, batch_size=size).scales[-1]
    assert corrected == pytest.approx(ideal * (1 - 4 / 256), rel=1e-14)
    error = ends.std() / math.sqrt(len(ends))
    # 2e-4: the next order in Q/B, and the spread of the scales.
    assert abs(ends.mean() - corrected) < 5 * error + 2e-4 * ideal
    assert abs(ends.mean() - ideal) > 20 * error
    noisy = ReasoningTask(noise=0.3)
    np.testing.assert_array_equal(
        normalized_gd_curve(noisy, 9, 0.1, batch_size=64).scales, normalized_gd_curve(noisy, 9, 0.1).scales
    )


def test_softmax_curve():
    """Softmax scales rise by the same steps; with an interior optimum they cycle around it."""
    curve = normalized_gd_curve(ReasoningTask(), 40, 0.5, Layer("softmax"))
    np.testing.assert_allclose(curve.scales, 0.5 / math.sqrt(5) * np.arange(41), rtol=1e-14)
    assert (np.diff(curve.losses) < 0).all()
    task = ReasoningTask(7, 6, 2, 2, 0.8)
    layer = Layer("softmax", "F")
    cycle, curve = limit_cycle(task, 0.5, layer), normalized_gd_curve(task, 20, 0.5, layer, method="exact")
    assert sorted(curve.scales[-2:].tolist()) == pytest.approx(list(cycle.scales))
    assert sorted(curve.losses[-2:].tolist()) == pytest.approx(sorted(cycle.losses), rel=1e-14)


@pytest.mark.parametrize("noise", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("rate", [0.03, 0.1, 0.5])
def test_limit_cycle(noise, rate):
    """The curve of F ends between the two scales of the cycle, first past the optimum at the stated step."""
    task = ReasoningTask(noise=noise)
    cycle = limit_cycle(task, rate)
    curve = normalized_gd_curve(task, cycle.first_step + 7, rate, Layer(feed_forward="F"))
    best = optimal_scale(task, Layer(feed_forward="F"))
    assert cycle.scales[0] < best <= cycle.scales[1]
    assert np.argmax(curve.scales >= best) == cycle.first_step
    assert {round(x, 9) for x in curve.scales[-4:]} == {round(x, 9) for x in cycle.scales}
    assert min(cycle.losses) >= minimum_loss(task, Layer(feed_forward="F"))


# Rates


@given(
    task=reasoning_tasks(max_vocab_size=60),
    layer=layers,
    estimate=st.none() | st.floats(0.05, 0.95),
    excess=st.floats(1e-6, 3),
    rate=st.floats(0.02, 1),
)
def test_steps_to_is_the_first_step(task, layer, estimate, excess, rate):
    """The loss is within the excess after that many steps and not after one fewer; or it never is."""
    layer = replace(layer, noise_estimate=estimate if task.noise else None)
    curve = normalized_gd_curve(task, 4000, rate, layer).losses - bayes_risk(task)
    if curve.min() > excess:
        with pytest.raises(ValueError, match="excess must be at least"):
            steps_to(task, excess - 1e-12, rate, layer)
        return
    steps = steps_to(task, excess + 1e-12, rate, layer)
    # 1e-12: rounding of the losses at the very edge.
    assert curve[steps] <= excess + 1e-12
    assert steps == 0 or (curve[:steps] > excess - 1e-12).all()


def test_steps_to_in_other_regimes():
    """Tiny and huge excesses, and softmax."""
    task = ReasoningTask(noise=0.2)
    assert steps_to(task, 1e-300, 0.1) == math.ceil((math.log(0.8 * 58) + 300 * math.log(10)) / 0.1)
    assert steps_to(task, 1e300, 0.1) == 0
    assert steps_to(ReasoningTask(), 1e-300, 0.1) == math.ceil(math.sqrt(5) * (math.log(59) + 300 * math.log(10)) / 0.1)
    curve = normalized_gd_curve(ReasoningTask(), 400, 0.1, Layer("softmax")).losses
    assert steps_to(ReasoningTask(), 3.2, 0.1, Layer("softmax")) == np.argmax(curve <= 3.2)
    with pytest.raises(ValueError, match=r"excess must be at least 3\.12258"):
        steps_to(ReasoningTask(), 3.1, 0.1, Layer("softmax"))
    with pytest.raises(ValueError, match=r"excess must be at least 2\.03883"):
        steps_to(ReasoningTask(noise=0.5), 2.0, 0.1, Layer(feed_forward="F"))


@pytest.mark.parametrize(("task", "factor"), [(ReasoningTask(), math.sqrt(5)), (ReasoningTask(noise=0.2), 1.0)])
def test_rate_is_the_slope(task, factor):
    """The log of the excess falls by the rate per step; the published η/Q is not the slope."""
    curve = normalized_gd_curve(task, 260, 0.1).losses - bayes_risk(task)
    slope = -math.log(curve[260] / curve[200]) / 60
    # At step 200 the excess is below 0.01, and the slope's relative distance from the rate half of that.
    assert slope == pytest.approx(convergence_rate(task, 0.1), rel=2e-3)
    assert convergence_rate(task, 0.1) == pytest.approx(0.1 / factor)
    if not task.noise:
        assert published_rate(task, 0.1) == 0.1 / 5
        assert abs(slope / published_rate(task, 0.1) - 1) > 1


def test_excess_lies_between_its_bounds():
    """x − x²/2 ≤ log(1 + x) ≤ x with x = c e^{−rt}."""
    task = ReasoningTask(noise=0.3)
    steps = np.arange(400)
    excess = normalized_gd_curve(task, 399, 0.1).losses - bayes_risk(task)
    x = 0.7 * 58 * np.exp(-convergence_rate(task, 0.1) * steps)
    assert (excess <= x + 1e-15).all()
    assert (excess >= x - x * x / 2 - 1e-15).all()


def test_float32_stalls_where_predicted():
    """1 + c e^{−λ} rounds to 1 in float32 log 2 past the stall scale, and not before it; likewise in float64."""
    for task in (ReasoningTask(), ReasoningTask(noise=0.2), ReasoningTask(noise=0.8)):
        constant = 59 if not task.noise else (1 - task.noise) * 58
        for precision, kind in (("float32", np.float32), ("float64", np.float64)):
            scale = stall_scale(task, precision=precision)
            for offset, rounds in ((0.0, False), (0.69, False), (0.70, True)):
                x = kind(constant * math.exp(-(scale + offset)))
                assert (kind(1) + x == kind(1)) == rounds


# The flow


@pytest.mark.parametrize("time_", [0.0, 1e-3, 1.0, 30.0, 1000.0, 1e12])
def test_flow_obeys_its_equation(time_):
    """e^λ + (N−1)λ = 1 + (N−1)π T, and λ' is the negative gradient."""
    task = ReasoningTask()
    scales = gradient_flow(task, time_, UNEVEN)
    np.testing.assert_allclose(np.exp(scales) + 59 * scales, 1 + 59 * np.array(UNEVEN) * time_, rtol=1e-12)
    if time_:
        h = 1e-5 * time_
        slope = (gradient_flow(task, time_ + h, UNEVEN) - gradient_flow(task, time_ - h, UNEVEN)) / (2 * h)
        np.testing.assert_allclose(slope, UNEVEN / (1 + np.exp(scales) / 59), rtol=1e-4)


def test_flow_at_extreme_times():
    """Frequent triggers lead by log π_k/π_j in the end; nothing overflows."""
    scales = gradient_flow(ReasoningTask(), 1e300, UNEVEN)
    np.testing.assert_allclose(np.diff(scales), np.diff(np.log(UNEVEN)), rtol=1e-12)


def test_normalised_flow_is_the_limit_of_small_steps():
    """Discrete paths with η and η/2 extrapolate to the flow; equal triggers give s/√Q."""
    task = ReasoningTask()
    for length in (2.0, 10.0, 30.0):
        coarse, fine = (
            normalized_gd_curve(task, round(length / rate), rate, trigger_probabilities=UNEVEN).scales[-1]
            for rate in (0.02, 0.01)
        )
        np.testing.assert_allclose(normalized_gradient_flow(task, length, UNEVEN), 2 * fine - coarse, atol=2e-5)
        np.testing.assert_allclose(normalized_gradient_flow(task, length, [0.2] * 5), length / math.sqrt(5), rtol=1e-9)
    assert (normalized_gradient_flow(task, 0, UNEVEN) == 0).all()
    assert np.isfinite(normalized_gradient_flow(task, 500, UNEVEN)).all()


def test_uneven_triggers_keep_the_rate():
    """The mean scale runs at η/√Q up to a constant."""
    task = ReasoningTask()
    ends = [normalized_gradient_flow(task, length, UNEVEN).mean() for length in (40.0, 50.0)]
    assert (ends[1] - ends[0]) / 10 == pytest.approx(1 / math.sqrt(5), rel=1e-3)


def test_losses_are_population_losses():
    """The curve's losses are the population losses at its scales, for each model."""
    task = ReasoningTask(12, 9, 2, 2, 0.3)
    for attention in ("linear", "relu", "softmax"):
        for feed_forward in ("F", "FA"):
            layer = Layer(attention, feed_forward, 0.4)
            curve = normalized_gd_curve(task, 5, 0.3, layer, method="exact")
            np.testing.assert_array_equal(curve.losses, population_loss(task, curve.scales, layer))
