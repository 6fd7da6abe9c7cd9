"""From a regression task to trained transformers and sampled risks: the jobs that claims and figures share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch

from plumbline.models.ensemble import Ensemble
from plumbline.models.regression import (
    LinearTransformer,
    WishartDesign,
    gradient_descent,
    least_squares,
    preconditioned_gradient_descent,
    ridge,
    sample_prompts,
    sample_wisharts,
    wishart_design,
)
from plumbline.models.training import Training
from plumbline.models.training.draws import generator
from plumbline.models.training.trainer import train
from plumbline.theory import checks
from plumbline.theory.regression import RegressionTask, linear_transformer_risk
from plumbline.theory.regression.gd_plus_plus import residual_polynomial

Objective = Literal["population", "design", "symmetrised sample", "fresh wisharts", "fresh prompts"]
OBJECTIVES = ("population", "design", "symmetrised sample", "fresh wisharts", "fresh prompts")
# A step that no training reaches, so that the initial weights have a stream of their own.
INITIAL_STREAM = 2**31
EXACT_LBFGS = Training(optimizer="lbfgs", steps=500, tolerance=1e-9)


@dataclass(frozen=True, kw_only=True)
class TrainLinearTransformer:
    """An ensemble of linear transformers trained on a task.

    Args:
        task: The data distribution.
        layers, heads, value_block, looped, full, init_scale: As in `LinearTransformer`.
        objective: What is minimised. ``"population"``: the exact risk (one layer). ``"design"``: the conditional
            risk on a symmetrised, weighted sample of Wisharts with exact spectral moments, whose scalar optimum is
            that of the population. ``"symmetrised sample"``: the same without weights, a fixed sample whose minimum
            is its own. ``"fresh wisharts"``: of a new sample each step. ``"fresh prompts"``: the squared error on new
            prompts at each step, token by token, as the papers train.
        samples: Wisharts or prompts per step; for a design the number of base draws.
        redraw_every: Steps that share their Wisharts, where these are fresh.
        training: Optimizer and schedule.
        runs: Number of random starts.
        seed: Seed of starts and samples.
        snapshots: Keep the weights along the training curve.
        exact_risk: Also compute the population risk of the trained weights.
    """

    task: RegressionTask
    layers: int = 1
    heads: int = 1
    value_block: Literal["free", "zero"] = "zero"
    looped: bool = False
    full: bool = False
    init_scale: float = 0.1
    objective: Objective = "population"
    samples: int = 0
    redraw_every: int = 1
    training: Training = EXACT_LBFGS
    runs: int = 1
    seed: int = 0
    snapshots: bool = False
    exact_risk: bool = True

    def __post_init__(self) -> None:
        checks.one_of("objective", self.objective, OBJECTIVES)
        checks.integer("samples", self.samples, at_least=0 if self.objective == "population" else 1)
        checks.integer("runs", self.runs, at_least=1)
        checks.integer("redraw_every", self.redraw_every, at_least=1)
        if self.redraw_every > 1 and self.objective != "fresh wisharts":
            raise ValueError(f"redraw_every must be 1 for the objective {self.objective!r}, got {self.redraw_every}")

    def run(self) -> dict[str, Any]:
        """Train, and return weights, losses, residuals, outcomes and the training curve, runs first."""
        modules = [
            LinearTransformer(
                self.layers,
                self.heads,
                self.task.dim,
                value_block=self.value_block,
                looped=self.looped,
                full=self.full,
                init_scale=self.init_scale,
                generator=self.training.draws(self.seed, run, INITIAL_STREAM),
            )
            for run in range(self.runs)
        ]
        ensemble = Ensemble(modules)
        # Matrices of this size gain nothing from a second thread, and two that wait for each other lose tenfold.
        torch.set_num_threads(1)
        trained = train(ensemble, self._objective(), self.training, snapshots=self.snapshots)
        result = {
            "key_query": trained.parameters["key_query"],
            "value": trained.parameters.get("value"),
            "losses": trained.losses,
            "residuals": trained.relative_gradient_norms,
            "outcomes": list(trained.outcomes),
            "steps": trained.steps,
            "curve_steps": trained.curve.steps,
            "curve_losses": trained.curve.losses,
            "curve_parameters": trained.curve.parameters,
        }
        if self.exact_risk:
            risks = [self._risk(module) for module in ensemble.modules()]
            result["risks"] = np.array([risk.value for risk in risks])
            result["risk_errors"] = np.array([risk.error for risk in risks])
        return result

    def _objective(self) -> Any:
        """The losses (R,) as a function of (ensemble, step)."""
        task, samples = self.task, self.samples
        if self.objective == "population":
            return lambda ensemble, step: ensemble.call("population_risk", task)
        if self.objective in ("design", "symmetrised sample"):
            design = self._design()
            return lambda ensemble, step: ensemble.call("mean_risk", design.wisharts, task, design.weights)
        if self.objective == "fresh wisharts":

            @lru_cache(maxsize=1)  # steps that share their Wisharts do not draw them again
            def drawn(step: int, runs: tuple[int, ...]) -> torch.Tensor:
                sources = [self.training.draws(self.seed, run, step) for run in runs]
                return torch.stack([sample_wisharts(task, samples, generator=source) for source in sources])

            def conditional(ensemble: Ensemble, step: int) -> torch.Tensor:
                wisharts = drawn(step - step % self.redraw_every, ensemble.runs)
                return ensemble.call("mean_risk", wisharts, task, in_dims=(0, None))

            return conditional

        def squared_error(ensemble: Ensemble, step: int) -> torch.Tensor:
            drawn = [
                sample_prompts(task, samples, generator=self.training.draws(self.seed, run, step))
                for run in ensemble.runs
            ]
            tokens = torch.stack([prompts.tokens for prompts in drawn])
            targets = torch.stack([prompts.targets for prompts in drawn])
            return (ensemble.call("forward", tokens, in_dims=(0,)) - targets).square().mean(-1)

        return squared_error

    def _design(self) -> WishartDesign:
        # The squared residual of L layers is a polynomial of this degree in the Wishart matrix.
        degree = 2 * self.layers if self.value_block == "zero" else 3**self.layers - 1
        if self.objective == "symmetrised sample":
            degree = 0
        for doubling in range(4):
            try:
                return wishart_design(self.task, self.samples * 2**doubling, degree=degree, seed=self.seed)
            except ValueError:  # these draws allow no positive weights; more of them do
                continue
        return wishart_design(self.task, self.samples * 16, degree=degree, seed=self.seed)

    def _risk(self, module: torch.nn.Module) -> Any:
        """The population risk of one trained module."""
        weights = {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}
        key_query, value = weights["key_query"], weights.get("value")
        if self.looped:
            key_query = np.repeat(key_query, self.layers, axis=0)
            value = None if value is None else np.repeat(value, self.layers, axis=0)
        return linear_transformer_risk(value, key_query, self.task, draws=4000)


@dataclass(frozen=True, kw_only=True)
class SampledRisk:
    """The risk of a predictor on freshly drawn prompts, token by token, as means of batches.

    Args:
        task: What the prompts are drawn from.
        predictor: ``"transformer"`` (with weights), ``"gradient descent"`` and ``"preconditioned gradient descent"``
            (with step sizes; preconditioner Σ⁻¹), ``"least squares"``, ``"ridge"`` (with a penalty).
        key_query, value: Weights of the transformer, nested tuples (layers, heads, d, d).
        step_sizes: Of the two descents.
        penalty: Of ridge.
        batches, draws: Number of batches and of prompts in each.
        seed: Seed of the prompts.
    """

    task: RegressionTask
    predictor: Literal["transformer", "gradient descent", "preconditioned gradient descent", "least squares", "ridge"]
    key_query: Any = None
    value: Any = None
    step_sizes: tuple[float, ...] = ()
    penalty: float | None = None
    batches: int = 64
    draws: int = 4000
    seed: int = 0

    def run(self) -> dict[str, Any]:
        """Return the batch means (batches,)."""
        predict = self._predictor()
        means = []
        for batch in range(self.batches):
            prompts = sample_prompts(self.task, self.draws, generator=generator(self.seed, batch, 0))
            means.append((predict(prompts) - prompts.targets).square().mean().item())
        return {"batch_means": np.array(means)}

    def _predictor(self) -> Any:
        if self.predictor == "transformer":
            model = transformer(np.array(self.key_query), None if self.value is None else np.array(self.value))
            return lambda prompts: model(prompts).detach()
        if self.predictor == "gradient descent":
            return lambda prompts: gradient_descent(prompts, self.step_sizes)
        if self.predictor == "preconditioned gradient descent":
            inverse = np.linalg.inv(self.task.second_moment)
            return lambda prompts: preconditioned_gradient_descent(prompts, self.step_sizes, inverse)
        if self.predictor == "least squares":
            return least_squares
        penalty = checks.real("penalty", self.penalty, above=0.0)
        return lambda prompts: ridge(prompts, penalty, metric=self.task.second_moment)


@dataclass(frozen=True, kw_only=True)
class RareEventRisk:
    r"""The risk of scalar GD++ weights by importance sampling, beside the plain sample mean.

    A tenth of the draws comes from the Wishart law, the others from Wisharts of covariance I + c v vᵀ with v uniform
    on the sphere. Each draw is weighted by its density ratio, with v integrated out:

    .. math:: 1/w = 0.1 + 0.9 \operatorname{mean}_c\, (1+c)^{-n/2}\, E_v \exp\big(\tfrac{c}{2(1+c)} v^T S v\big),

    so that the mean stays unbiased while large eigenvalues are drawn often.

    Args:
        step_sizes, shrinkages: The GD++ network, as in `gd_plus_plus_risk`.
        dim, context_length: d ≤ n.
        batches, draws: Number of batches and of Wisharts in each.
        seed: Seed of the draws.
        tilts: The c of the mixture.
    """

    step_sizes: tuple[float, ...]
    shrinkages: tuple[float, ...]
    dim: int
    context_length: int
    batches: int = 32
    draws: int = 4000
    seed: int = 0
    tilts: tuple[float, ...] = (1.0, 3.0, 6.0)

    def run(self) -> dict[str, Any]:
        """Return importance-weighted batch means (batches,), and those of as many plain draws."""
        rng = np.random.default_rng(self.seed)
        weighted, plain = [], []
        for _ in range(self.batches):
            values, weights = self._tilted(rng)
            weighted.append(np.mean(values * weights))
            plain.append(np.mean(self._residuals(np.linalg.eigvalsh(self._scatter(rng, np.zeros(self.draws))))))
        return {"weighted": np.array(weighted), "plain": np.array(plain)}

    def _scatter(self, rng: np.random.Generator, tilt: np.ndarray) -> np.ndarray:
        """Wishart matrices of covariance I + c v vᵀ, one for each c, v uniform on the sphere."""
        d, n, draws = self.dim, self.context_length, len(tilt)
        lower = np.tril(rng.normal(size=(draws, d, d)), -1)
        index = np.arange(d)
        lower[:, index, index] = np.sqrt(rng.chisquare(n - index, size=(draws, d)))
        v = rng.normal(size=(draws, d))
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        # (I + c v vᵀ)^{1/2} = I + (√(1+c) − 1) v vᵀ
        projected = np.einsum("bi,bij->bj", v, lower)
        lower += (np.sqrt(1 + tilt) - 1)[:, None, None] * v[:, :, None] * projected[:, None, :]
        return lower @ np.swapaxes(lower, -1, -2)

    def _tilted(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        tilt = np.where(rng.random(self.draws) < 0.1, 0.0, rng.choice(self.tilts, size=self.draws))
        eigenvalues = np.linalg.eigvalsh(self._scatter(rng, tilt))
        ratio = np.mean(
            [
                np.exp(_log_sphere_mean(c / (2 * (1 + c)) * eigenvalues) - self.context_length / 2 * np.log1p(c))
                for c in self.tilts
            ],
            axis=0,
        )
        return self._residuals(eigenvalues), 1 / (0.1 + 0.9 * ratio)

    def _residuals(self, eigenvalues: np.ndarray) -> np.ndarray:
        """tr P(V)² from the eigenvalues of S = nV."""
        p = residual_polynomial(np.array(self.step_sizes), np.array(self.shrinkages), eigenvalues / self.context_length)
        return (p**2).sum(axis=1)


def _log_sphere_mean(k: np.ndarray, nodes: int = 24) -> np.ndarray:
    r"""Log of E exp(Σ kᵢ vᵢ²) for v uniform on the unit sphere, k (draws, d).

    .. math:: Γ(d/2) \tfrac{1}{2πi} ∫ e^t ∏_i (t - k_i)^{-1/2} dt

    on a Talbot contour around the real axis left of max k, where the trapezoidal rule converges geometrically.
    """
    top = k.max(axis=1, keepdims=True)
    theta = (np.arange(nodes) + 0.5) * 2 * np.pi / nodes - np.pi
    cotangent = 1 / np.tan(0.6407 * theta)
    z = nodes * (0.5017 * theta * cotangent - 0.6122 + 0.2645j * theta)
    dz = nodes * (0.5017 * cotangent - 0.5017 * 0.6407 * theta / np.sin(0.6407 * theta) ** 2 + 0.2645j)
    product = np.prod(1 / np.sqrt(z + (top - k)[..., None]), axis=1)
    integral = np.imag(product @ (np.exp(z) * dz)) / nodes
    return top[:, 0] + math.lgamma(k.shape[1] / 2) + np.log(integral)


class Method(torch.nn.Module):
    """A method of a model as a forward pass, so that `torch.func.functional_call` reaches it."""

    def __init__(self, model: LinearTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, method: str, arguments: tuple[Any, ...]) -> torch.Tensor:
        """Call the method of that name."""
        return getattr(self.model, method)(*arguments)


def transformer(key_query: np.ndarray, value: np.ndarray | None = None) -> LinearTransformer:
    """The transformer with the given sparse weights (layers, heads, d, d)."""
    layers, heads, dim, _ = key_query.shape
    model = LinearTransformer(layers, heads, dim, value_block="zero" if value is None else "free", init_scale=0.0)
    with torch.no_grad():
        model.key_query.copy_(torch.as_tensor(key_query))
        if model.value is not None:
            model.value.copy_(torch.as_tensor(value))
    return model


def whitened_step_sizes(key_query: np.ndarray, task: RegressionTask) -> tuple[np.ndarray, np.ndarray]:
    """Step sizes and what is left of the weights beside them, of runs (R, layers, heads, d, d).

    Returns:
        Sorted a_l (R, layers), where A_l = a_l Σ⁻¹ in the whitened frame, and the Frobenius norm (R,) of the rest.
    """
    values, vectors = np.linalg.eigh(task.second_moment)
    root = (vectors * np.sqrt(values)) @ vectors.T
    blocks = -root @ key_query.sum(axis=2) @ root
    sizes = np.trace(blocks, axis1=-2, axis2=-1) / task.dim
    rest = blocks - sizes[..., None, None] * np.eye(task.dim)
    return np.sort(sizes, axis=-1), np.sqrt((rest**2).sum(axis=(1, 2, 3)))
