"""Reference numbers at the published sizes: N = 60, H = 256, Q = 5, Y = 4, batch 512."""

import math

import numpy as np
import pytest

from plumbline.theory.reasoning import (
    Layer,
    ReasoningTask,
    bayes_risk,
    expected_excess_risk,
    feed_forward_floor,
    feed_forward_gap,
    feed_forward_gradient,
    gradient_flow,
    key_query_gradient,
    layer_role_step,
    limit_cycle,
    limit_loss,
    minimum_loss,
    normalized_gd_curve,
    optimal_scale,
    output_probabilities,
    population_loss,
    population_loss_derivative,
    replay_normalized_gd,
    softmax_loss,
    unseen_output_bound,
)

# All from an independent derivation of the formulas and the published model run in float64, unless said.
CLOSE = 1e-12


def task(noise=0.0):
    return ReasoningTask(noise=noise)


@pytest.mark.parametrize(("noise", "value"), [(0.2, 0.5004024235381879), (0.5, 0.6931471805599453)])
def test_bayes_risk(noise, value):
    """H2(α)."""
    assert bayes_risk(task(noise)) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("noise", "rate", "losses"),
    [
        (0.0, 0.1, {0: 4.094344562222101, 10: 3.656486208266492, 100: 0.5151864427272047, 300: 8.793484733943889e-05}),
        (0.0, 0.5, {1: 3.87490538772294, 50: 0.0008224575393501076, 300: 4.340027665995389e-28}),
        (0.2, 0.1, {0: 4.359024652239219, 1: 4.261240990086979, 50: 0.7724433643263746, 100: 0.5025067645996065}),
        (0.5, 0.1, {10: 3.150040409039185, 100: 0.6944629125679522}),
        (0.8, 0.5, {1: 2.584303463441546, 50: 0.500402423699288}),
    ],
)
def test_curves(noise, rate, losses):
    """Losses of the linear FA model under normalised gradient descent."""
    curve = normalized_gd_curve(task(noise), 300, rate).losses
    for step, loss in losses.items():
        assert curve[step] == pytest.approx(loss, rel=CLOSE)


@pytest.mark.parametrize(("step", "value"), [(0, 1 / 60), (50, 0.13687759404788483), (300, 0.999912069018816)])
def test_output_probability(step, value):
    """P(y) along the noiseless curve, η = 0.1."""
    scale = 0.1 * step / math.sqrt(5)
    assert output_probabilities(task(), scale).output == pytest.approx(value, rel=CLOSE)


@pytest.mark.parametrize(
    ("noise", "step", "value"),
    [(0.2, 50, 0.15236461416287733), (0.5, 10, 0.0428503952887524), (0.8, 200, 0.7999999808724949)],
)
def test_noise_probability(noise, step, value):
    """P(τ) along the noisy curve, η = 0.1."""
    assert output_probabilities(task(noise), 0.1 * step).noise_token == pytest.approx(value, rel=CLOSE)


@pytest.mark.parametrize(
    ("noise", "scale", "least", "gap", "crossing"),
    [
        (0.2, 5.4510384535657, 1.590610114251328, 1.0902076907131402, 55),
        (0.5, 4.07753744390572, 2.7319159025128052, 2.03876872195286, 41),
        (0.8, 2.740840023925201, 2.693074442678349, 2.192672019140161, 28),
    ],
)
def test_feed_forward_without_attention(noise, scale, least, gap, crossing):
    """Optimum, loss, gap and crossing step of F."""
    assert optimal_scale(task(noise), Layer(feed_forward="F")) == pytest.approx(scale, rel=CLOSE)
    assert minimum_loss(task(noise), Layer(feed_forward="F")) == pytest.approx(least, rel=CLOSE)
    assert feed_forward_gap(task(noise)) == pytest.approx(gap, rel=CLOSE)
    assert limit_cycle(task(noise), 0.1).first_step == crossing


def test_misspecified_and_uneven():
    """A wrong estimate; scales of their own under uneven triggers, their gradient and flow."""
    assert population_loss(task(0.5), 3.0, Layer(noise_estimate=0.45)) == pytest.approx(1.6491378922885618, rel=CLOSE)
    assert limit_loss(task(0.5), Layer(noise_estimate=0.45)) == pytest.approx(0.698172348486696, rel=CLOSE)
    weights, scales = np.array([0.4, 0.3, 0.15, 0.1, 0.05]), [1.0, 2.0, 0.5, 0.0, 3.0]
    assert weights @ population_loss(task(), scales) == pytest.approx(2.9264174826747844, rel=CLOSE)
    gradient = weights * [population_loss_derivative(task(), scale) for scale in scales]
    assert gradient[0] == pytest.approx(-0.3823826474235671, rel=CLOSE)
    assert gradient[4] == pytest.approx(-0.03730138423243186, rel=CLOSE)
    flow = gradient_flow(task(), 1000.0, weights)
    assert flow[[0, 4]] == pytest.approx([10.04361580466059, 7.819888021087877], rel=CLOSE)


def test_replay():
    """Four batches of six sentences with three triggers, N = 12, η = 0.3."""
    counts = [[3, 1, 2], [2, 2, 2], [0, 4, 2], [1, 1, 4]]
    replay = replay_normalized_gd(ReasoningTask(12, 16, 3, 2), counts, 0.3)
    expected = [2.4849066497880004, 2.3391267584718527, 2.2306526306574836, 2.0661978505866703]
    np.testing.assert_allclose(replay.losses, expected, rtol=CLOSE)
    np.testing.assert_allclose(
        replay.scales[-1], [0.48357273909409637, 0.5936859034358821, 0.7496830945293831], rtol=CLOSE
    )


@pytest.mark.parametrize(
    ("noise", "feed_forward", "scale", "value"),
    [
        (0.0, "FA", 0.0, 4.088848741121),
        (0.0, "FA", 4.0, 3.919831656461),
        (0.0, "FA", 10.0, 3.13350438097),
        (0.2, "F", 5.0, 4.073134385572),
        (0.2, "FA", 8.0, 3.469530379607),
        (0.5, "FA", 5.0, 3.743484511274),
        (0.8, "F", 8.0, 2.874316112574),
    ],
)
def test_softmax(noise, feed_forward, scale, value):
    """Exact and second order; the reference was good to 3e-12."""
    for method in ("exact", "second-order"):
        found = softmax_loss(task(noise), scale, feed_forward=feed_forward, method=method)
        assert found.value == pytest.approx(value, abs=4e-12)


@pytest.mark.parametrize(
    ("noise", "feed_forward", "value"),
    [
        (0.0, "FA", 3.1225801889425173),
        (0.2, "F", 3.5876126311407353),
        (0.2, "FA", 3.3946337277029777),
        (0.5, "FA", 3.150040409039185),
        (0.8, "F", 2.861008235733987),
        (0.8, "FA", 2.1619395938258696),
    ],
)
def test_softmax_limit(noise, feed_forward, value):
    """Where softmax attention ends; the published models trained at paper scale end there within their batch noise."""
    layer = Layer("softmax", feed_forward)
    assert limit_loss(task(noise), layer) == pytest.approx(value, rel=CLOSE)
    assert minimum_loss(task(noise), layer) == pytest.approx(value, rel=1e-11)


@pytest.mark.parametrize(
    ("scale", "value"), [(2.0, 4.035845982377785), (8.0, 0.03646521483017562), (12.0, 0.00036929754515924174)]
)
def test_tied_softmax(scale, value):
    """The reference was good to 1e-12 absolutely."""
    assert softmax_loss(task(), scale, tied_value=True).value == pytest.approx(value, abs=2e-12)


def test_finite_sample_and_layers():
    """Expected excess and layer-role steps."""
    assert expected_excess_risk(task(0.2), 512) == pytest.approx(0.000983099931706664, rel=1e-10)
    assert expected_excess_risk(task(0.5), 2048) == pytest.approx(0.0002443196722280892, rel=1e-10)
    assert [layer_role_step(task(noise), 0.1) for noise in (0.2, 0.5, 0.8)] == [14, 0, 0]
    assert layer_role_step(task(0.2), 0.5) == 3


def test_free_weights():
    """Floor of a lone feed-forward layer, bound for unseen outputs, first gradients."""
    floors = {0.0: 1.3860044852982538, 0.2: 1.6092051607025435, 0.5: 1.3861488912876676, 0.8: 0.7776031078292767}
    for noise, floor in floors.items():
        assert feed_forward_floor(task(noise)) == pytest.approx(floor, rel=CLOSE)
    assert feed_forward_floor(ReasoningTask(12, 8, 3, 2, 0.4)) == pytest.approx(1.0618047140363898, rel=CLOSE)
    # Above the log(1 + |labels|) that follows from the signs of the logits alone, log 5 and log 6.
    assert unseen_output_bound(task()).output_loss == pytest.approx(math.log(60), rel=1e-15)
    assert unseen_output_bound(task(0.2), attention="linear").output_loss == pytest.approx(math.log(55), rel=1e-15)
    row = key_query_gradient(task())[0, [0, 5, 20, 60, 65, 80]]
    expected = [1 / 150, -0.2678086419753086, 0.015617283950617284, -0.19666666666666666]
    expected += [-0.001687566831923786, -0.0015986196169923196]
    np.testing.assert_allclose(row, expected, rtol=1e-11)
    column = feed_forward_gradient(task(0.2))[[59, 5, 20], 0]
    np.testing.assert_allclose(column, [-0.18333333333333335, -0.18333333333333335, 1 / 60], rtol=CLOSE)
