"""Reference numbers: published, or obtained by an independent program and copied here as literals."""

import numpy as np
import pytest

from plumbline.theory.regression import (
    RegressionTask,
    bayes_risk,
    gd_plus_plus_optimum,
    gd_plus_plus_risk,
    gradient_descent_optimum,
    gradient_descent_risk,
    least_squares_risk,
    looped_limit,
    looped_optimum,
    multi_step_limit,
    multi_step_optimum,
    multi_step_risk,
    noisy_multi_step_optimum,
    one_step_optimum,
    one_step_risk,
    wishart_moment,
)

# Literals carry 12 and more digits of float64 computations.
CLOSE = {"rel": 1e-12}


@pytest.mark.parametrize(
    ("dim", "degrees", "moments"),
    [
        (5, 20, [5, 100, 2600, 80400, 2792000, 105364800, 4240684800, 179994830400, 8000311334400]),
        (3, 2, [3, 6, 36, 300, 3120, 38640, 554400, 9041760, 165231360, 3345027840, 74325081600]),
        (20, 40, [20, 800, 48800, 3667200, 309504000, 28127798400, 2692782518400, 268101246067200]),
    ],
)
def test_wishart_moments(dim, degrees, moments):
    """E tr S^k, k = 0, 1, … (checked independently: recursion in another program)."""
    assert [wishart_moment(k, dim, degrees) for k in range(len(moments))] == moments


@pytest.mark.parametrize(
    ("steps", "loss", "step_sizes", "equal_step", "equal_loss"),
    [
        (1, 15 / 13, [10 / 13], 10 / 13, 15 / 13),
        (2, 0.3612396860535319, [0.5153706828359924, 1.2495719615592582], 0.742518141255809, 0.4990073880072561),
        (
            3,
            0.1336084293831833,
            [0.4224085339285802, 0.6891260874046372, 1.7142173795305133],
            0.7155867242039619,
            0.2683422178464498,
        ),
        (
            4,
            0.05495255672034849,
            [0.36205694716007614, 0.5204987168314806, 0.8889820748705585, 2.1388451065001166],
            0.6889532001462558,
            0.16325338153156663,
        ),
        (
            6,
            0.012034436259115606,
            [
                0.28363824464550,
                0.37688758257232,
                0.50305818959906,
                0.73848120674465,
                1.30980574438455,
                2.86121273118112,
            ],
            0.6386664540159407,
            0.07575550640308418,
        ),
    ],
)
def test_multi_step_at_five_and_twenty(steps, loss, step_sizes, equal_step, equal_loss):
    """d = 5, n = 20 (checked independently: determinants in another program, a million sampled matrices)."""
    best, equal = multi_step_optimum(steps, 5, 20), looped_optimum(steps, 5, 20)
    assert best.loss == pytest.approx(loss, **CLOSE)
    np.testing.assert_allclose(best.step_sizes, step_sizes, rtol=1e-12)
    assert equal.loss == pytest.approx(equal_loss, **CLOSE)
    assert equal.step_sizes[0] == pytest.approx(equal_step, **CLOSE)


@pytest.mark.parametrize(
    ("steps", "dim", "n", "loss", "equal_loss"),
    [
        (8, 5, 5, 0.9601063072097225, 1.4992703810181984),
        (3, 5, 2, 3.2535076530612246, 3.38322161679646),
        (6, 20, 40, 0.27542911933233205, 1.1309891836777866),
        (8, 1, 4, 0.022222222222222223, 0.09505412568348845),
        (7, 2, 5, 0.07382720338680539, 0.23675008900136554),
    ],
)
def test_multi_step_elsewhere(steps, dim, n, loss, equal_loss):
    """Other sizes, n < d included (checked independently: determinants in another program)."""
    assert multi_step_optimum(steps, dim, n).loss == pytest.approx(loss, **CLOSE)
    assert looped_optimum(steps, dim, n).loss == pytest.approx(equal_loss, **CLOSE)


@pytest.mark.parametrize(
    ("examples", "step_size", "steps", "loss"),
    [
        (20, 0.04, 1, 1.2),
        (20, 0.04, 2, 0.541900799999997),
        (20, 0.04, 4, 0.2609388843171656),
        (4, 0.08, 3, 2.8103472127999973),
    ],
)
def test_published_grid_of_preconditioned_descent(examples, step_size, steps, loss):
    """The published baseline drops one of its examples and does not divide by n (checked independently)."""
    used = examples - 1
    assert multi_step_risk([step_size * used] * steps, 5, used) == pytest.approx(loss, rel=1e-11)


@pytest.mark.parametrize(
    ("steps", "step_size", "loss"),
    [
        (1, 0.8309652131308182, 2.247427731504165),
        (2, 0.8646228345483086, 1.6406621357730564),
        (3, 0.8347202893201263, 1.3838028992242655),
        (4, 0.8151514415726137, 1.202502019092066),
    ],
)
def test_plain_descent_on_the_published_covariance(steps, step_size, loss):
    """Spectrum (1, 1, 1/4, 1/16, 1) of the published notebooks, Ψ = Σ⁻¹, n = 20 (checked independently)."""
    spectrum = np.array([1, 1, 1 / 4, 1 / 16, 1])
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    task = RegressionTask(5, 20, (basis * spectrum) @ basis.T, (basis / spectrum) @ basis.T)
    best = gradient_descent_optimum(steps, task)
    assert best.loss == pytest.approx(loss, **CLOSE)
    # The literal's step size comes from a scalar minimiser, good to the square root of its loss tolerance.
    assert best.step_sizes[0] == pytest.approx(step_size, rel=1e-7)
    assert gradient_descent_risk(step_size, steps, task) == pytest.approx(loss, **CLOSE)


def test_gd_plus_plus_of_two_layers():
    """d = 5 (checked independently: 200 starts of another program, 4 million sampled matrices)."""
    for n, loss, a, b, bound in (
        (20, 0.05750115263581171, [0.5167623204225456, 3.474663625223279], 0.8684594865225793, 0.05495255672034849),
        (10, 0.38412069579804864, [0.37382385322817757, 3.0163066002920735], 0.922940554547464, 0.3741502971702438),
        (5, 1.4132101868898976, [0.45697031919579256, 2.1459061830218915], 0.3717813405926866, 1.3919417036357682),
    ):
        best = gd_plus_plus_optimum(2, 5, n)
        assert best.loss == pytest.approx(loss, **CLOSE)
        assert best.lower_bound == pytest.approx(bound, **CLOSE)
        # Both searches stop at a gradient near rounding; parameters are good to its square root.
        np.testing.assert_allclose([*best.step_sizes, *best.shrinkages], [*a, b], rtol=1e-6)
        assert gd_plus_plus_risk(a, [b], 5, n) == pytest.approx(loss, **CLOSE)


def test_gd_plus_plus_of_three_layers():
    """d = 5, n = 20 (checked independently: 200 starts of another program, importance sampling)."""
    best = gd_plus_plus_optimum(3, 5, 20)
    assert best.loss == pytest.approx(0.0009613106619461378, rel=1e-10)
    np.testing.assert_allclose(best.step_sizes, [0.33829705923, 2.09084142928, 8.56805682051], rtol=1e-6)
    np.testing.assert_allclose(best.shrinkages, [0.87757804803, 0.57816214176], rtol=1e-6)
    assert best.lower_bound == pytest.approx(0.00028604525508608866, **CLOSE)


@pytest.mark.parametrize(
    ("a", "b", "population", "sampled"),
    [
        ([0.38, 2.40, 9.54], [0.904, 0.566], 0.05776326634612201, 0.0007),
        ([0.386, 2.416, 9.69], [0.9, 0.568], 0.0983936680031951, 0.0006),
        ([0.714, 2.652, 7.128], [0.342, 0.34], 0.0013151932517204237, 0.0015),
    ],
)
def test_population_risk_of_published_weights(a, b, population, sampled):
    """Final weights of three published notebooks: the risk of the first two is 80 to 160 times the loss they print."""
    risk = gd_plus_plus_risk(a, b, dim=5, context_length=20)
    assert risk == pytest.approx(population, rel=1e-10)
    assert risk > 80 * sampled or risk == pytest.approx(sampled, rel=0.2)


@pytest.mark.parametrize(
    ("law", "shape", "n", "step_size", "loss"),
    [
        ("gaussian", None, 5, 0.45454545454545453, 2.7272727272727275),
        ("sphere", None, 20, 4.166666666666666, 0.16666666666666674),
        ("sphere", None, 5, 2.7777777777777777, 0.4444444444444442),
        ("gamma", 0.1, 20, 1.3513513513513513, 0.7297297297297297),
        ("gamma", 0.1, 5, 0.42372881355932207, 0.9152542372881356),
        ("gamma", 2.5, 5, 0.45454545454545453, 2.7272727272727275),  # k = 5/2 at d = 5 is the normal law
    ],
)
def test_one_step_of_the_published_laws(law, shape, n, step_size, loss):
    """One layer, d = 5 (checked independently: 600,000 prompts of the published sampler)."""
    optimum = one_step_optimum(RegressionTask(5, n, covariate_law=law, gamma_shape=shape))
    assert optimum.loss == pytest.approx(loss, **CLOSE)
    np.testing.assert_allclose(optimum.preconditioner, step_size * np.eye(5), atol=1e-13)


def test_one_step_with_weights_that_do_not_commute():
    """Ψ not commuting with Σ, noise, n = 6, other test lengths (checked independently: two million prompts)."""
    s = [
        [0.21360124729523172, 0.20483544376248475, -0.0790341098819002, -0.2845369282107613],
        [0.20483544376248475, 0.8537677823747559, -0.21355290315628567, -0.28796265227728157],
        [-0.0790341098819002, -0.21355290315628567, 0.7216784184302283, 0.664838140029133],
        [-0.2845369282107613, -0.28796265227728157, 0.664838140029133, 1.9855368656183625],
    ]
    psi = [
        [0.5131343633206016, -0.06740423929164528, -0.4471039722748421, -0.11354609186695494],
        [-0.06740423929164528, 0.7124467147341477, 0.04572828104760284, 0.2394468860745563],
        [-0.4471039722748421, 0.04572828104760284, 0.6568663710731582, 0.1376530529246176],
        [-0.11354609186695494, 0.2394468860745563, 0.1376530529246176, 0.4302705303844515],
    ]
    task = RegressionTask(4, 6, s, psi, noise_variance=0.5)
    optimum = one_step_optimum(task)
    assert optimum.loss == pytest.approx(0.881861387270138, **CLOSE)
    row = [0.6502132109027055, -0.11745713325877966, -0.3712916095560001, 0.08045675078461659]
    np.testing.assert_allclose(optimum.preconditioner[0], row, rtol=1e-11)
    for length, risk in ((2, 1.8565209663206614), (20, 0.5407305346024551), (100, 0.42377138511639234)):
        assert one_step_risk(task, optimum.preconditioner, length) == pytest.approx(risk, **CLOSE)


@pytest.mark.parametrize(
    ("steps", "noise", "unconstrained", "loss", "step_sizes"),
    [
        (3, 0.1, 0.1634511421178985, 0.1634511421178985, [0.4219430141059735, 0.69336319453181, 1.681767833680533]),
        (2, 1.0, 0.5959745175884037, 0.5959745175884037, [0.5263586800902522, 1.1226118674122867]),
        (2, 5.0, 1.3254771446036813, 1.3281630074444128, [0.65878337295, 0.6587834291]),
        (5, 1.0, 0.3374130081927926, 0.3392569231053957, [0.31406, 0.45035, 0.53959, 1.50425, 1.50425]),
    ],
)
def test_noisy_multi_step(steps, noise, unconstrained, loss, step_sizes):
    """d = 5, n = 20; with complex zeros the real optimum merges steps (checked independently: global search)."""
    best = noisy_multi_step_optimum(steps, 5, 20, noise)
    assert best.unconstrained_loss == pytest.approx(unconstrained, **CLOSE)
    assert best.loss == pytest.approx(loss, rel=1e-11)
    assert best.attained == (loss == unconstrained)
    np.testing.assert_allclose(best.step_sizes, step_sizes, rtol=1e-12 if best.attained else 1e-5)


@pytest.mark.parametrize(
    ("ratio", "steps", "loss", "step_sizes", "equal_loss"),
    [
        (0.25, 2, 0.047619047619047616, [0.5714285714285714, 4 / 3], 0.072),
        (
            0.5,
            4,
            1 / 31,
            [0.3781972599263238, 0.5162579903202146, 0.9407479538734151, 2.8099580862026263],
            0.0827617741197988,
        ),
        (1.0, 3, 0.25, [0.2928932188134525, 0.5, 1.7071067811865472], 0.3125),
        (0.5, 8, 0.0019569471624266144, None, 0.026575752424905952),
    ],
)
def test_marchenko_pastur(ratio, steps, loss, step_sizes, equal_loss):
    """Limits (checked independently: Narayana moments as rationals)."""
    best, equal = multi_step_limit(steps, ratio), looped_limit(steps, ratio)
    assert best.loss == pytest.approx(loss, **CLOSE)
    assert equal.loss == pytest.approx(equal_loss, **CLOSE)
    assert equal.step_sizes[0] == pytest.approx(1 / (1 + ratio), rel=1e-15)
    if step_sizes is not None:
        np.testing.assert_allclose(best.step_sizes, step_sizes, rtol=1e-12)


@pytest.mark.parametrize(
    ("n", "noise", "low", "high"),
    [
        (20, 0.1, 0.03534272559588614, 0.03534692262967119),
        (20, 1.0, 0.3241821285683742, 0.3241825430738905),
        (2, 1.0, 3.5060781595046193, 3.5060781677868027),
        (2, 0.1, 3.084372353888309, 3.084996267624657),
    ],
)
def test_bayes_brackets(n, noise, low, high):
    """d = 5: certified brackets of another program, with fewer nodes (n = 20) and more (n = 2): ours meet them."""
    risk = bayes_risk(RegressionTask(5, n, noise_variance=noise))
    assert risk.value - risk.error <= high + 1e-12
    assert risk.value + risk.error >= low - 1e-12
    assert risk.error <= max(high - low, 1e-7)


def test_least_squares_of_the_published_figure():
    """d = 5 without noise at n = 2, 4, 6: 3, 1, 0 (the published baseline, one example short, has 4, 2, 0)."""
    assert [round(least_squares_risk(RegressionTask(5, n)), 12) for n in (2, 4, 6)] == [3, 1, 0]
    assert [round(least_squares_risk(RegressionTask(5, n - 1)), 12) for n in (2, 4, 6)] == [4, 2, 0]
