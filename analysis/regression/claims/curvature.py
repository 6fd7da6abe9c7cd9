"""Slope and curvature of the exact risk: closed forms against differentiation, sampling, and descent step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.regression import family
from plumbline.analysis.regression.cases import random_task, rotated_task
from plumbline.analysis.verdict import Expectation, Identity
from plumbline.theory.regression import (
    RegressionTask,
    gradient_at_zero,
    gradient_noise,
    gradient_noise_at_zero,
    largest_stable_step,
    multi_step_hessian,
    multi_step_optimum,
    one_layer_descent,
    one_layer_gradient,
    one_layer_hessian,
    one_step_optimum,
)

AHN = "Ahn, Cheng, Song, Yun, Jadbabaie, Sra 2024 (2310.01082)"


def start(task: RegressionTask, seed: int) -> np.ndarray:
    """A random full matrix of the size of the optimum."""
    best = one_step_optimum(task).preconditioner
    return best + np.random.default_rng(seed).normal(size=best.shape) * np.abs(best).max()


@family.claim(
    statement="The one-layer risk has the gradient 2 k₁ (Γ A − k₁ Σ Ψ) Σ at every full matrix A, and the Hessian 2 k₁ "
    "Γ ⊗ Σ.",
    source="derived here, for the landscape of " + AHN,
    rule=Identity,
    status="derived here",
    rivals={
        "half of it": "the derivatives of half the squared error",
        "long contexts": "Γ without the terms in 1/n: the curvature of infinitely many examples",
    },
    cases=by_budget(
        {
            "d=5, n=20, rotated": rotated_task(),
            "d=3, n=4, noise": random_task(3, 4, 71, noise_variance=0.4),
            "sphere, d=4, n=6": RegressionTask(4, 6, covariate_law="sphere"),
        },
        {"d=8, n=30": random_task(8, 30, 72)},
    ),
)
def one_layer_curvature(task: RegressionTask, budget: Budget, seed: int) -> Evidence:
    import torch

    from plumbline.models.regression import one_step_population_risk

    matrix = start(task, seed)
    point = torch.tensor(matrix, requires_grad=True)

    def risk(a: torch.Tensor) -> torch.Tensor:
        return one_step_population_risk(a, task)

    gradient = torch.autograd.grad(risk(point), point)[0].numpy()
    hessian = torch.autograd.functional.hessian(risk, point.detach()).reshape(matrix.size, -1).numpy()

    def both(of: RegressionTask) -> np.ndarray:
        return np.concatenate([one_layer_gradient(of, matrix).ravel(), one_layer_hessian(of).ravel()])

    predicted = both(task)
    return Evidence(
        # Rounding of sums of some hundred products.
        rule=Identity(1e-11),
        measured=np.concatenate([gradient.ravel(), hessian.ravel()]),
        predicted=predicted,
        rivals=[predicted / 2, both(replace(task, context_length=10**6))],
    )


@family.claim(
    statement="The mean square of a prompt's gradient has a closed form for one layer at every matrix A; at zero "
    "weights it is L times that of one layer.",
    source="derived here, for the gradient noise of " + AHN,
    rule=Expectation,
    status="derived here",
    rivals={
        "no fourth moments": "|E g|², as if all prompts had the mean gradient",
        "independent factors": "the residual, the prediction and the query taken for independent",
    },
    cases=by_budget(
        {
            "zero, L=3": (RegressionTask(5, 20), 3, False),
            "optimum, L=1": (RegressionTask(5, 20), 1, True),
            "sphere, optimum, L=1": (RegressionTask(5, 20, covariate_law="sphere"), 1, True),
        },
        {"rotated, optimum, L=1": (rotated_task(), 1, True)},
    ),
)
def gradient_noise_size(case: tuple[RegressionTask, int, bool], budget: Budget, seed: int) -> Evidence:
    import torch

    from plumbline.models.regression import LinearTransformer, prompt_gradients, sample_instances
    from plumbline.models.training.draws import generator

    task, layers, trained = case
    model = LinearTransformer(layers, 1, task.dim, value_block="zero", init_scale=0.0)
    best = one_step_optimum(task).preconditioner
    if trained:
        with torch.no_grad():
            model.key_query[0, 0] = -torch.as_tensor(best)
    noise = gradient_noise(task, best) if trained else gradient_noise_at_zero(task, layers)
    batches, draws = 64, {Budget.QUICK: 8000, Budget.STANDARD: 20_000, Budget.PAPER: 50_000}[budget]
    squares, errors, outputs, queries = [], [], [], []
    for batch in range(batches):
        instances = sample_instances(task, draws, generator=generator(seed, batch, 0))
        gradients = prompt_gradients(model, instances).detach()
        squares.append(gradients.square().sum(1).mean().item())
        read = torch.einsum("bij,bj->bi", instances.wisharts, instances.weights)
        residual = torch.einsum("bi,bi->b", instances.weights, instances.queries)
        if trained:
            residual = residual - torch.einsum("bi,ij,bj->b", instances.queries, torch.as_tensor(best), read)
        errors.append(residual.square().mean().item())
        outputs.append(read.square().sum(1).mean().item())
        queries.append(instances.queries.square().sum(1).mean().item())
    factors = 4 * layers * float(np.mean(errors) * np.mean(outputs) * np.mean(queries))
    return Evidence(
        # A tenth of the mean square: some standard errors of half a million heavy-tailed draws. The rivals are off by
        # a fifth and more.
        rule=Expectation(0.1, scale=noise.second_moment, draws_per_batch=draws),
        measured=np.array(squares),
        predicted=noise.second_moment,
        rivals=[noise.mean_square, factors],
        note=f"E|g|² = {noise.second_moment:.6g}, |E g|² = {noise.mean_square:.3g}, sampled {np.mean(squares):.6g}",
    )


@dataclass(frozen=True)
class DescentCase:
    """Gradient descent on the exact one-layer risk, at a share of the largest stable step."""

    task: RegressionTask
    momentum: float
    share: float


@family.claim(
    statement="Gradient descent on the one-layer risk, with or without momentum, has the loss curve of its closed form "
    "step by step.",
    source="derived here, for the training curves of " + AHN,
    rule=Identity,
    status="derived here",
    rivals={
        "half the step": "the curve of the loss with a factor ½",
        "isotropic curvature": "all modes decay at the mean rate of the curvature",
    },
    cases=by_budget(
        {
            "rotated, plain": DescentCase(rotated_task(), 0.0, 0.6),
            "noise, momentum 0.9": DescentCase(random_task(4, 9, 73, noise_variance=0.2), 0.9, 0.3),
        },
        {"sphere, momentum 0.5": DescentCase(RegressionTask(5, 20, covariate_law="sphere"), 0.5, 0.8)},
    ),
)
def one_layer_training_curve(case: DescentCase, budget: Budget, seed: int) -> Evidence:
    task, steps = case.task, 120
    rate = case.share * largest_stable_step(task, momentum=case.momentum)
    initial = start(task, seed)
    losses = descend(task, initial, rate, case.momentum, steps)

    def curve(rate: float) -> np.ndarray:
        return one_layer_descent(task, initial, rate, steps, momentum=case.momentum).losses

    least = one_step_optimum(task).loss
    mean = np.trace(one_layer_hessian(task)) / initial.size
    even = least + (losses[0] - least) * (1 - rate * mean) ** (2 * np.arange(steps + 1))
    return Evidence(
        # 120 steps of rounding, of a loss that falls no lower than its minimum.
        rule=Identity(1e-10),
        measured=losses,
        predicted=curve(rate),
        rivals=[curve(rate / 2), even],
        note=f"from {losses[0]:.4g} to {losses[-1]:.4g}, minimum {least:.4g}",
    )


def descend(task: RegressionTask, initial: np.ndarray, rate: float, momentum: float, steps: int) -> np.ndarray:
    """The losses of torch's SGD on the exact risk, before each step and after the last."""
    import torch

    from plumbline.models.regression import one_step_population_risk

    point = torch.tensor(initial, requires_grad=True)
    optimizer = torch.optim.SGD([point], lr=rate, momentum=momentum)
    losses = []
    for _ in range(steps + 1):
        optimizer.zero_grad()
        loss = one_step_population_risk(point, task)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    return np.array(losses)


@family.claim(
    statement="Gradient descent on the one-layer risk is stable up to the step 2(1 + β)/λ_max: at 0.98 of it every "
    "excess falls, at 1.02 it grows.",
    source="derived here from the curvature, for the learning rates of " + AHN,
    rule=Identity,
    status="derived here",
    rivals={
        "1/λ_max": "half of it, the step of steepest descent along the sharpest mode",
        "2/tr H · d²": "the step for the mean curvature",
    },
    cases=by_budget(
        {"rotated, plain": (rotated_task(), 0.0), "rotated, β=0.9": (rotated_task(), 0.9)},
        {"d=4, n=9, β=0.5": (random_task(4, 9, 75), 0.5)},
    ),
)
def largest_step(case: tuple[RegressionTask, float], budget: Budget, seed: int) -> Evidence:
    task, momentum = case
    steps, least, initial = 800, one_step_optimum(task).loss, start(task, seed)

    def falls(step: float) -> list[float]:
        """Whether the excess at the end is below that at the start, just below a step and just above it."""
        ends = []
        for share in (0.98, 1.02):
            losses = descend(task, initial, share * step, momentum, steps) - least
            ends.append(float(losses[-1] < losses[0]))
        return ends

    edge = largest_stable_step(task, momentum=momentum)
    curvature = np.linalg.eigvalsh(one_layer_hessian(task))
    return Evidence(
        # Each is 0 or 1.
        rule=Identity(0.5, scale=1.0),
        measured=falls(edge),
        predicted=[1.0, 0.0],
        rivals=[[1.0, 0.0], [1.0, 0.0]],
        rivals_measured=[falls(1 / curvature[-1]), falls(2 * (1 + momentum) / curvature.mean())],
        note=f"largest stable step {edge:.6g}",
    )


@family.claim(
    statement="At zero weights every layer has the gradient −2ΣΨΣ in its key-query block and none in its value block: "
    "its norm is 2√L |ΣΨΣ| at any depth.",
    source="derived here; the first gradient norms of " + AHN,
    rule=Identity,
    status="derived here",
    rivals={"one layer": "2|ΣΨΣ| at every depth", "a layer's share": "each layer 1/L of the gradient of one layer"},
    cases=by_budget(
        {"d=5, n=20, L=1…4": RegressionTask(5, 20), "rotated, L=1…4": rotated_task()},
        {"d=3, n=8, L=1…4": random_task(3, 8, 74)},
    ),
)
def gradient_at_the_start(task: RegressionTask, budget: Budget, seed: int) -> Evidence:
    import torch

    from plumbline.models.regression import LinearTransformer, wishart_design

    depths = np.arange(1, 5)
    measured = []
    for layers in depths:
        model = LinearTransformer(int(layers), 1, task.dim, value_block="free", init_scale=0.0)
        wisharts, weights = wishart_design(task, 100, degree=2, seed=seed)
        model.mean_risk(wisharts, task, weights).backward()
        parts = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        measured.append(float(torch.cat([part.flatten() for part in parts]).norm()))
    predicted = [float(np.linalg.norm(gradient_at_zero(task, int(layers)))) for layers in depths]
    return Evidence(
        # The design has the moments of the law to rounding.
        rule=Identity(1e-9),
        measured=measured,
        predicted=predicted,
        rivals=[np.full(4, predicted[0]), predicted[0] / np.sqrt(depths)],
        note=", ".join(f"L={layers}: {norm:.4f}" for layers, norm in zip(depths, measured, strict=True)),
    )


@family.claim(
    statement="The optimum of L ≥ 2 steps with a zero value block is no stationary point once the value blocks are "
    "trained: its slope in all but the last of them is a multiple of the identity, and not zero.",
    source="derived here; against a reading of Ahn et al. 2023 (2306.00297), Theorem 3, as a statement on all weights",
    rule=Identity,
    status="derived here",
    rivals={"stationary": "no slope in the value blocks", "next layer": "the slopes one layer later"},
    cases=by_budget(
        {"d=5, n=20, L=3": (RegressionTask(5, 20), 3), "d=3, n=6, L=2": (RegressionTask(3, 6), 2)},
        {"d=5, n=20, L=4": (RegressionTask(5, 20), 4)},
    ),
)
def free_values_leave_the_optimum(case: tuple[RegressionTask, int], budget: Budget, seed: int) -> Evidence:
    import torch

    from plumbline.models.regression import LinearTransformer, wishart_design

    task, layers = case
    model = LinearTransformer(layers, 1, task.dim, value_block="free", init_scale=0.0)
    sizes = multi_step_optimum(layers, task.dim, task.context_length).step_sizes
    with torch.no_grad():
        for layer, size in enumerate(sizes):
            model.key_query[layer, 0] = -size * torch.eye(task.dim, dtype=torch.float64)
    # The slope is an average of polynomials of this degree over the law of W, which the design has exactly.
    wisharts, weights = wishart_design(task, 400, degree=2 * layers + 2, seed=seed)
    model.mean_risk(wisharts, task, weights).backward()
    value = model.value
    assert value is not None
    assert value.grad is not None
    slopes = value.grad[:, 0].diagonal(dim1=-2, dim2=-1).mean(-1).numpy()
    predicted = multi_step_hessian(task, layers).gradient[:layers]
    return Evidence(
        rule=Identity(1e-8),
        measured=slopes,
        predicted=predicted,
        rivals=[np.zeros(layers), np.roll(predicted, 1)],
        note="slope of the risk by each value block: " + ", ".join(f"{slope:.5f}" for slope in slopes),
    )
