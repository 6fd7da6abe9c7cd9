"""What is read off a given linear transformer: its exact risk, its algorithm, and the optimum of its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plumbline.analysis.subject.model_report import Finding, Reference
from plumbline.models.regression import LinearTransformer, sample_prompts, sample_wisharts
from plumbline.models.regression.algorithm import Algorithm, map_norms, read_sparse, whitening
from plumbline.models.training.draws import generator
from plumbline.theory.regression import (
    Estimate,
    RegressionTask,
    bayes_risk,
    gd_plus_plus_optimum,
    gradient_descent_optimum,
    linear_transformer_risk,
    looped_optimum,
    multi_step_optimum,
    noisy_multi_step_optimum,
    noisy_multi_step_risk,
    one_step_optimum,
    one_step_risk,
    zero_predictor_risk,
)
from plumbline.theory.regression.gd_plus_plus import MAX_LAYERS
from plumbline.theory.regression.one_step import square_root

MAX_STEPS = {"clean": 47, "noisy": 12, "gradient descent": 8, "GD++": 3}
"""Depths up to which the closed forms are asked; eight steps of plain gradient descent take half a second."""
PROMPTS = 20_000
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best weights of the model's kind: their risk, and the matrices in the whitened frame, (layers, d, d)."""

    name: str
    risk: Estimate
    whitened: np.ndarray
    shrinkages: np.ndarray


class ModelReading:
    """What is computed once about a model and its task, and what could not be."""

    def __init__(self, model: LinearTransformer, task: RegressionTask, margin: float, seed: int) -> None:
        self.model, self.task, self.margin, self.seed = model, task, margin, seed
        self.missing: list[str] = []
        self.linear = model.activation is None
        self.zero_values = model.value is None
        self.one_layer = model.layers == 1
        root = square_root(task.weight_covariance_matrix)
        product = root @ task.covariance_matrix @ root
        spread = task.signal / task.dim / task.radial_moments[0]  # c where the product is c I
        self.inverse_weights = task.covariate_law == "gaussian" and bool(
            np.abs(product - spread * np.eye(task.dim)).max() <= 1e-12 * spread
        )
        self.spread = spread
        self.zero = zero_predictor_risk(task)
        self.risk = self._risk()
        self.bayes = self._bayes()
        self.sparse: tuple[np.ndarray | None, np.ndarray] | None = None
        self.algorithm = self._algorithm()
        self.optimum = self._optimum()
        self.distance = None if self.algorithm is None or self.optimum is None else self._distance()

    def weights(self) -> tuple[np.ndarray | None, np.ndarray]:
        """Value and key-query weights with every layer written out."""

        def written(parameter: Tensor) -> np.ndarray:
            array = parameter.detach().numpy()
            return np.repeat(array, self.model.layers // len(array), axis=0)

        return (None if self.model.value is None else written(self.model.value)), written(self.model.key_query)

    def references(self) -> list[Reference]:
        found = [Reference("answering zero", Estimate(self.zero, 0.0, "exact"))]
        if self.linear and self.task.covariate_law == "gaussian" and self.model.layers <= MAX_STEPS["gradient descent"]:
            plain = gradient_descent_optimum(self.model.layers, self.task)
            found.append(Reference("plain gradient descent", Estimate(plain.loss, 0.0, "exact, best step size")))
        if self.optimum is not None:
            found.append(Reference("optimum", self.optimum.risk))
        if self.bayes is not None:
            found.append(Reference("Bayes risk", self.bayes))
        return found

    def findings(self) -> list[Finding]:
        if self.algorithm is None:
            return []
        algorithm, optimum = self.algorithm, self.optimum
        found = [Finding("algorithm", self._named()), Finding("step sizes", algorithm.step_sizes)]
        if optimum is not None:
            steps = np.trace(optimum.whitened, axis1=1, axis2=2) / self.task.dim
            found.append(Finding("step sizes of the optimum", steps))
        if algorithm.value_blocks is not None and len(algorithm.shrinkages):
            found.append(Finding("shrinkages", algorithm.shrinkages))
            if optimum is not None:
                found.append(Finding("shrinkages of the optimum", optimum.shrinkages))
        found.append(Finding("preconditioners", algorithm.preconditioners + 0.0))  # no −0
        found.append(Finding("distance from the nearest scalar algorithm", algorithm.distance))
        if self.distance is not None:
            found.append(Finding("distance from the optimum", self.distance))
        if self.model.full and self.one_layer:  # what the algorithm leaves out
            even = self.risk.value - one_step_risk(self.task, algorithm.preconditioners[0])
            found.append(Finding("risk of the part even in the labels", max(even, 0.0), self.risk.error))
        return found

    def _risk(self) -> Estimate:
        if self.linear:
            layers = self.model.layers
            if self.zero_values and self.inverse_weights and MAX_LAYERS < layers <= MAX_STEPS["clean"]:
                return self._deep_risk()
            return linear_transformer_risk(*self.weights(), self.task, seed=self.seed)
        prompts = sample_prompts(self.task, PROMPTS, generator=generator(self.seed, 0, 0))
        with torch.no_grad():
            errors = (self.model(prompts) - prompts.targets).square()
        self.missing.append(
            f"exact risk and algorithm: {self.model.activation} attention is no function of the Gram matrix"
        )
        error = float(errors.std()) / PROMPTS**0.5
        return Estimate(float(errors.mean()), error, f"mean over {PROMPTS} prompts, one standard error")

    def _deep_risk(self) -> Estimate:
        """Of more layers than `linear_transformer_risk` has exactly: that of the nearest steps, and the difference."""
        algorithm, task = self.model.as_algorithm(self.task), self.task
        root, inverse = whitening(task, task.dim)
        noise = task.noise_variance / self.spread
        near = noisy_multi_step_risk(algorithm.step_sizes, task.dim, task.context_length, noise) * self.spread
        if algorithm.distance <= ROUNDING:
            return Estimate(near, 0.0, "exact")
        # In the order of the layers, unlike the step sizes of the algorithm.
        scalars = scalar_parts(root @ algorithm.preconditioners @ root)
        steps = LinearTransformer.from_algorithm(inverse @ scalars @ inverse)
        wisharts = sample_wisharts(task, PROMPTS, generator=generator(self.seed, 0, 0))
        with torch.no_grad():
            off = self.model.conditional_risk(wisharts, task) - steps.conditional_risk(wisharts, task)
        method = f"nearest scalar network exact, difference: mean over {PROMPTS} draws, one standard error"
        return Estimate(near + float(off.mean()), float(off.std()) / PROMPTS**0.5, method)

    def _bayes(self) -> Estimate | None:
        try:
            return bayes_risk(self.task)
        except ValueError as error:
            self.missing.append(f"Bayes risk: {error}")
            return None

    def _algorithm(self) -> Algorithm | None:
        if not self.linear:
            return None
        if not self.model.full or self.one_layer:
            self.sparse = None if self.model.full else self.weights()
            return self.model.as_algorithm(self.task)
        sparse, rest = published_form(*self.weights())
        if rest > self.margin:
            self.missing.append(
                f"algorithm: full weights of several layers are one only in the published form [[B, 0], [0, c]], "
                f"[[K, 0], [0, 0]]; {rest:.3g} of them lies outside"
            )
            return None
        self.sparse = sparse
        return read_sparse(sparse[1], sparse[0], self.task)

    def _optimum(self) -> Optimum | None:
        layers, d, n = self.model.layers, self.task.dim, self.task.context_length
        if not self.linear:
            return None
        if self.one_layer:
            best = one_step_optimum(self.task)
            root, _ = whitening(self.task, d)
            risk = Estimate(best.loss, 0.0, "exact; no one-layer linear transformer has less")
            return Optimum("one-step", risk, (root @ best.preconditioner @ root)[None], np.zeros(0))
        noise = self.task.noise_variance / self.spread
        wanted: tuple[str, Callable[[], Any], int] | None = None
        if self.model.looped and self.zero_values and not noise:
            wanted = "looped", lambda: looped_optimum(layers, d, n), MAX_STEPS["clean"]
        elif self.zero_values and not self.model.looped and not noise:
            wanted = "multi-step", lambda: multi_step_optimum(layers, d, n), MAX_STEPS["clean"]
        elif self.zero_values and not self.model.looped:
            wanted = "noisy", lambda: noisy_multi_step_optimum(layers, d, n, noise), MAX_STEPS["noisy"]
        elif not self.zero_values and not self.model.looped and not noise:
            wanted = "GD++", lambda: gd_plus_plus_optimum(layers, d, n), MAX_STEPS["GD++"]
        if not self.inverse_weights or wanted is None or layers > wanted[2]:
            self.missing.append(
                "optimum: several layers have one in closed form for Gaussian covariates and weights N(0, c Σ⁻¹), with "
                f"a zero value block (up to {MAX_STEPS['clean']} layers, looped or not; with label noise up to "
                f"{MAX_STEPS['noisy']}, not looped) or a free one (up to {MAX_STEPS['GD++']} layers, no noise)"
            )
            return None
        name, best_of, _ = wanted
        best = best_of()
        proven = "best scalar layers found" if name == "GD++" else "exact, over scalar layers"
        risk = Estimate(best.loss * self.spread, 0.0, proven)
        whitened = np.multiply.outer(best.step_sizes, np.eye(d))
        return Optimum(name, risk, whitened, getattr(best, "shrinkages", np.zeros(layers - 1)))

    def _distance(self) -> float:
        """Relative distance of preconditioners (and value blocks) from the optimum's, in the frame of the optimum.

        One layer is held against the theorem's matrix itself; of several layers with zero value block the order is
        free, and they are sorted by their step sizes.
        """
        assert self.algorithm is not None
        assert self.optimum is not None
        root, inverse = whitening(self.task, self.task.dim)
        found = root @ self.algorithm.preconditioners @ root
        if self.optimum.name != "GD++":
            found = found[np.argsort(np.trace(found, axis1=1, axis2=2))]
        parts = [(found, self.optimum.whitened)]
        if self.one_layer:
            parts = [(self.algorithm.preconditioners, inverse @ self.optimum.whitened @ inverse)]
        elif self.algorithm.value_blocks is not None:
            blocks = inverse @ self.algorithm.value_blocks @ root
            parts.append((blocks, np.multiply.outer(self.optimum.shrinkages, np.eye(self.task.dim))))
        off = sum(float(np.sum((got - want) ** 2)) for got, want in parts)
        return (off / sum(float(np.sum(want**2)) for _, want in parts)) ** 0.5

    def _named(self) -> str:
        """The algorithm in words: plain, preconditioned by S⁻¹ or by other matrices; with moving covariates GD++."""
        algorithm, layers = self.algorithm, self.model.layers
        assert algorithm is not None
        a = algorithm.preconditioners
        if not np.abs(a).max():
            return "answers zero"
        steps = "one step" if layers == 1 else f"{layers} steps"
        plain = np.linalg.norm(a - scalar_parts(a)) <= self.margin * np.linalg.norm(a)
        root, inverse = whitening(self.task, self.task.dim)
        whitened = root @ a @ root
        scalar = np.linalg.norm(whitened - scalar_parts(whitened)) <= self.margin * np.linalg.norm(whitened)
        if plain:
            what = f"{steps} of gradient descent"
        elif scalar:
            what = f"{steps} of gradient descent preconditioned by S⁻¹"
        else:
            what = f"{steps} of gradient descent preconditioned by matrices"
        if self._moves(root, inverse):
            kind = "GD++" if algorithm.distance <= self.margin else "by matrices"
            what += f", between which the covariates move ({kind})"
        return what

    def _moves(self, root: np.ndarray, inverse: np.ndarray) -> bool:
        """Whether the value blocks, together with the keys and queries they belong to, change the covariates."""
        if self.sparse is None or self.sparse[0] is None or self.one_layer:
            return False
        value, key_query = (weights[:-1] for weights in self.sparse if weights is not None)
        # In units of the identity.
        moved = map_norms(inverse @ value @ root, root @ key_query @ root) / self.task.dim
        return bool(moved.max() > self.margin)


def scalar_parts(matrices: np.ndarray) -> np.ndarray:
    """The multiple of the identity nearest to each matrix (layers, d, d)."""
    d = matrices.shape[-1]
    return np.multiply.outer(np.trace(matrices, axis1=1, axis2=2) / d, np.eye(d))


def published_form(value: np.ndarray | None, key_query: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Full weights of several layers as published ones, and the relative size of what that leaves out.

    A layer with P = [[B, 0], [0, c]] and Q = [[K, 0], [0, 0]] is the published one with B/c and c K: scale and sign
    between key-query and value do not show in what it computes.
    """
    assert value is not None
    d = key_query.shape[-1] - 1
    corner = value[..., d, d]
    scale = np.where(corner == 0, 1.0, corner)[..., None, None]
    rest_value = value.copy()
    rest_value[..., d, d] = 0
    rest_value[..., :d, :d] = 0
    rest_value[-1, :, :d] = 0  # no influence in the last layer
    rest_query = key_query.copy()
    rest_query[..., :d, :d] = 0
    # Of P and Q what is left out counts beside the part of the same matrix that is kept; so does a corner of zero.
    sizes = [np.linalg.norm(rest_value) / np.linalg.norm(value), np.linalg.norm(rest_query) / np.linalg.norm(key_query)]
    rest = 1.0 if (corner == 0).any() else float(max(sizes))
    return (value[..., :d, :d] / scale, key_query[..., :d, :d] * scale), rest
