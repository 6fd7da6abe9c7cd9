"""Bad input: every public entry refuses it with a ValueError that names the parameter and the value."""

import inspect
import math

import numpy as np
import pytest

import plumbline.theory.reasoning as package
from plumbline.theory.reasoning import (
    Layer,
    ReasoningTask,
    batch_loss_deviation,
    bayes_predictor,
    bayes_risk,
    convergence_rate,
    degenerate_sample_probability,
    enumerate_population,
    excess_risk,
    excess_risk_bound,
    expected_excess_risk,
    feed_forward_floor,
    feed_forward_gap,
    feed_forward_gradient,
    gradient_flow,
    key_query_gradient,
    layer_logits,
    layer_role_step,
    limit_cycle,
    limit_loss,
    minimum_loss,
    normalized_gd_curve,
    normalized_gradient_flow,
    optimal_scale,
    output_probabilities,
    population_loss,
    population_loss_derivative,
    published_rate,
    replay_normalized_gd,
    softmax_loss,
    softmax_probabilities,
    stall_scale,
    steps_to,
    unseen_output_bound,
)
from tests.bad_input import assert_refused, battery

NAN, INF = math.nan, math.inf
CLEAN = ReasoningTask(12, 8, 3, 2)
NOISY = ReasoningTask(12, 8, 3, 2, 0.2)
FULL = ReasoningTask(6, 8, 2, 3)
UNEVEN = [0.5, 0.3, 0.2]

# (function, arguments, keyword arguments, parameter named in the message, value or remedy shown in the message)
CASES = [
    # The task
    (ReasoningTask, (), {"noise": 1.0}, "noise", "less than 1"),
    (ReasoningTask, (), {"noise": 1.5}, "noise", "1.5"),
    (ReasoningTask, (), {"noise": -0.1}, "noise", "-0.1"),
    (ReasoningTask, (), {"noise": NAN}, "noise", "nan"),
    (ReasoningTask, (), {"noise": "0.2"}, "noise", "'0.2'"),
    (ReasoningTask, (), {"noise": None}, "noise", "None"),
    (ReasoningTask, (9,), {}, "vocab_size", "at least triggers + outputs + 1 = 10"),
    (ReasoningTask, (60.0,), {}, "vocab_size", "60.0"),
    (ReasoningTask, (10**10,), {}, "vocab_size", "at most"),
    (ReasoningTask, (60, 2), {}, "sentence_length", "at least 3"),
    (ReasoningTask, (60, 5), {"noise": 0.1}, "sentence_length", "at least 6"),
    (ReasoningTask, (60, True), {}, "sentence_length", "True"),
    (ReasoningTask, (60, 10**400), {}, "sentence_length", "at most"),
    (ReasoningTask, (60, 256, 0), {}, "triggers", "0"),
    (ReasoningTask, (60, 256, 2.5), {}, "triggers", "2.5"),
    (ReasoningTask, (60, 256, 5, 0), {}, "outputs", "0"),
    (ReasoningTask, (60, 256, 30, 30), {}, "vocab_size", "61"),
    # Enumeration
    (enumerate_population, (ReasoningTask(),), {}, "task", "at most 500000 sentences"),
    (enumerate_population, (ReasoningTask(10**9, 10**9),), {}, "task", "at most 500000 sentences"),
    (enumerate_population, (FULL,), {"unseen": True}, "task", "3 trained outputs among 3"),
    (enumerate_population, ("task",), {}, "task", "'task'"),
    # Task of another type, or with noise where there must be none
    (bayes_risk, (0.2,), {}, "task", "0.2"),
    (bayes_predictor, (None,), {}, "task", "None"),
    (feed_forward_gap, (5,), {}, "task", "5"),
    (feed_forward_floor, (5,), {}, "task", "5"),
    (unseen_output_bound, (FULL,), {}, "task", "unseen outputs"),
    (published_rate, (NOISY, 0.1), {}, "task.noise", "0.2"),
    (key_query_gradient, (NOISY,), {}, "task.noise", "0.2"),
    (key_query_gradient, (ReasoningTask(5000),), {}, "task.vocab_size", "5000"),
    (feed_forward_gradient, (ReasoningTask(5000),), {}, "task.vocab_size", "5000"),
    (gradient_flow, (NOISY, 1.0, UNEVEN), {}, "task.noise", "0.2"),
    (excess_risk, (CLEAN, 0.2), {}, "task.noise", "greater than 0"),
    (expected_excess_risk, (CLEAN, 9), {}, "task.noise", "greater than 0"),
    (excess_risk_bound, (CLEAN, 9, 0.1), {}, "task.noise", "greater than 0"),
    (degenerate_sample_probability, (CLEAN, 9), {}, "task.noise", "greater than 0"),
    (layer_logits, (CLEAN, 1.0), {}, "task.noise", "greater than 0"),
    (layer_role_step, (CLEAN, 0.1), {}, "task.noise", "greater than 0"),
    # Models
    (Layer, ("sofmax",), {}, "attention", "did you mean 'softmax'"),
    (Layer, ("linear", "AF"), {}, "feed_forward", "'AF'"),
    (Layer, (), {"feed_forward": None}, "feed_forward", "None"),
    (Layer, (), {"noise_estimate": 0.0}, "noise_estimate", "0.0"),
    (Layer, (), {"noise_estimate": 1.0}, "noise_estimate", "less than 1"),
    (Layer, (), {"noise_estimate": "0.2"}, "noise_estimate", "'0.2'"),
    (population_loss, (NOISY, 1.0), {"method": "second order"}, "method", "did you mean 'second-order'"),
    (population_loss, (NOISY, NAN), {}, "scale", "nan"),
    (population_loss, (NOISY, [1.0, INF]), {}, "scale", "inf at index (1,)"),
    (population_loss, (NOISY, "1"), {}, "scale", "'1'"),
    (population_loss, (CLEAN, 1.0, Layer(noise_estimate=0.2)), {}, "noise_estimate", "None"),
    (population_loss, (CLEAN, 1.0), {"relu_offset": 1e-8}, "relu_offset", "'linear'"),
    (population_loss, (CLEAN, 1.0, Layer("relu")), {"relu_offset": -1e-8}, "relu_offset", "-1e-08"),
    (population_loss_derivative, (NOISY, INF), {}, "scale", "inf"),
    (population_loss_derivative, (NOISY, 1.0, "relu"), {}, "layer", "'relu'"),
    (output_probabilities, (NOISY, 1.0, None), {}, "layer", "None"),
    (softmax_loss, (NOISY, -1.0), {"tied_value": True}, "scale", "-1.0"),
    (softmax_loss, (NOISY, 1e5), {"tied_value": True}, "scale", "100000"),
    (softmax_loss, (ReasoningTask(20_000), 1.0), {}, "task", "second-order"),
    (softmax_probabilities, (ReasoningTask(60, 20_000), 1.0), {}, "task", "20000"),
    (optimal_scale, (NOISY, "lin"), {}, "layer", "'lin'"),
    (limit_loss, (CLEAN, Layer(noise_estimate=0.1)), {}, "noise_estimate", "0.1"),
    (minimum_loss, (CLEAN, Layer(noise_estimate=0.1)), {}, "noise_estimate", "0.1"),
    (batch_loss_deviation, (NOISY, 1.0, 0), {}, "batch_size", "0"),
    # Dynamics
    (normalized_gd_curve, (CLEAN, -1, 0.1), {}, "steps", "-1"),
    (normalized_gd_curve, (CLEAN, 10**9, 0.1), {}, "steps", "at most"),
    (normalized_gd_curve, (CLEAN, 5, 0.0), {}, "learning_rate", "0.0"),
    (normalized_gd_curve, (CLEAN, 5, 1e9), {}, "learning_rate", "at most"),
    (normalized_gd_curve, (CLEAN, 5, 0.1), {"batch_size": 5}, "batch_size", "at least 6"),
    (normalized_gd_curve, (CLEAN, 5, 0.1), {"trigger_probabilities": [0.5, 0.5]}, "trigger_probabilities", "(3)"),
    (normalized_gd_curve, (CLEAN, 5, 0.1), {"trigger_probabilities": [0.5, 0.5, 0]}, "trigger_probabilities", "0.0"),
    (normalized_gd_curve, (CLEAN, 5, 0.1), {"trigger_probabilities": [1, 1, 1]}, "trigger_probabilities", "sum to 1"),
    (normalized_gd_curve, (NOISY, 5, 0.1), {"trigger_probabilities": UNEVEN}, "task.noise", "0.2"),
    (
        normalized_gd_curve,
        (CLEAN, 5, 0.1, Layer("softmax")),
        {"trigger_probabilities": UNEVEN},
        "attention",
        "token counts",
    ),
    (normalized_gd_curve, (CLEAN, 5, 0.1), {"trigger_probabilities": UNEVEN, "batch_size": 64}, "batch_size", "64"),
    (replay_normalized_gd, (CLEAN, [[1, 2]], 0.1), {}, "counts", "(any, 3)"),
    (replay_normalized_gd, (CLEAN, [[1, -2, 3]], 0.1), {}, "counts", "non-negative"),
    (replay_normalized_gd, (CLEAN, [[0, 0, 0]], 0.1), {}, "counts", "at least one sentence"),
    (replay_normalized_gd, (CLEAN, [[1, 2, 3]], 0.1, Layer("softmax")), {}, "attention", "'softmax'"),
    (replay_normalized_gd, (NOISY, [[1, 2, 3]], 0.1), {}, "counts", "(any, 2)"),
    (steps_to, (CLEAN, 0.0, 0.1), {}, "excess", "0.0"),
    (steps_to, (CLEAN, 0.1, NAN), {}, "learning_rate", "nan"),
    (steps_to, (NOISY, 1e-4, 0.1, Layer(noise_estimate=0.3)), {}, "excess", "the least this model reaches"),
    (convergence_rate, (CLEAN, -1.0), {}, "learning_rate", "-1.0"),
    (limit_cycle, (NOISY, 0.1, Layer()), {}, "task", "inf"),
    (limit_cycle, (CLEAN, 0.1), {}, "task", "inf"),
    (stall_scale, (CLEAN,), {"precision": "float16"}, "precision", "'float16'"),
    (gradient_flow, (CLEAN, -1.0, UNEVEN), {}, "time", "-1.0"),
    (gradient_flow, (CLEAN, 1.0, [0.5, 0.6, -0.1]), {}, "trigger_probabilities", "-0.1"),
    (normalized_gradient_flow, (CLEAN, 501.0, UNEVEN), {}, "length", "501"),
    # Finite samples
    (excess_risk, (NOISY, None), {}, "noise_estimate", "None"),
    (excess_risk, (NOISY, 0.3, 10), {}, "learning_rate", "together"),
    (excess_risk, (NOISY, 0.3, None, 0.1), {}, "steps", "together"),
    (excess_risk, (NOISY, 0.3, -1, 0.1), {}, "steps", "-1"),
    (expected_excess_risk, (NOISY, 1), {}, "sample_size", "1"),
    (expected_excess_risk, (NOISY, 10**9), {}, "sample_size", "at most"),
    (excess_risk_bound, (NOISY, 20, 0.1), {}, "sample_size", "must exceed"),
    (excess_risk_bound, (NOISY, 2000, 1.0), {}, "failure_probability", "less than 1"),
    (excess_risk_bound, (NOISY, 2000, 0.0), {}, "failure_probability", "0.0"),
    (degenerate_sample_probability, (NOISY, 0), {}, "sample_size", "0"),
    (degenerate_sample_probability, (NOISY, 10**400), {}, "sample_size", "at most"),
    (layer_logits, (NOISY, -1.0), {}, "scale", "-1.0"),
    (layer_role_step, (NOISY, 0.1), {"noise_estimate": 2}, "noise_estimate", "2"),
]


@battery(CASES)
def test_bad_input_is_refused(function, arguments, keywords, parameter, shown):
    """Each parameter of each function out of its range."""
    assert_refused(function, arguments, keywords, parameter, shown)


def test_every_public_function_is_in_the_battery():
    """No public function goes untested with bad input."""
    public = {getattr(package, name) for name in package.__all__ if inspect.isfunction(getattr(package, name))}
    assert public <= {case[0] for case in CASES}


def test_every_function_refuses_a_foreign_task():
    """The first argument of every calculator must be a reasoning task."""
    others = {
        excess_risk: (0.2,), steps_to: (0.1, 0.1), normalized_gd_curve: (5, 0.1), replay_normalized_gd: ([[1, 1]], 0.1),
        excess_risk_bound: (100, 0.1), gradient_flow: (1.0, UNEVEN), normalized_gradient_flow: (1.0, UNEVEN),
        batch_loss_deviation: (1.0, 5),
    }  # fmt: skip
    plain = {
        population_loss, population_loss_derivative, output_probabilities, softmax_loss, softmax_probabilities,
        convergence_rate, published_rate, limit_cycle, expected_excess_risk, degenerate_sample_probability,
        layer_logits, layer_role_step,
    }  # fmt: skip
    for name in package.__all__:
        function = getattr(package, name)
        if inspect.isfunction(function):
            rest = others.get(function, (1.0,) if function in plain else ())
            with pytest.raises(ValueError, match="task must be a ReasoningTask"):
                function({"noise": 0.2}, *rest)


@pytest.mark.parametrize("noise", [0.0, 5e-324, 1e-12, 1 - 1e-12, math.nextafter(1, 0)])
@pytest.mark.parametrize("scale", [-1e300, -800.0, 0.0, 800.0, 1e300])
def test_no_nan_at_the_edges(noise, scale):
    """Extreme noise levels and scales give finite, non-negative losses without a warning."""
    task = ReasoningTask(9, 8, 2, 2, noise)
    with np.errstate(all="raise", under="ignore"):
        for attention in ("linear", "relu", "softmax"):
            for feed_forward in ("F", "FA"):
                layer = Layer(attention, feed_forward)
                loss = population_loss(task, scale, layer)
                assert math.isfinite(loss)
                assert loss > -1e-12
                assert math.isfinite(population_loss_derivative(task, scale, layer))
                found = output_probabilities(task, scale, layer)
                assert 0 <= found.output <= 1 + 1e-12
                assert 0 <= found.noise_token <= 1 + 1e-12
