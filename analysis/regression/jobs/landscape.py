"""Trainings on fresh prompts with the landscape observed along them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from plumbline.analysis.jobs.training_job import TrainingJob
from plumbline.models.training import Trained
from plumbline.theory import checks
from plumbline.theory.regression import RegressionTask

if TYPE_CHECKING:
    from plumbline.models.ensemble import Ensemble
    from plumbline.models.regression import FeatureTransformer, LinearTransformer
    from plumbline.models.regression.landscape import FeatureLandscape, RiskLandscape

# Streams of their own for what is drawn once: steps that no training reaches.
DESIGN_STREAM = 2**31 + 1
TARGET_STREAM = 2**31 + 2


@dataclass(frozen=True, kw_only=True)
class TrainObserved(TrainingJob):
    """What trainings with an observed landscape share: the fields that say what is observed, and its columns."""

    batch: int = 1000
    runs: int = 6
    held_out: int = 1000
    designs: int = 1000
    smoothness: bool = False
    condition_at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("batch", self.batch, at_least=1)
        checks.integer("held_out", self.held_out, at_least=1)
        checks.integer("designs", self.designs, at_least=1, at_most=self.held_out)
        for step in self.condition_at:
            if step % self.training.record_every or not 0 <= step < self.training.steps:
                raise ValueError(
                    f"condition_at must hold multiples of record_every={self.training.record_every} from 0 to below "
                    f"{self.training.steps} steps, got {step}"
                )

    def read(self, ensemble: Ensemble, trained: Trained, objective: Any) -> dict[str, Any]:
        """The course at the recorded steps, (K, runs): the batches' ``curve_gradient_norms``, and what was observed.

        That is ``held_out_losses``, and as asked for ``smoothness`` with ``gradient_norms``, ``condition`` and
        ``published_condition``, see `observe` of `ObservedObjective`.
        """
        return {"curve_gradient_norms": trained.curve.gradient_norms, **trained.curve.observed}


@dataclass(frozen=True, kw_only=True)
class TrainAlongLandscape(TrainObserved):
    """An ensemble of linear transformers trained on fresh noise-free prompts, with its landscape observed on the way.

    All runs are one tensor program; run r starts from and is shown the same draws whatever the optimizer, so that runs
    of two trainings pair. The landscape is that of the risk on fixed designs W, exact over queries and weight vectors.

    Args:
        task: The data distribution, without label noise.
        layers: Number of layers L.
        value_block: ``"free"`` or ``"zero"``.
        training: Optimizer and schedule, Adam or SGD.
        batch: Prompts per step.
        runs: Number of runs: random starts times learning rates.
        init_scale: Standard deviation of the initial weights.
        held_out: Designs of the held-out loss.
        designs: Designs of the curvature, the first of the held-out ones.
        smoothness: Observe the directional smoothness and the gradient at each recorded step.
        condition_at: Steps at which the robust condition number is taken; multiples of ``record_every``.
        seed: Seed of starts, prompts and designs.
        precision: Of parameters, prompts and designs.
    """

    task: RegressionTask
    layers: int = 3
    value_block: Literal["free", "zero"] = "free"
    init_scale: float = 0.05

    def module(self, run: int) -> LinearTransformer:
        from plumbline.models.regression import LinearTransformer

        return LinearTransformer(
            self.layers,
            1,
            self.task.dim,
            value_block=self.value_block,
            init_scale=self.init_scale,
            generator=self.initial_draws(run),
            dtype=self.dtype,
        )

    def minimised(self, ensemble: Ensemble) -> RiskLandscape:
        from plumbline.models.regression import sample_wisharts
        from plumbline.models.regression.landscape import RiskLandscape
        from plumbline.models.regression.objectives import error_on_fresh_instances
        from plumbline.models.training.draws import generator

        task, dtype, draws = self.task, self.dtype, partial(self.training.draws, self.seed)
        fixed = generator(self.seed, 0, DESIGN_STREAM)
        return RiskLandscape(
            minimised=error_on_fresh_instances(task, self.layers, self.batch, draws, dtype=dtype),
            task=task,
            wisharts=sample_wisharts(task, self.held_out, generator=fixed, dtype=dtype),
            designs=self.designs,
            smoothness=self.smoothness,
            condition_at=self.condition_at,
        )

    def read(self, ensemble: Ensemble, trained: Trained, objective: Any) -> dict[str, Any]:
        """The course, and the final weights ``key_query`` and ``value``, runs first."""
        weights = {"key_query": trained.parameters["key_query"], "value": trained.parameters.get("value")}
        return {**super().read(ensemble, trained, objective), **weights}


@dataclass(frozen=True, kw_only=True)
class TrainFeatureTransformer(TrainObserved):
    """An ensemble of `FeatureTransformer` trained on fresh prompts, with the landscape of the loss on fixed prompts.

    Run r has features of its own to find; training and observation see the same ones.

    Args:
        dim, context_length: d and n.
        layers, hidden, init_scale: As in `FeatureTransformer`; the target features have as many hidden units.
        training: Optimizer and schedule, Adam or SGD.
        batch: Prompts per step.
        runs: Number of runs: random starts times learning rates.
        held_out: Fixed prompts of the held-out loss.
        designs: Fixed prompts of the curvature, the first of the held-out ones.
        smoothness: Observe the directional smoothness and the gradient at each recorded step.
        condition_at: Steps at which the robust condition number is taken; multiples of ``record_every``.
        seed: Seed of starts, targets and prompts.
        precision: Of parameters and prompts; the published code has float32.
    """

    dim: int = 5
    context_length: int = 20
    layers: int = 3
    hidden: int = 30
    init_scale: float = 0.1
    batch: int = 2000
    runs: int = 5
    designs: int = 200

    def module(self, run: int) -> FeatureTransformer:
        from plumbline.models.regression import FeatureTransformer

        return FeatureTransformer(
            self.layers,
            self.dim,
            hidden=self.hidden,
            init_scale=self.init_scale,
            generator=self.initial_draws(run),
            dtype=self.dtype,
        )

    def minimised(self, ensemble: Ensemble) -> FeatureLandscape:
        from plumbline.models.regression import ReluFeatures
        from plumbline.models.regression.landscape import FeatureLandscape
        from plumbline.models.regression.objectives import error_on_fresh_feature_prompts, feature_prompts

        draws = partial(self.training.draws, self.seed)
        targets = [
            ReluFeatures(self.dim, self.hidden, generator=draws(run, TARGET_STREAM), dtype=self.dtype)
            for run in ensemble.runs
        ]
        prompts = feature_prompts(targets, self.context_length, draws)
        return FeatureLandscape(
            minimised=error_on_fresh_feature_prompts(prompts, self.batch),
            prompts=prompts(self.held_out, DESIGN_STREAM, ensemble.runs),
            designs=self.designs,
            smoothness=self.smoothness,
            condition_at=self.condition_at,
        )
