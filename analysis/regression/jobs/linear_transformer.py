"""From a regression task to trained linear transformers: the job that claims and figures share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from plumbline.analysis.jobs.training_job import TrainingJob
from plumbline.models.training import Trained, Training
from plumbline.theory import checks
from plumbline.theory.regression import Estimate, RegressionTask, linear_transformer_risk

if TYPE_CHECKING:
    from plumbline.models.ensemble import Ensemble
    from plumbline.models.regression import LinearTransformer, WishartDesign
    from plumbline.models.training.trainer import Objective

ObjectiveName = Literal["population", "design", "symmetrised sample", "fresh wisharts", "fresh prompts"]
EXACT_LBFGS = Training(optimizer="lbfgs", steps=500, tolerance=1e-9)


@dataclass(frozen=True, kw_only=True)
class TrainLinearTransformer(TrainingJob):
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
        runs: Number of runs: random starts times learning rates.
        seed: Of starts and samples.
        precision: Of parameters and samples.
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
    objective: ObjectiveName = "population"
    samples: int = 0
    redraw_every: int = 1
    training: Training = EXACT_LBFGS
    snapshots: bool = False
    exact_risk: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("objective", self.objective, get_args(ObjectiveName))
        checks.integer("samples", self.samples, at_least=0 if self.objective == "population" else 1)
        checks.integer("redraw_every", self.redraw_every, at_least=1)
        if self.redraw_every > 1 and self.objective != "fresh wisharts":
            raise ValueError(f"redraw_every must be 1 for the objective {self.objective!r}, got {self.redraw_every}")

    @property
    def keeps_parameters(self) -> bool:
        return self.snapshots

    def module(self, run: int) -> LinearTransformer:
        from plumbline.models.regression import LinearTransformer

        return LinearTransformer(
            self.layers,
            self.heads,
            self.task.dim,
            value_block=self.value_block,
            looped=self.looped,
            full=self.full,
            init_scale=self.init_scale,
            generator=self.initial_draws(run),
            dtype=self.dtype,
        )

    def minimised(self, ensemble: Ensemble) -> Objective:
        from plumbline.models.regression import objectives

        task, samples, draws = self.task, self.samples, partial(self.training.draws, self.seed)
        if self.objective == "population":
            return objectives.population_risk(task)
        if self.objective == "fresh wisharts":
            return objectives.risk_on_fresh_wisharts(
                task, samples, draws, redraw_every=self.redraw_every, dtype=self.dtype
            )
        if self.objective == "fresh prompts":
            return objectives.error_on_fresh_prompts(task, samples, draws, dtype=self.dtype)
        wisharts, weights = (part.to(self.dtype) for part in self._design())
        return objectives.risk_on_wisharts(task, wisharts, weights)

    def read(self, ensemble: Ensemble, trained: Trained, objective: Any) -> dict[str, Any]:
        """Weights, runs first: ``key_query``, ``value``, ``curve_parameters``; ``risks`` and ``risk_errors``."""
        columns = {
            "key_query": trained.parameters["key_query"],
            "value": trained.parameters.get("value"),
            "curve_parameters": trained.curve.parameters,
        }
        if self.exact_risk:
            risks = [self._risk(run, trained.parameters) for run in range(self.runs)]
            columns["risks"] = np.array([risk.value for risk in risks])
            columns["risk_errors"] = np.array([risk.error for risk in risks])
        return columns

    def _design(self) -> WishartDesign:
        from plumbline.models.regression import wishart_design

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

    def _risk(self, run: int, parameters: dict[str, np.ndarray]) -> Estimate:
        """The population risk of one trained run, every layer written out."""
        layers = self.layers if self.looped else 1
        written = {name: np.repeat(weights[run], layers, axis=0) for name, weights in parameters.items()}
        return linear_transformer_risk(written.get("value"), written["key_query"], self.task, draws=4000)


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
