"""The token-level transformer, its lookup form and its counts say the same, and what a few lines of numpy say."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.models.ensemble import Ensemble
from plumbline.models.normalized_gd import NormalizedGD
from plumbline.models.reasoning import (
    MODEL_NAMES,
    OneLayerTransformer,
    cross_entropy,
    enumerated_sentences,
    sample_label_counts,
    sample_sentences,
    sample_token_counts,
)
from plumbline.models.reasoning.lookup import attend
from plumbline.theory.reasoning import Layer, ReasoningTask, population_loss, replay_normalized_gd
from tests.strategies import reasoning_tasks

# Sums of at most some tens of float64 products of order one, in another order.
ROUNDING = 1e-12
NAMES = st.sampled_from(MODEL_NAMES)
SEEDS = st.integers(0, 2**31)


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomised(model: OneLayerTransformer, generator: torch.Generator, size: float = 0.5) -> OneLayerTransformer:
    """The model with normal parameters in place of zeros."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def brute_force(model: OneLayerTransformer, sentence: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Both logits of one sentence from the definition, in the published form with (d, d) matrices, d = 2N + 3."""
    n, noise = model.task.vocab_size, model.task.noise
    d = 2 * n + 3
    e, shifted = np.eye(d)[:n], np.eye(d)[n : 2 * n]
    w, v, f = np.zeros((d, d)), np.zeros((d, d)), np.zeros((d, d))
    if model.parameterization == "origin":
        v[:n, : 2 * n] = model.value.detach().numpy()
        f[:n, : 2 * n] = model.feed_forward_weight.detach().numpy()
    else:
        v = np.eye(d)
        if noise:
            gamma = math.log(noise / (1 - noise))
            f = np.outer(e[n - 1], gamma * e[0] + shifted[0])
    if model.parameterization == "reparam":
        for k, scale in enumerate(model.scale.tolist()):
            w += scale * np.outer(e[k], shifted[k] - (e[n - 1] if noise else 0))
    else:
        w[: 2 * n, : 2 * n] = model.key_query.detach().numpy()
    x = [e[sentence[0]]] + [e[b] + shifted[a] for a, b in itertools.pairwise(sentence)]
    s = np.array([x[-1] @ w @ xh for xh in x])
    a = {"linear": s, "relu": np.maximum(s + 1e-8, 0), "softmax": np.exp(s) / np.exp(s).sum()}[model.attention]
    m = sum(ah * xh for ah, xh in zip(a, x, strict=True))
    kappa = 1 if model.feed_forward == "FA" else 0
    return e @ v @ m, e @ f @ (x[-1] + kappa * m)


def any_sentences(task: ReasoningTask, seed: int, count: int = 6) -> torch.Tensor:
    """Half of the law; half any tokens, short on symbols so that everything repeats."""
    generator = draws(seed)
    lawful = sample_sentences(task, count, generator=generator).tokens
    wild = torch.tensor([0, task.noise_token, min(1, task.triggers), task.triggers])
    wild = wild[torch.randint(4, (count, task.sentence_length), generator=generator)]
    return torch.cat([lawful, wild])


@given(reasoning_tasks(), NAMES, SEEDS)
def test_logits_are_those_of_the_definition(task, name, seed):
    """Token-level and lookup form against numpy with the published (d, d) matrices, layer by layer."""
    model = randomised(OneLayerTransformer.from_name(name, task), draws(seed))
    tokens = any_sentences(task, seed, count=2)
    with torch.no_grad():
        for logits in (model(tokens), model.lookup_logits(tokens)):
            for row, sentence in enumerate(tokens.tolist()):
                attention, feed_forward = brute_force(model, sentence)
                np.testing.assert_allclose(logits.attention[row], attention, rtol=ROUNDING, atol=ROUNDING)
                np.testing.assert_allclose(logits.feed_forward[row], feed_forward, rtol=ROUNDING, atol=ROUNDING)
                np.testing.assert_allclose(logits.total[row], attention + feed_forward, rtol=ROUNDING, atol=ROUNDING)


@given(reasoning_tasks(), NAMES, SEEDS)
def test_lookup_has_the_gradients_of_the_token_level(task, name, seed):
    """Random combinations of both layers' logits, and the loss, have the same gradient by both routes."""
    generator = draws(seed)
    model = randomised(OneLayerTransformer.from_name(name, task), generator)
    tokens = any_sentences(task, seed)
    labels = torch.randint(task.vocab_size, (len(tokens),), generator=generator)
    parameters = list(model.parameters())
    cotangent = torch.randn(2, len(tokens), task.vocab_size, generator=generator, dtype=torch.float64)

    def gradients(logits):
        value = (logits.attention * cotangent[0] + logits.feed_forward * cotangent[1]).sum()
        return torch.autograd.grad(value, parameters, retain_graph=True)

    slow, fast = model(tokens), model.lookup_logits(tokens)
    losses = torch.nn.functional.cross_entropy(slow.total, labels), model.loss(tokens, labels)
    torch.testing.assert_close(losses[0], losses[1], rtol=ROUNDING, atol=ROUNDING)
    pairs = zip(
        gradients(slow) + torch.autograd.grad(losses[0], parameters),
        gradients(fast) + torch.autograd.grad(losses[1], parameters),
        strict=True,
    )
    for want, got in pairs:
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("attention", ["linear", "relu", "softmax"])
def test_the_gradient_by_hand_is_the_derivative(attention):
    """First and second derivatives of the lookup against finite differences; also with one half unused."""
    generator = draws(3)
    tokens = torch.randint(4, (3, 7), generator=generator)
    halves = [torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda *u: attend(*u, tokens, attention), halves)
    assert torch.autograd.gradgradcheck(lambda *u: attend(*u, tokens, attention), halves)
    for half in (0, 1):
        assert torch.autograd.gradcheck(lambda *u, half=half: attend(*u, tokens, attention)[half], halves)


@given(reasoning_tasks(), st.sampled_from(["linear", "relu", "softmax"]), st.sampled_from(["F", "FA"]), SEEDS)
def test_token_counts_suffice(task, attention, feed_forward, seed):
    """A reparameterised model sees of a sentence of the law its token counts only."""
    generator = draws(seed)
    model = OneLayerTransformer(task, parameterization="reparam", attention=attention, feed_forward=feed_forward)
    randomised(model, generator, size=2.0)
    tokens, labels, outputs = sample_sentences(task, 8, generator=generator)
    counts = torch.nn.functional.one_hot(tokens, task.vocab_size).sum(1)
    sample = counts, tokens[:, -1], outputs
    got, want = model.token_count_logits(*sample), model(tokens)
    torch.testing.assert_close(got.attention, want.attention, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(got.feed_forward, want.feed_forward, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(
        model.token_count_loss(*sample, labels), model.loss(tokens, labels), rtol=1e-11, atol=1e-11
    )


@given(reasoning_tasks(), st.sampled_from(["linear", "relu"]), st.sampled_from(["F", "FA"]), SEEDS)
def test_label_counts_suffice(task, attention, feed_forward, seed):
    """For linear and ReLU attention the loss and its slope are those of the trigger and noise counts."""
    generator = draws(seed)
    model = OneLayerTransformer(task, parameterization="reparam", attention=attention, feed_forward=feed_forward)
    randomised(model, generator).scale.data.abs_()
    tokens, labels, _ = sample_sentences(task, 9, generator=generator)
    counts = torch.bincount(tokens[:, -1], minlength=task.triggers)
    if task.noise:
        counts = torch.bincount((labels == task.noise_token).long(), minlength=2)
    got, want = model.label_count_loss(counts), model.loss(tokens, labels)
    # ReLU: the weights of 1e-8 left out, on up to 12 positions.
    tolerance = 1e-6 if attention == "relu" else ROUNDING
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
    slopes = [torch.autograd.grad(loss, model.scale)[0] for loss in (got, want)]
    torch.testing.assert_close(*slopes, rtol=tolerance, atol=tolerance)


@settings(max_examples=40)
@given(
    reasoning_tasks(max_vocab_size=7, max_sentence_length=7),
    st.sampled_from(["linear", "softmax"]),
    st.sampled_from(["F", "FA"]),
    st.floats(0, 12),
)
def test_enumeration_gives_the_population_loss(task, attention, feed_forward, scale):
    """The exact expected loss over all sentences is the closed form; the unseen outputs have the same."""
    model = OneLayerTransformer(task, parameterization="reparam", attention=attention, feed_forward=feed_forward)
    model.scale.data.fill_(scale)
    want = population_loss(task, scale, Layer(attention, feed_forward))
    assert model.loss(*enumerated_sentences(task)).item() == pytest.approx(want, rel=1e-10, abs=1e-12)
    if task.unseen_tokens:
        assert model.loss(*enumerated_sentences(task, unseen=True)).item() == pytest.approx(want, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("noise", "feed_forward"), [(0.0, "FA"), (0.2, "FA"), (0.2, "F")])
@pytest.mark.parametrize("attention", ["linear", "relu"])
def test_training_by_counts_follows_the_replay(noise, feed_forward, attention):
    """Normalised gradient descent on sampled batches goes through the scales and losses that theory replays."""
    task = ReasoningTask(noise=noise)
    counts = sample_label_counts(task, 64, size=(150,), generator=draws(4))
    model = OneLayerTransformer(task, parameterization="reparam", attention=attention, feed_forward=feed_forward)
    optimizer = NormalizedGD(model.parameters(), lr=0.5)
    losses, scales = [], []
    for batch in counts:
        optimizer.zero_grad()
        loss = model.label_count_loss(batch)
        loss.backward()
        losses.append(loss.item())
        scales.append(model.scale.detach().clone().squeeze())
        optimizer.step()
    replay = replay_normalized_gd(task, counts.numpy(), 0.5, Layer(attention, feed_forward))
    # The 1e-8 of ReLU attention shifts λ in the loss; in the steps it has no effect but through that.
    tolerance = 1e-7 if attention == "relu" else 1e-11
    np.testing.assert_allclose(losses, replay.losses, rtol=tolerance)
    np.testing.assert_allclose(torch.stack(scales), replay.scales[:-1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("noise", "feed_forward"), [(0.0, "FA"), (0.3, "FA"), (0.3, "F")])
@pytest.mark.parametrize("scale", [0.0, 5.0, 60.0, 300.0])
def test_counts_keep_their_precision(noise, feed_forward, scale):
    """Loss and slope far beyond the rounding of the probabilities, against mpmath."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 300
    task = ReasoningTask(noise=noise)
    model = OneLayerTransformer(task, parameterization="reparam", feed_forward=feed_forward)
    model.scale.data.fill_(scale)
    counts = torch.tensor([70.0, 30.0] if noise else [20.0] * 5, dtype=torch.float64)
    gamma = mpmath.mpf(model.noise_logit.item()) if noise else mpmath.mpf(0)

    def exact(x):
        if not noise:
            return mpmath.log1p(59 * mpmath.exp(-x))
        top = gamma + (x if feed_forward == "FA" else 0)
        size = mpmath.log(mpmath.exp(x) + mpmath.exp(top) + 58)
        return size - mpmath.mpf(70) / 100 * x - mpmath.mpf(30) / 100 * top

    loss = model.label_count_loss(counts)
    slope = torch.autograd.grad(loss, model.scale)[0].sum()
    assert loss.item() == pytest.approx(float(exact(mpmath.mpf(scale))), rel=1e-14, abs=0)
    assert slope.item() == pytest.approx(
        float(mpmath.diff(exact, mpmath.mpf(scale), h=mpmath.mpf(10) ** -80)), rel=1e-13
    )


def test_cross_entropy_keeps_its_precision():
    """Without noise loss and gradient at λ = 60 are exact where torch's are zero; elsewhere the two agree."""
    logits = torch.zeros(1, 60, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        logits[0, 7] = 60.0
    label = torch.tensor([7])
    assert torch.nn.functional.cross_entropy(logits, label).item() == 0
    loss = cross_entropy(logits, label)
    (slope,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(59 * math.exp(-60), rel=1e-14)
    assert slope[0, 7].item() == pytest.approx(-59 * math.exp(-60), rel=1e-14)
    assert slope[0, 8].item() == pytest.approx(math.exp(-60), rel=1e-14)
    generator = draws(0)
    logits = torch.randn(20, 9, generator=generator, dtype=torch.float64)
    labels = torch.randint(9, (20, 2), generator=generator)
    weights = torch.rand(20, 2, generator=generator, dtype=torch.float64)
    table = -logits.log_softmax(1)
    torch.testing.assert_close(cross_entropy(logits, labels, weights), (table.gather(1, labels) * weights).sum())
    torch.testing.assert_close(cross_entropy(logits, labels[:, 0]), table.gather(1, labels[:, :1]).mean())


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_an_ensemble_is_its_models(name, noise):
    """Losses, logits and gradients of stacked runs, with shared and with own sentences, are those of single runs."""
    task, generator = ReasoningTask(10, 9, 2, 3, noise), draws(1)
    models = [randomised(OneLayerTransformer.from_name(name, task), generator) for _ in range(3)]
    ensemble = Ensemble(models)
    samples = [sample_sentences(task, 16, generator=generator) for _ in models]
    tokens = torch.stack([sample.tokens for sample in samples])
    labels = torch.stack([sample.labels for sample in samples])
    losses = ensemble.call("loss", tokens, labels, in_dims=(0, 0))
    gradients = torch.autograd.grad(losses.sum(), list(ensemble.parameters().values()))
    for run, model in enumerate(models):
        loss = model.loss(tokens[run], labels[run])
        torch.testing.assert_close(losses[run], loss, rtol=ROUNDING, atol=0)
        for got, want in zip(gradients, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            torch.testing.assert_close(got[run], want, rtol=1e-11, atol=1e-13)
    for method in ("forward", "lookup_logits"):
        together = ensemble.call(method, tokens[0])
        alone = ensemble.select(1).call(method, tokens[0])
        torch.testing.assert_close(together.total[1], models[1](tokens[0]).total, rtol=ROUNDING, atol=ROUNDING)
        torch.testing.assert_close(alone.total[0], models[1](tokens[0]).total, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_an_ensemble_takes_counts(noise):
    """The routes by counts run under an ensemble, shared or one sample for each run."""
    task, generator = ReasoningTask(10, 9, 2, 3, noise), draws(1)
    models = [randomised(OneLayerTransformer.from_name("Reparam-Linear-FA", task), generator) for _ in range(3)]
    ensemble = Ensemble(models)
    labels = sample_label_counts(task, 40, size=(3,), generator=generator)
    tokens = sample_token_counts(task, 40, generator=generator)
    own, shared = ensemble.call("label_count_loss", labels, in_dims=(0,)), ensemble.call("token_count_loss", *tokens)
    for run, model in enumerate(models):
        torch.testing.assert_close(own[run], model.label_count_loss(labels[run]), rtol=ROUNDING, atol=0)
        torch.testing.assert_close(shared[run], model.token_count_loss(*tokens), rtol=ROUNDING, atol=0)


def test_names_and_parameters():
    """Fourteen names, each of its own model; every parameter of it gets a gradient; all else is a buffer."""
    assert len(set(MODEL_NAMES)) == 14
    sizes = {"Origin": 2 * 20 * 10 + 20 * 20, "Reparam": 2, "W": 400}
    for noise in (0.0, 0.3):
        task = ReasoningTask(10, 9, 2, 3, noise)
        tokens, labels, _ = sample_sentences(task, 30, generator=draws(0))
        for name in MODEL_NAMES:
            model = randomised(OneLayerTransformer.from_name(name, task), draws(1))
            assert model.name == name
            kind = "W" if "-W-" in name else name.split("-")[0]
            expected = 1 if kind == "Reparam" and noise else sizes[kind]
            assert sum(parameter.numel() for parameter in model.parameters()) == expected
            model.loss(tokens, labels).backward()
            assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())
            assert model.to(torch.float32).loss(tokens, labels).dtype == torch.float32
            moved = model.to("meta")
            assert all(tensor.is_meta for tensor in [*moved.parameters(), *moved.buffers()])
            kept = {*moved.state_dict()}
            assert kept == {n for n, _ in [*moved.named_parameters(), *moved.named_buffers()]}


def test_noise_estimate_sets_the_feed_forward_layer():
    """γ = log(α̂ / (1 - α̂)), which may differ from run to run of an ensemble."""
    task = ReasoningTask(noise=0.2)
    models = [OneLayerTransformer(task, parameterization="reparam", noise_estimate=share) for share in (0.25, 0.5)]
    assert [model.noise_logit.item() for model in models] == pytest.approx([-math.log(3), 0.0], abs=1e-15)
    assert len(Ensemble(models)) == 2
    assert OneLayerTransformer(task, parameterization="reparam").noise_logit.item() == pytest.approx(-math.log(4))


TASK, NOISY = ReasoningTask(10, 9, 2, 3), ReasoningTask(10, 9, 2, 3, 0.3)
REPARAM = OneLayerTransformer(TASK, parameterization="reparam")
ORIGIN = OneLayerTransformer(TASK)
TOKENS = torch.zeros(2, 9, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OneLayerTransformer(7), "task must be a ReasoningTask, got 7"),
        (lambda: OneLayerTransformer(TASK, parameterization="orgin"), "did you mean 'origin'"),
        (lambda: OneLayerTransformer(TASK, attention="sofmax"), "did you mean 'softmax'"),
        (lambda: OneLayerTransformer(TASK, feed_forward="A"), "feed_forward must be one of 'F', 'FA', got 'A'"),
        (lambda: OneLayerTransformer(TASK, dtype=torch.int64), "dtype must be one of"),
        (lambda: OneLayerTransformer(TASK, device="nowhere"), "device must name a torch device"),
        (
            lambda: OneLayerTransformer(TASK, parameterization="reparam", noise_estimate=0.5),
            "noise_estimate must be None",
        ),
        (lambda: OneLayerTransformer(NOISY, noise_estimate=0.5), "noise_estimate must be None for origin"),
        (lambda: OneLayerTransformer(NOISY, parameterization="reparam", noise_estimate=0.0), "must be greater than 0"),
        (lambda: OneLayerTransformer(NOISY, parameterization="reparam", noise_estimate=1.0), "must be less than 1"),
        (lambda: OneLayerTransformer.from_name("Reparam-Linear-WFA", TASK), "did you mean 'Reparam-Linear-W-FA'"),
        (lambda: OneLayerTransformer.from_name("origin-relu-f", TASK), "did you mean 'Origin-Relu-F'"),
        (lambda: ORIGIN(TOKENS.double()), "tokens must be an int64 tensor"),
        (lambda: ORIGIN(TOKENS[:, :1]), "with H ≥ 2, got torch.int64 of shape \\(2, 1\\)"),
        (lambda: ORIGIN(TOKENS[0]), "tokens must be an int64 tensor"),
        (lambda: ORIGIN([[0, 1]]), "got list"),
        (lambda: ORIGIN.lookup_logits(TOKENS + 10), "tokens must lie in 0…9, got 10…10"),
        (lambda: REPARAM.loss(TOKENS - 1, TOKENS[:, 0]), "tokens must lie in 0…9, got -1…-1"),
        (lambda: ORIGIN.loss(TOKENS, TOKENS[:1, 0]), "labels must have shape \\(2,\\)"),
        (lambda: ORIGIN.loss(TOKENS, TOKENS[:, 0], torch.ones(3)), "weights must have shape \\(2,\\)"),
        (lambda: ORIGIN.label_count_loss(torch.ones(2)), 'needs parameterization="reparam"'),
        (lambda: ORIGIN.token_count_logits(*sample_token_counts(TASK, 2, generator=draws(0))[:3]), "got 'origin'"),
        (
            lambda: REPARAM.label_count_loss(torch.ones(3)),
            "counts must have shape \\(2,\\), got torch.float32 of shape",
        ),
        (
            lambda: OneLayerTransformer(TASK, parameterization="reparam", attention="softmax").label_count_loss(
                torch.ones(2)
            ),
            "linear or relu attention",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    """One sentence that names the parameter, its value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        call()
