"""Reading weights as algorithms, and building the transformer that runs one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from plumbline.models.regression import Algorithm, LinearTransformer, preconditioned_gradient_descent, sample_prompts
from plumbline.models.regression.algorithm import map_norms
from plumbline.theory.regression import RegressionTask
from tests.strategies import generators, orthogonal_matrices, regression_tasks, seeds

COVARIANCE = np.array([[2.0, 0.6, 0.1], [0.6, 1.0, -0.3], [0.1, -0.3, 0.5]])
TASK = RegressionTask(3, 4, covariance=COVARIANCE)
INVERSE = np.linalg.inv(COVARIANCE)
# A few products of matrices of condition below 10.
ROUNDING = 1e-13


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gd_plus_plus(tokens, preconditioners, value_blocks):
    """Textbook GD++ on the data of one prompt: a gradient step on the residuals, then the covariates move."""
    x, y, query = tokens[:-1, :-1].copy(), tokens[:-1, -1].copy(), tokens[-1, :-1].copy()
    n, answer = len(y), 0.0
    for a, b in zip(preconditioners, [*value_blocks, np.zeros_like(preconditioners[0])], strict=True):
        direction = a.T @ (x.T @ y) / n
        spread = b @ (x.T @ x) / n @ a
        answer += direction @ query
        y = y - x @ direction
        x, query = x - x @ spread.T, query - spread @ query
    return answer


@given(regression_tasks(max_dim=3, max_context_length=6), generators(), st.integers(1, 3), seeds)
@settings(max_examples=40)
def test_transformer_runs_the_algorithm(task, rng, layers, seed):
    """On every prompt the transformer built from an algorithm answers as the textbook algorithm does."""
    d = task.dim
    a, b = 0.3 * rng.normal(size=(layers, d, d)), 0.3 * rng.normal(size=(layers - 1, d, d))
    prompts = sample_prompts(task, 3, generator=generator(seed))
    plain = LinearTransformer.from_algorithm(a)(prompts)
    textbook = preconditioned_gradient_descent(prompts, [1.0] * layers, a)
    moving = LinearTransformer.from_algorithm(a, value_blocks=b)(prompts)
    expected = torch.tensor([gd_plus_plus(tokens, a, b) for tokens in prompts.tokens.numpy()], dtype=torch.float64)
    for got, want in ((plain, textbook), (moving, expected)):
        # Rounding grows with the largest intermediate residual; 1e-10 of the answers leaves it room.
        assert torch.allclose(got, want, rtol=1e-10, atol=1e-10 * (1 + want.abs().max().item()))


@given(generators(), st.integers(1, 4), st.integers(1, 4), st.booleans())
@settings(max_examples=40)
def test_round_trip(rng, dim, layers, free):
    """What is built from an algorithm reads as that algorithm."""
    a = rng.normal(size=(layers, dim, dim))
    b = rng.normal(size=(layers - 1, dim, dim)) if free else None
    algorithm = LinearTransformer.from_algorithm(a, value_blocks=b).as_algorithm()
    assert np.array_equal(algorithm.preconditioners, a)
    steps = np.trace(a, axis1=1, axis2=2) / dim
    assert np.allclose(algorithm.step_sizes, steps if free else np.sort(steps), rtol=ROUNDING, atol=ROUNDING)
    if free:
        assert np.allclose(algorithm.value_blocks, b, rtol=ROUNDING, atol=ROUNDING)
        assert np.allclose(algorithm.shrinkages, np.trace(b, axis1=1, axis2=2) / dim, atol=ROUNDING)
    else:
        assert algorithm.value_blocks is None
        assert np.array_equal(algorithm.shrinkages, np.zeros(layers - 1))
    assert 0 <= algorithm.distance <= 1 + ROUNDING


def test_scalar_algorithm_in_the_whitened_frame():
    """A_l = a_l S^{-1}, B_l = b_l I: step sizes, shrinkages, distance zero; elsewhere the distance is positive."""
    steps, shrinkages = np.array([2.0, 0.5, 1.0]), np.array([0.9, 0.3])
    a, b = steps[:, None, None] * INVERSE, shrinkages[:, None, None] * np.eye(3)
    model = LinearTransformer.from_algorithm(a, value_blocks=b)
    algorithm = model.as_algorithm(TASK)
    assert isinstance(algorithm, Algorithm)
    assert np.allclose(algorithm.step_sizes, steps, rtol=ROUNDING)
    assert np.allclose(algorithm.shrinkages, shrinkages, rtol=ROUNDING)
    assert np.allclose(algorithm.preconditioners, a, rtol=ROUNDING)
    assert np.allclose(algorithm.value_blocks, b, rtol=ROUNDING, atol=ROUNDING)
    assert algorithm.distance < ROUNDING
    assert model.as_algorithm().distance > 0.1
    zero = LinearTransformer.from_algorithm(a).as_algorithm(TASK)
    assert np.allclose(zero.step_sizes, np.sort(steps), rtol=ROUNDING)
    assert zero.distance < ROUNDING


def test_distance_is_relative():
    """Off-diagonal whitened entries of a tenth of the norm are at distance a tenth; scale does not matter."""
    off = np.zeros((2, 2))
    off[0, 1] = 0.1 * math.sqrt(2) / math.sqrt(0.99)
    for scale in (1.0, 1e-6):
        algorithm = LinearTransformer.from_algorithm([scale * (np.eye(2) + off)]).as_algorithm()
        # |off| / |I + off|, with |I|² = 2 and |off|² = 0.02/0.99.
        assert algorithm.distance == pytest.approx(0.1, rel=1e-12)
    blocks = LinearTransformer.from_algorithm([np.eye(2)] * 2, value_blocks=[np.eye(2) + off]).as_algorithm()
    assert blocks.distance == pytest.approx(0.1, rel=1e-12)


@given(generators(), st.integers(1, 3), st.integers(0, 2), st.integers(1, 5))
@settings(max_examples=40)
def test_norms_of_maps_are_those_of_the_whole_tensors(rng, dim, layers, heads):
    """Against all d⁴ entries of ∑ B ⊗ K; heads that are many, or zero, change nothing about that."""
    b, k = rng.normal(size=(2, layers, heads, dim, dim))
    k[:, heads // 2] = 0
    entries = np.einsum("lhij,lhkm->lijkm", b, k).reshape(layers, dim**4)
    assert np.allclose(map_norms(b, k), np.linalg.norm(entries, axis=1), rtol=1e-12, atol=1e-12)


def test_wide_models_are_read_in_little_memory():
    """All entries of the map of one layer at d = 300 would be 65 GB."""
    a = np.multiply.outer([0.5, 0.7], np.eye(300))
    algorithm = LinearTransformer.from_algorithm(a, value_blocks=0.3 * a[:1]).as_algorithm()
    assert algorithm.distance < 300 * ROUNDING
    assert algorithm.shrinkages == pytest.approx([0.15])


@given(regression_tasks(max_dim=3), st.data())
@settings(max_examples=30)
def test_reading_is_equivariant(task, data):
    """Rotated covariates with rotated weights read the same in their whitened frame."""
    d = task.dim
    u = data.draw(orthogonal_matrices(d))
    rng = data.draw(generators())
    a, b = rng.normal(size=(2, d, d)), rng.normal(size=(1, d, d))
    turned = RegressionTask(d, 3, covariance=u @ task.covariance_matrix @ u.T)
    first = LinearTransformer.from_algorithm(a, value_blocks=b).as_algorithm(RegressionTask(d, 3, task.covariance))
    second = LinearTransformer.from_algorithm(u @ a @ u.T, value_blocks=u @ b @ u.T).as_algorithm(turned)
    for name in ("step_sizes", "shrinkages", "distance"):
        # Square roots of a covariance of condition up to 100.
        assert np.allclose(getattr(first, name), getattr(second, name), rtol=1e-10, atol=1e-10)


def test_heads_add_up():
    """Heads in proportion to one another are one head; heads apart are at a distance from every scalar algorithm."""
    model = LinearTransformer(2, 2, 3)
    with torch.no_grad():
        for head, (k, b) in enumerate([(-0.3, 2.0), (-0.5, 0.4)]):
            model.key_query[:, head] = k * torch.eye(3, dtype=torch.float64)
            model.value[:, head] = b * torch.eye(3, dtype=torch.float64)
    algorithm = model.as_algorithm()
    assert np.allclose(algorithm.preconditioners, 0.8 * np.eye(3), rtol=ROUNDING)
    assert np.allclose(algorithm.shrinkages, (0.6 + 0.2) / 0.8, rtol=ROUNDING)
    assert algorithm.distance < ROUNDING
    with torch.no_grad():  # the sum stays scalar, the heads do not
        model.key_query[0, 0, 0, 0] += 1
        model.key_query[0, 1, 0, 0] -= 1
    assert np.allclose(model.as_algorithm().preconditioners, 0.8 * np.eye(3), rtol=ROUNDING)
    assert model.as_algorithm().distance > 0.1


def test_looped_layers_are_listed():
    """A looped model runs its one step in every layer."""
    algorithm = LinearTransformer(3, 1, 2, looped=True, generator=generator()).as_algorithm()
    assert algorithm.preconditioners.shape == (3, 2, 2)
    assert algorithm.value_blocks.shape == (2, 2, 2)
    assert len(set(algorithm.step_sizes)) == 1


@given(seeds, st.integers(1, 2))
@settings(max_examples=30)
def test_full_weights_read_as_what_is_odd_in_the_labels(seed, heads):
    """(f(y) − f(−y))/2 = r^T A x_q with the effective preconditioner A of full weights."""
    model = LinearTransformer(1, heads, 3, full=True, init_scale=0.5, generator=generator(seed))
    tokens = sample_prompts(TASK, 4, generator=generator(seed)).tokens
    flipped = tokens * torch.tensor([1.0, 1, 1, -1], dtype=torch.float64)
    odd = (model(tokens) - model(flipped)).detach() / 2
    a = model.as_algorithm(TASK).preconditioners
    assert torch.allclose(odd, preconditioned_gradient_descent(tokens, [1.0], a), rtol=1e-11, atol=1e-11)


@given(seeds, st.floats(0.01, 100) | st.floats(-100, -0.01))
@settings(max_examples=30)
def test_full_weights_modulo_their_gauge(seed, factor):
    """P → c P, Q → Q / c changes neither the network nor what is read."""
    model = LinearTransformer(1, 1, 3, full=True, init_scale=0.5, generator=generator(seed))
    first = model.as_algorithm(TASK)
    with torch.no_grad():
        model.value *= factor
        model.key_query /= factor
    second = model.as_algorithm(TASK)
    assert np.allclose(first.preconditioners, second.preconditioners, rtol=1e-11, atol=1e-11)
    assert first.distance == pytest.approx(second.distance, rel=1e-10)


def test_distance_of_full_weights_sees_even_parts():
    """The optimum, embedded, is at distance zero; a part that reads W alone, or Σ y², is not the algorithm."""
    model = LinearTransformer(1, 1, 3, full=True, init_scale=0.0)
    with torch.no_grad():
        model.value[0, 0, 3, 3] = 1
        model.key_query[0, 0, :3, :3] = -0.7 * torch.as_tensor(INVERSE)
    algorithm = model.as_algorithm(TASK)
    assert algorithm.step_sizes == pytest.approx([0.7], rel=ROUNDING)
    assert algorithm.distance < ROUNDING
    for parameter, index in (("value", (0, 0, 3, 0)), ("key_query", (0, 0, 3, 0))):
        entry = getattr(model, parameter)
        with torch.no_grad():
            entry[index] = 0.5
            assert model.as_algorithm(TASK).distance > 0.1
            entry[index] = 0


@pytest.mark.parametrize("options", [{}, {"value_block": "zero"}, {"full": True}])
def test_zero_weights_do_nothing(options):
    """No NaN from weights of size zero."""
    algorithm = LinearTransformer(1, 2, 2, init_scale=0.0, **options).as_algorithm()
    assert np.array_equal(algorithm.preconditioners, np.zeros((1, 2, 2)))
    assert algorithm.step_sizes.tolist() == [0.0]
    assert algorithm.distance == 0.0
    if not options:
        deep = LinearTransformer(3, 1, 2, init_scale=0.0).as_algorithm()
        assert deep.shrinkages.tolist() == [0.0, 0.0]


@given(generators(), st.integers(1, 3))
@settings(max_examples=10)
def test_single_precision_weights(rng, dim):
    """Weights of single precision are read as they are."""
    a = rng.normal(size=(2, dim, dim)).astype(np.float32)
    assume(np.isfinite(a).all())
    model = LinearTransformer.from_algorithm(a, dtype=torch.float32)
    assert model.key_query.dtype == torch.float32
    assert np.array_equal(model.as_algorithm().preconditioners, a.astype(float))


@pytest.mark.parametrize(
    ("preconditioners", "options", "message"),
    [
        (np.eye(2), {}, "preconditioners must have shape"),
        (np.ones((1, 2, 3)), {}, "preconditioners must have shape"),
        ([np.eye(2), np.eye(3)], {}, "preconditioners must be a real array"),
        (np.full((1, 2, 2), np.nan), {}, "preconditioners must be finite"),
        ("fast", {}, "preconditioners must be"),
        ([np.eye(2)] * 2, {"value_blocks": [np.eye(2)] * 2}, "value_blocks must have shape"),
        ([np.eye(2)] * 2, {"value_blocks": [np.eye(3)]}, "value_blocks must have shape"),
        ([np.eye(2)] * 2, {"value_blocks": [np.full((2, 2), np.inf)]}, "value_blocks must be finite"),
        ([np.eye(2)], {"value_blocks": [np.eye(2)]}, "value_blocks must"),
        ([np.eye(2)], {"dtype": torch.int32}, "dtype must be one of"),
    ],
)
def test_from_algorithm_refuses(preconditioners, options, message):
    """Arrays of another shape or value."""
    with pytest.raises(ValueError, match=message):
        LinearTransformer.from_algorithm(preconditioners, **options)


def test_as_algorithm_refuses():
    """Weights that are no algorithm of this kind, and tasks of another dimension."""
    with pytest.raises(ValueError, match="one layer only, got layers=2"):
        LinearTransformer(2, 1, 2, full=True).as_algorithm()
    with pytest.raises(ValueError, match="task must have dim 2 as the model, got 3"):
        LinearTransformer(2, 1, 2).as_algorithm(TASK)
    model = LinearTransformer(2, 1, 2)
    with torch.no_grad():
        model.value[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="value must be finite"):
        model.as_algorithm()
