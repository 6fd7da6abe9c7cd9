"""Identities: what holds prompt by prompt, and what derivatives say at the optimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.regression import family
from plumbline.analysis.regression.cases import random_task, rotated_task
from plumbline.analysis.verdict import Identity
from plumbline.theory.regression import (
    RegressionTask,
    looped_optimum,
    multi_step_limit,
    multi_step_optimum,
    one_step_optimum,
)


@dataclass(frozen=True)
class AlgorithmCase:
    """A task and a number of steps."""

    task: RegressionTask
    steps: int


@family.claim(
    statement="A transformer with zero value block and key-query blocks −A_l answers every prompt like L steps of "
    "preconditioned gradient descent.",
    source="von Oswald et al. 2023 (2212.07677), Proposition 1; Ahn et al. 2023 (2306.00297), Lemma 1",
    rule=Identity,
    status="as published",
    rivals={
        "transposed preconditioner": "the steps with A_lᵀ",
        "one step fewer": "L − 1 steps",
        "sum instead of mean": "steps without the factor 1/n",
    },
    cases=by_budget(
        {
            "L=3, d=4, n=7, noise": AlgorithmCase(random_task(4, 7, 61, noise_variance=0.3), 3),
            "L=1, d=1, n=1": AlgorithmCase(RegressionTask(1, 1), 1),
        },
        {"L=6, d=8, n=40": AlgorithmCase(random_task(8, 40, 62), 6)},
    ),
)
def transformer_is_its_algorithm(case: AlgorithmCase, budget: Budget, seed: int) -> Evidence:
    import torch

    from plumbline.models.regression import LinearTransformer, sample_prompts
    from plumbline.models.training.draws import generator

    task, steps = case.task, case.steps
    prompts = sample_prompts(task, 1000, generator=generator(seed, 0, 0))
    rng = np.random.default_rng(seed)
    scale = 0.5 / np.linalg.eigvalsh(task.covariance_matrix)[-1]
    blocks = scale * (np.eye(task.dim) + 0.3 * rng.normal(size=(steps, task.dim, task.dim)))
    model = LinearTransformer.from_algorithm(blocks)

    def descent(preconditioners: np.ndarray, size: float = 1.0) -> np.ndarray:
        """One step after the other, each with its own preconditioner."""
        w = torch.zeros_like(prompts.weights)
        x, y = prompts.tokens[:, :-1, :-1], prompts.tokens[:, :-1, -1]
        for a in preconditioners:
            gradient = torch.einsum("bni,bn->bi", x, torch.einsum("bni,bi->bn", x, w) - y) / x.shape[1]
            w = w - size * gradient @ torch.as_tensor(a)
        return torch.einsum("bi,bi->b", w, prompts.tokens[:, -1, :-1]).numpy()

    transposed = np.swapaxes(blocks, 1, 2) if task.dim > 1 else 1.1 * blocks
    return Evidence(
        # Rounding of about L·n·d products of size one: 1e-12 of the largest answer is a thousand times that.
        rule=Identity(1e-12),
        measured=model(prompts).detach().numpy(),
        predicted=descent(blocks),
        rivals=[
            descent(transposed),
            descent(blocks[:-1]) if steps > 1 else np.zeros(len(prompts.targets)),
            descent(blocks, size=2.0 if task.context_length == 1 else task.context_length),
        ],
    )


@family.claim(
    statement="The one-layer population risk is quadratic in A with the positive definite Hessian 2 Γ ⊗ Σ, and its "
    "gradient vanishes at A* alone.",
    source="Ahn et al. 2023 (2306.00297), Theorem 1; Hessian derived here",
    rule=Identity,
    status="derived here",
    rivals={
        "no trace term": "Γ = (1+1/n) ΣΨΣ and the optimum that goes with it",
        "half the Hessian": "Hessian Γ ⊗ Σ: the risk with a factor ½",
    },
    cases=by_budget(
        {
            "published rotation": rotated_task(),
            "d=3, n=4, any weight covariance, noise": random_task(3, 4, 71, noise_variance=0.7),
        },
        {"sphere": random_task(3, 5, 72, covariate_law="sphere", noise_variance=0.1)},
    ),
)
def one_step_gradient_and_hessian(task: RegressionTask, budget: Budget, seed: int) -> Evidence:
    import torch

    from plumbline.models.regression import one_step_population_risk

    d, n, (k1, k2) = task.dim, task.context_length, task.radial_moments
    start = torch.as_tensor(np.random.default_rng(seed).normal(size=d * d))

    def risk(flat: torch.Tensor) -> torch.Tensor:
        return one_step_population_risk(flat.reshape(d, d), task)

    gradient = torch.func.grad(risk)(start).numpy()
    hessian = torch.func.jacrev(torch.func.grad(risk))(start).numpy()
    stationary = start.numpy() - np.linalg.solve(hessian, gradient)

    s, psi = task.covariance_matrix, task.weight_covariance_matrix
    product = ((n - 1) / n * k1**2 + 2 * k2 / n) * s @ psi @ s
    spread = (k2 / n * np.sum(psi * s) + task.noise_variance * k1 / n) * s

    def form(gamma: np.ndarray, optimum: np.ndarray, factor: float = 2.0) -> np.ndarray:
        kronecker = factor * np.kron(gamma, task.second_moment)
        return np.r_[optimum.ravel() / np.linalg.norm(optimum), kronecker.ravel() / np.linalg.norm(full)]

    full = 2 * np.kron(product + spread, task.second_moment)
    best = one_step_optimum(task).preconditioner
    without = np.linalg.solve(product, k1 * s @ psi)
    return Evidence(
        # Two solves with a Hessian of condition below 1e3: 1e-11 is 1e5 eps.
        rule=Identity(1e-11),
        measured=np.r_[stationary / np.linalg.norm(best), hessian.ravel() / np.linalg.norm(full)],
        predicted=form(product + spread, best),
        rivals=[form(product, without), form(product + spread, best, factor=1.0)],
        note=f"smallest eigenvalue of the Hessian {np.linalg.eigvalsh(hessian)[0]:.3g}",
    )


@family.claim(
    statement="At the optimal step sizes of several layers the gradient of the population risk by all entries of all "
    "matrices vanishes, and the Hessian is positive definite.",
    source="Ahn et al. 2023 (2306.00297), Theorem 3 (critical points); the Hessian is derived here",
    rule=Identity,
    status="derived here",
    rivals={
        "equal step sizes": "stationary at the looped optimum",
        "Marchenko-Pastur": "stationary at the step sizes of the limit n, d → ∞",
    },
    cases=by_budget({"L=2, d=3, n=12": (3, 12, 2)}, {"L=3, d=3, n=12": (3, 12, 3), "L=2, d=5, n=20": (5, 20, 2)}),
)
def multi_step_gradient_and_hessian(case: tuple[int, int, int], budget: Budget, seed: int) -> Evidence:
    import torch

    from plumbline.models.regression import wishart_design
    from plumbline.models.regression.mean_risk import mean_risk
    from plumbline.models.regression.recursion import frame

    d, n, layers = case
    task = RegressionTask(d, n)
    # The design has the exact spectral moments and symmetry, so that this gradient is the population's.
    wisharts, weights = wishart_design(task, 100, degree=2 * layers, seed=seed)
    there = frame(task, wisharts)

    def risk(key_query: torch.Tensor) -> torch.Tensor:
        return mean_risk(wisharts, weights, there, *there.network(key_query, None), layers)

    def derivatives(step_sizes: np.ndarray) -> np.ndarray:
        """Relative gradient, and how far the smallest eigenvalue of the Hessian lies below zero, relative."""
        point = -torch.as_tensor(step_sizes)[:, None, None, None] * torch.eye(d, dtype=torch.float64)
        gradient = torch.func.grad(risk)(point)
        start = torch.func.grad(risk)(torch.zeros_like(point))
        size = point.numel()
        hessian = torch.autograd.functional.hessian(risk, point).reshape(size, size)
        eigenvalues = np.linalg.eigvalsh(hessian.numpy())
        # Positive *definite*: 1e-6 of the largest eigenvalue is a million times the rounding of the smallest.
        below = max(0.0, 1e-6 - eigenvalues[0] / eigenvalues[-1])
        return np.array([float(gradient.norm() / start.norm()), below])

    rivals = [looped_optimum(layers, d, n).step_sizes, multi_step_limit(layers, d / n).step_sizes]
    return Evidence(
        # Rounding of a mean over some thousand matrices, with weights that match the moments to 1e-13.
        rule=Identity(1e-9, scale=1.0),
        measured=derivatives(multi_step_optimum(layers, d, n).step_sizes),
        predicted=np.zeros(2),
        rivals=[np.zeros(2)] * 2,
        rivals_measured=[derivatives(step_sizes) for step_sizes in rivals],
    )
