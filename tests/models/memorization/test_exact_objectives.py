"""Exact divergence, cross-entropy and accuracy of next-token models, with their derivatives."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from plumbline.models.ensemble import Ensemble
from plumbline.models.memorization import (
    AttentionOnlyTransformer,
    CompressedAttentionTransformer,
    MLPTransformer,
    SequenceEncoder,
    joint_law,
)
from plumbline.models.memorization.fused import cross_entropy
from plumbline.models.training import Training
from plumbline.models.training.trainer import train
from plumbline.theory.memorization import (
    NgramTask,
    conditional_entropy,
    geometric_law,
    lookup_table,
    uniform_divergence,
)
from tests.strategies import ngram_tasks, seeds

# Sums of some hundred terms of size up to ten.
ROUNDING = 1e-12


def model_of(task: NgramTask, seed: int, kind: str = "attention-only"):
    sizes = (task.vocab_size, task.context_length)
    options = {"generator": torch.Generator().manual_seed(seed), "init_scale": 2.0}
    if kind == "encoder":
        return SequenceEncoder(*sizes, 3, **options)
    if kind == "attention-only":
        return AttentionOnlyTransformer(*sizes, 2, 2, 3, **options)
    if kind == "compressed":
        return CompressedAttentionTransformer(*sizes, 2, 2, 3, layers=2, **options)
    return MLPTransformer(*sizes, 2, 2, 3, 4, **options)


kinds = st.sampled_from(["attention-only", "encoder", "compressed", "mlp"])


@given(task=ngram_tasks(), seed=seeds, kind=kinds)
@settings(max_examples=60)
def test_divergence_and_accuracy_are_the_sums(task, seed, kind):
    """Summed context by context in numpy, from the probabilities of the token-level forward pass."""
    model = model_of(task, seed, kind)
    logits = model(torch.tensor(task.contexts)).detach()
    q = logits.softmax(1).numpy()
    divergence = task.prior @ rel_entr(task.conditional, q).sum(1)
    accuracy = sum(rho * p[best] for rho, p, best in zip(task.prior, task.conditional, q.argmax(1), strict=True))
    assert model.divergence(task).item() == pytest.approx(divergence, abs=ROUNDING)
    assert model.accuracy(task).item() == pytest.approx(accuracy, abs=ROUNDING)
    joint = joint_law(task)
    assert model.divergence(joint).item() == pytest.approx(divergence, abs=ROUNDING)
    assert model.accuracy(joint).item() == pytest.approx(accuracy, abs=ROUNDING)
    entropy = conditional_entropy(task)
    assert model.cross_entropy(joint).item() == pytest.approx(divergence + entropy, abs=ROUNDING)


@given(task=ngram_tasks(), seed=seeds, kind=kinds)
@settings(max_examples=40)
def test_the_gradient_of_the_cross_entropy_is_that_of_the_divergence(task, seed, kind):
    """The hand-written gradient equals backpropagation through the logarithms."""
    model, joint = model_of(task, seed, kind), joint_law(task)
    parameters = list(model.parameters())
    got = torch.autograd.grad(model.cross_entropy(joint), parameters, materialize_grads=True)
    expected = torch.autograd.grad(model.divergence(task), parameters, materialize_grads=True)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=ROUNDING)


@pytest.mark.parametrize("kind", ["attention-only", "encoder"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_second_derivatives(kind, length):
    """The Hessian along a direction is that of the divergence, and no silent zero."""
    task = geometric_law(3, length, ratio=0.5)
    model = model_of(task, 5, kind)
    parameters = list(model.parameters())
    direction = [
        torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) for p in parameters
    ]

    def along(loss: torch.Tensor) -> list[torch.Tensor]:
        first = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
        slope = sum((g * v).sum() for g, v in zip(first, direction, strict=True))
        return torch.autograd.grad(slope, parameters, materialize_grads=True)

    got, reference = along(model.cross_entropy(joint_law(task))), along(_plain_cross_entropy(model, task))
    assert max(part.abs().max().item() for part in got) > 1e-3
    for one, other in zip(got, reference, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def _plain_cross_entropy(model, task: NgramTask) -> torch.Tensor:
    logits = model(torch.tensor(task.contexts))
    return -(torch.tensor(task.prior[:, None] * task.conditional) * logits.log_softmax(1)).sum()


@given(task=ngram_tasks(max_vocab_size=4), seed=seeds, kind=kinds)
@settings(max_examples=30)
def test_an_ensemble_has_the_losses_and_gradients_of_its_models(task, seed, kind):
    """Value, gradient and accuracy of every run, with one law for all and with a law for each."""
    members = [model_of(task, seed + run, kind) for run in range(3)]
    ensemble, joint = Ensemble(members), joint_law(task)
    other = torch.rand(joint.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    laws = torch.stack([joint, other / other.sum(), joint])
    for law, axis in ((joint, None), (laws, 0), (laws.movedim(0, 2), 2)):
        losses = ensemble.call("cross_entropy", law, in_dims=(axis,))
        names = list(ensemble.parameters())
        gradients = torch.autograd.grad(
            losses.sum(), [ensemble.parameters()[name] for name in names], materialize_grads=True
        )
        accuracies = ensemble.call("accuracy", law, in_dims=(axis,))
        for run, member in enumerate(members):
            own = law if axis is None else law.select(axis, run)
            loss = member.cross_entropy(own)
            torch.testing.assert_close(losses[run], loss, rtol=ROUNDING, atol=ROUNDING)
            assert accuracies[run].item() == pytest.approx(member.accuracy(own).item(), abs=ROUNDING)
            parameters = dict(member.named_parameters())
            expected = torch.autograd.grad(loss, [parameters[name] for name in names], materialize_grads=True)
            for one, alone in zip(gradients, expected, strict=True):
                torch.testing.assert_close(one[run], alone, rtol=1e-9, atol=ROUNDING)


def test_runs_on_any_axis():
    """The hand-written passes take their run axis wherever vmap has it."""
    generator = torch.Generator().manual_seed(4)
    w, e, j = (torch.rand(3, *shape, generator=generator, dtype=torch.float64) for shape in ((5, 2), (2, 7), (5, 7)))
    moved = (w.movedim(0, 1), e.movedim(0, 2), j)
    got = torch.func.vmap(cross_entropy, in_dims=(1, 2, 0))(*moved)
    expected = [cross_entropy(*run) for run in zip(w, e, j, strict=True)]
    torch.testing.assert_close(got, torch.stack(expected), rtol=ROUNDING, atol=0.0)


def test_extreme_logits_and_impossible_tokens():
    """Neither overflows nor yields no number, and what has probability 0 costs nothing."""
    task = lookup_table(3, 1, labels=[2, 0, 1])
    model = SequenceEncoder(3, 1, 3)
    with torch.no_grad():
        model.encoding.copy_(1e4 * torch.eye(3)[[2, 0, 1]])
        model.unembedding.copy_(torch.eye(3))
    assert model.divergence(task).item() == 0
    assert model.cross_entropy(joint_law(task)).item() == 0
    assert model.accuracy(task).item() == 1
    with torch.no_grad():
        model.encoding.mul_(-1)
    assert model.divergence(task).item() == pytest.approx(1e4 + math.log(2))
    assert model.cross_entropy(joint_law(task)).item() == pytest.approx(1e4 + math.log(2))


def test_the_zero_model_is_the_uniform_predictor():
    """And of equal logits the first counts."""
    task = geometric_law(4, 2, ratio=0.3, window=1)
    model = AttentionOnlyTransformer(4, 2, 2, 2, 3, init_scale=0.0)
    assert model.divergence(task).item() == pytest.approx(uniform_divergence(task), abs=ROUNDING)
    assert model.accuracy(task).item() == pytest.approx(task.prior @ task.conditional[:, 0], abs=ROUNDING)


def test_training_on_the_exact_objective_memorises():
    """A few L-BFGS steps store a small table, and runs trained together store it too."""
    task = lookup_table(5, 2, seed=1)
    joint = joint_law(task)
    models = [AttentionOnlyTransformer(5, 2, 8, 4, 4, generator=torch.Generator().manual_seed(s)) for s in range(2)]
    ensemble = Ensemble(models)
    train(ensemble, lambda runs, step: runs.call("cross_entropy", joint), Training(optimizer="lbfgs", steps=150))
    assert ensemble.call("accuracy", task).tolist() == pytest.approx([1.0, 1.0])
    ensemble = Ensemble(models)
    training = Training(optimizer="adam", steps=300, learning_rate=0.02)
    train(ensemble, lambda runs, step: runs.call("cross_entropy", joint), training)
    assert ensemble.call("accuracy", task).min() > 0.9


def test_bad_laws_are_named():
    """A task of other sizes, a table of another shape, entries that are no numbers, something else."""
    model = AttentionOnlyTransformer(3, 2, 1, 2, 2)
    for method in (model.divergence, model.accuracy):
        with pytest.raises(ValueError, match=r"law must have vocab_size 3 and context_length 2 .*, got 3 and 1"):
            method(geometric_law(3, 1, ratio=0.5))
        with pytest.raises(ValueError, match="law must have shape"):
            method(torch.ones(3, 9, dtype=torch.float64))
        with pytest.raises(ValueError, match="must be an NgramTask"):
            method(np.ones((9, 3)))
    for bad, message in (
        (torch.ones(3, 3).double(), "shape"),
        (torch.full((9, 3), math.nan), "finite"),
        (3, "Tensor"),
        (torch.ones(9, 3), "dtype"),
    ):
        with pytest.raises(ValueError, match=f"joint must .*{message}"):
            model.cross_entropy(bad)
    with pytest.raises(ValueError, match="task must be an NgramTask"):
        joint_law(np.ones((9, 3)))
