"""The forward pass against the paper's formula, and its symmetries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.models.ensemble import Ensemble
from plumbline.models.regression import LinearTransformer, gram, sample_prompts
from plumbline.models.regression.small_matrices import SMALL
from plumbline.theory.regression import RegressionTask
from tests.strategies import orthogonal_matrices, regression_tasks, seeds

# Different orders of the same float64 products: relative to the largest prediction of the batch.
ROUNDING = 1e-12


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def paper_prediction(model, tokens):
    """One prompt, token by token: Z ← Z + (1/n) Σ_h P_h Z M act(Z^T Q_h Z) written out in loops."""
    n, d = len(tokens) - 1, model.dim
    z = tokens.numpy().T.copy()
    for layer in range(model.layers):
        stored = 0 if model.looped else layer
        update = np.zeros_like(z)
        for head in range(model.heads):
            p, q = np.zeros((d + 1, d + 1)), np.zeros((d + 1, d + 1))
            key_query = model.key_query[stored, head].detach().numpy()
            if model.full:
                p, q = model.value[stored, head].detach().numpy(), key_query
            else:
                q[:d, :d], p[d, d] = key_query, 1
                if model.value is not None:
                    p[:d, :d] = model.value[stored, head].detach().numpy()
            for token in range(n + 1):
                scores = [z[:, i] @ q @ z[:, token] for i in range(n)]  # the query's row is not attended to
                if model.activation == "softmax":
                    total = sum(math.exp(score) for score in scores)
                    attention = [math.exp(score) / total for score in scores]
                elif model.activation == "relu":
                    attention = [max(score, 0.0) / n for score in scores]
                else:
                    attention = [score / n for score in scores]
                update[:, token] += p @ sum(a * z[:, i] for i, a in enumerate(attention))
        z = z + update
    return -z[d, n]


@st.composite
def transformers(draw, dim, **fixed):
    """A transformer of any kind with moderate random weights."""
    full = draw(st.booleans())
    options = {
        "value_block": "free" if full else draw(st.sampled_from(["free", "zero"])),
        "looped": draw(st.booleans()),
        "full": full,
        "init_scale": 0.3,
        **fixed,
    }
    layers, heads = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    return LinearTransformer(layers, heads, dim, generator=generator(draw(seeds)), **options)


@st.composite
def batches(draw, **task_options):
    """A task and three of its prompts, scaled to entries of at most one: several layers blow up large ones."""
    task = draw(regression_tasks(max_dim=3, max_context_length=6, **task_options))
    prompts = sample_prompts(task, 3, generator=generator(draw(seeds)))
    return task, prompts._replace(tokens=prompts.tokens / prompts.tokens.abs().max())


def assert_equal(got, want):
    """Equal to rounding, which the largest value of the batch sets."""
    assert torch.isfinite(want).all()
    assert ((got - want).abs() <= ROUNDING * (1e-3 + want.abs().max())).all(), (got, want)


@given(st.data(), st.sampled_from([None, None, "softmax", "relu"]))
@settings(max_examples=60)
def test_forward_is_the_papers_formula(data, activation):
    """All kinds of weights, heads, layers and activations."""
    task, prompts = data.draw(batches())
    model = data.draw(transformers(task.dim, activation=activation))
    expected = torch.tensor([paper_prediction(model, tokens) for tokens in prompts.tokens], dtype=torch.float64)
    assert_equal(model(prompts).detach(), expected)
    assert torch.equal(model(prompts), model(prompts.tokens))


@given(st.data())
@settings(max_examples=60)
def test_from_gram_is_forward(data):
    """The Gram matrix and the query are all that linear attention sees of a prompt."""
    task, prompts = data.draw(batches())
    model = data.draw(transformers(task.dim))
    query = prompts.tokens[:, -1, : task.dim]
    assert_equal(model.from_gram(gram(prompts), query).detach(), model(prompts).detach())


@pytest.mark.parametrize("dim", [SMALL - 2, SMALL - 1])
def test_from_gram_in_both_layouts_is_forward(dim):
    """Samples lie last or first in memory, by the size of the Gram matrices (dim + 1)."""
    draws = torch.Generator().manual_seed(dim)
    model = LinearTransformer(3, 2, dim, full=True, init_scale=0.3, generator=draws)
    prompts = sample_prompts(RegressionTask(dim, 4), 5, generator=draws)
    query = prompts.tokens[:, -1, :dim]
    assert_equal(model.from_gram(gram(prompts), query).detach(), model(prompts).detach())


@given(st.data(), st.sampled_from([None, "softmax", "relu"]))
@settings(max_examples=30)
def test_order_of_examples_is_irrelevant(data, activation):
    """Permuting the examples changes no prediction."""
    task, prompts = data.draw(batches())
    model = data.draw(transformers(task.dim, activation=activation))
    order = torch.randperm(task.context_length, generator=generator(data.draw(seeds)))
    shuffled = torch.cat([prompts.tokens[:, order], prompts.tokens[:, -1:]], dim=1)
    assert_equal(model(shuffled).detach(), model(prompts).detach())


@given(st.data())
@settings(max_examples=30)
def test_sparse_weights_are_linear_in_the_labels(data):
    """y → c y turns the prediction of the published weights into c times it."""
    task, prompts = data.draw(batches())
    model = data.draw(transformers(task.dim, full=False, value_block="free"))
    factor = data.draw(st.floats(-3, 3))
    scaled = prompts.tokens.clone()
    scaled[..., -1] *= factor
    assert_equal(model(scaled).detach() / 3, factor * model(prompts).detach() / 3)


@given(st.data())
@settings(max_examples=30)
def test_rotation_equivariance(data):
    """Rotating covariates and weights together changes no prediction."""
    task, prompts = data.draw(batches())
    model = data.draw(transformers(task.dim, full=False, value_block="free"))
    u = torch.as_tensor(data.draw(orthogonal_matrices(task.dim)))
    rotated = torch.cat([prompts.tokens[..., :-1] @ u.T, prompts.tokens[..., -1:]], dim=-1)
    turned = LinearTransformer(model.layers, model.heads, model.dim, looped=model.looped)
    with torch.no_grad():
        turned.key_query.copy_(u @ model.key_query @ u.T)
        turned.value.copy_(u @ model.value @ u.T)
    assert_equal(turned(rotated).detach(), model(prompts).detach())


@given(st.data())
@settings(max_examples=20)
def test_last_value_block_is_irrelevant(data):
    """The value block of the last layer moves covariates that nobody reads."""
    task, prompts = data.draw(batches())
    model = data.draw(transformers(task.dim, full=False, value_block="free", looped=False))
    before = model(prompts).detach()
    with torch.no_grad():
        model.value[-1] += 1
    assert_equal(model(prompts).detach(), before)


def test_looped_is_a_tied_stack():
    """A looped model is the model whose layers hold the same weights."""
    looped = LinearTransformer(3, 2, 3, looped=True, generator=generator())
    tied = LinearTransformer(3, 2, 3)
    with torch.no_grad():
        tied.key_query.copy_(looped.key_query.expand(3, -1, -1, -1))
        tied.value.copy_(looped.value.expand(3, -1, -1, -1))
    prompts = sample_prompts(RegressionTask(3, 5), 4, generator=generator())
    assert torch.equal(looped(prompts), tied(prompts))


@pytest.mark.parametrize("activation", [None, "softmax", "relu"])
def test_ensemble_of_transformers(activation):
    """Stacked runs predict what each predicts alone, on shared and on their own prompts."""
    models = [LinearTransformer(2, 1, 3, activation=activation, generator=generator(seed)) for seed in range(3)]
    tokens = torch.stack([sample_prompts(RegressionTask(3, 5), 4, generator=generator(s)).tokens for s in range(3)])
    ensemble = Ensemble(models)
    for got, model in zip(ensemble.call("forward", tokens[0]), models, strict=True):
        assert_equal(got.detach(), model(tokens[0]).detach())
    for got, model, own in zip(ensemble.call("forward", tokens, in_dims=(0,)), models, tokens, strict=True):
        assert_equal(got.detach(), model(own).detach())


def test_parameters():
    """Shapes, initial scale, and which parameters exist."""
    model = LinearTransformer(40, 2, 5, init_scale=0.3, generator=generator())
    assert model.key_query.shape == model.value.shape == (40, 2, 5, 5)
    # Standard deviation of 2,000 normal draws: relative error 1.6 %, held to 5 of them.
    assert model.key_query.std().item() == pytest.approx(0.3, rel=0.08)
    zero = LinearTransformer(4, 2, 5, value_block="zero")
    assert zero.value is None
    assert [name for name, _ in zero.named_parameters()] == ["key_query"]
    assert LinearTransformer(4, 2, 5, looped=True).value.shape == (1, 2, 5, 5)
    assert LinearTransformer(4, 2, 5, full=True).key_query.shape == (4, 2, 6, 6)
    assert LinearTransformer(1, 1, 5, init_scale=0.0).key_query.abs().max() == 0
    assert repr(zero) != repr(LinearTransformer(4, 2, 5))
    single = LinearTransformer(1, 1, 2, dtype=torch.float32)
    assert single(torch.ones(1, 3, 3)).dtype == torch.float32


def test_seeds_decide_the_weights():
    """The generator decides the initial weights; without one torch's global seed does."""
    first, again, other = (LinearTransformer(2, 1, 3, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.key_query, again.key_query)
    assert not torch.equal(first.key_query, other.key_query)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        drawn = LinearTransformer(2, 1, 3).key_query
        torch.manual_seed(5)
        assert torch.equal(LinearTransformer(2, 1, 3).key_query, drawn)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 1, 2), {}, "layers must be at least 1, got 0"),
        ((1, 0, 2), {}, "heads must be at least 1, got 0"),
        ((1, 1, 0), {}, "dim must be at least 1, got 0"),
        ((1.5, 1, 2), {}, "layers must be an integer"),
        ((1, 1, 2), {"value_block": "fre"}, "value_block must be one of .*did you mean 'free'"),
        ((1, 1, 2), {"activation": "gelu"}, "activation must be one of"),
        ((1, 1, 2), {"looped": "yes"}, "looped must be one of"),
        ((1, 1, 2), {"full": 1}, "full must be one of"),
        ((1, 1, 2), {"full": True, "value_block": "zero"}, 'value_block must be "free" with full weights'),
        ((1, 1, 2), {"init_scale": -0.1}, "init_scale must be at least 0"),
        ((1, 1, 2), {"init_scale": math.nan}, "init_scale must be finite"),
        ((1, 1, 2), {"generator": 3}, "generator must be a torch.Generator, got 3"),
        ((1, 1, 2), {"dtype": torch.float16}, "dtype must be one of"),
        ((1, 1, 2), {"device": "abacus"}, "device must name a torch device"),
    ],
)
def test_constructor_refuses(arguments, options, message):
    """Every argument is checked, with its name and value in the message."""
    with pytest.raises(ValueError, match=message):
        LinearTransformer(*arguments, **options)


GOOD = torch.ones(2, 4, 3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (GOOD[0], "prompts must have shape"),
        (GOOD[:, :1], "prompts must hold at least one example"),
        (GOOD[:, :, :2], "prompts must have shape"),
        (GOOD.long(), "prompts must be of dtype"),
        (GOOD.numpy(), "prompts must be a torch.Tensor"),
        (GOOD * math.inf, "prompts must be finite"),
        (torch.where(torch.arange(3) == 1, math.nan, GOOD), "prompts must be finite, got 8 entries"),
    ],
)
def test_forward_refuses(tokens, message):
    """Tokens of another shape, type or value."""
    with pytest.raises(ValueError, match=message):
        LinearTransformer(1, 1, 2)(tokens)


@pytest.mark.parametrize(
    ("matrix", "query", "message"),
    [
        (torch.eye(3), torch.ones(1, 2), "gram must have shape"),
        (torch.eye(4)[None], torch.ones(1, 2), "gram must have shape"),
        (torch.eye(3)[None], torch.ones(2, 2), "query must have shape"),
        (torch.eye(3)[None], torch.ones(1, 3), "query must have shape"),
        (torch.eye(3)[None] * math.nan, torch.ones(1, 2), "gram must be finite"),
        (torch.eye(3)[None], torch.ones(1, 2) / 0, "query must be finite"),
    ],
)
def test_from_gram_refuses(matrix, query, message):
    """Gram matrices and queries of another shape or value."""
    with pytest.raises(ValueError, match=message):
        LinearTransformer(1, 1, 2, dtype=torch.float32).from_gram(matrix, query)


@pytest.mark.parametrize("activation", ["softmax", "relu"])
def test_exact_routes_need_linear_attention(activation):
    """With an activation attention is no function of the Gram matrix, and every exact route says so."""
    model = LinearTransformer(1, 1, 2, activation=activation)
    task, w = RegressionTask(2, 3), torch.eye(2, dtype=torch.float64)
    calls = {
        "from_gram": (torch.eye(3)[None], torch.ones(1, 2)),
        "conditional_risk": (w, task),
        "mean_risk": (w[None], task),
        "population_risk": (task,),
        "as_algorithm": (),
    }
    for name, arguments in calls.items():
        with pytest.raises(ValueError, match=f"{name} needs linear attention, got activation='{activation}'"):
            getattr(model, name)(*arguments)


def test_large_finite_input_is_accepted():
    """Finite entries whose sum overflows are finite input."""
    query = torch.full((1, 2), 1e308, dtype=torch.float64)
    model = LinearTransformer(1, 1, 2, init_scale=0.0)
    assert model.from_gram(torch.eye(3, dtype=torch.float64)[None], query).item() == 0
