"""Risks by sampling: of a predictor on fresh prompts, and of scalar weights whose risk rare events carry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from plumbline.analysis.jobs.job import TorchJob
from plumbline.theory import checks
from plumbline.theory.regression import RegressionTask
from plumbline.theory.regression.gd_plus_plus import residual_polynomial

if TYPE_CHECKING:
    from torch import Tensor

    from plumbline.models.regression import LinearTransformer, Prompts


@dataclass(frozen=True, kw_only=True)
class SampledRisk(TorchJob):
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
        from plumbline.models.regression import sample_prompts
        from plumbline.models.training.draws import generator

        predict = self._predictor()
        means = []
        for batch in range(self.batches):
            prompts = sample_prompts(self.task, self.draws, generator=generator(self.seed, batch, 0))
            means.append((predict(prompts) - prompts.targets).square().mean().item())
        return {"batch_means": np.array(means)}

    def _predictor(self) -> Callable[[Prompts], Tensor]:
        from plumbline.models import regression as models

        if self.predictor == "transformer":
            model = _transformer(self.key_query, self.value)
            return lambda prompts: model(prompts).detach()
        if self.predictor == "gradient descent":
            return lambda prompts: models.gradient_descent(prompts, self.step_sizes)
        if self.predictor == "preconditioned gradient descent":
            inverse = np.linalg.inv(self.task.second_moment)
            return lambda prompts: models.preconditioned_gradient_descent(prompts, self.step_sizes, inverse)
        if self.predictor == "least squares":
            return models.least_squares
        penalty = checks.real("penalty", self.penalty, above=0.0)
        return lambda prompts: models.ridge(prompts, penalty, metric=self.task.second_moment)


def _transformer(key_query: Any, value: Any) -> LinearTransformer:
    """The transformer with the given sparse weights (layers, heads, d, d)."""
    import torch

    from plumbline.models.regression import LinearTransformer
    from plumbline.models.weights import fill

    weights = {"key_query": key_query} if value is None else {"key_query": key_query, "value": value}
    tensors = {name: torch.as_tensor(np.array(weight)) for name, weight in weights.items()}
    layers, heads, dim, _ = tensors["key_query"].shape
    value_block: Literal["zero", "free"] = "zero" if value is None else "free"
    return fill(LinearTransformer(layers, heads, dim, value_block=value_block, init_scale=0.0), tensors)


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
