"""The landscape along training: smoothness along the update, condition of the Hessian, noise of the gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from plumbline.analysis.regression.jobs.training import INITIAL_STREAM
from plumbline.models.ensemble import Ensemble
from plumbline.models.regression import (
    Curvature,
    FeatureTransformer,
    Instances,
    LinearTransformer,
    ReluFeatures,
    batch_gradients,
    prediction_errors,
    risk_curvature,
    sample_feature_prompts,
    sample_instances,
    sample_wisharts,
)
from plumbline.models.training import Training
from plumbline.models.training.draws import generator
from plumbline.models.training.trained import Trained
from plumbline.models.training.trainer import Objective, train
from plumbline.theory import checks
from plumbline.theory.regression import RegressionTask, robust_condition_number

# Streams of their own for what is drawn once: steps that no training reaches, for runs that no ensemble has.
DESIGN_STREAM = 2**31 + 1
TARGET_STREAM = 2**31 + 2
REFERENCE_STREAM = 2**31 + 3
CHUNK = 2000
"""Prompts whose gradients are taken at once."""


def published_condition_number(diagonal: Any) -> float:
    r"""Return the robust condition number as the published code counts it.

    .. math:: \max_i |H_{ii}| / \mathrm{median}_i |H_{ii}|

    with the lower of two medians, of all parameters: those without any influence (the value block of the last layer)
    are among them, which makes the number larger than that of `plumbline.theory.regression.robust_condition_number`.

    Args:
        diagonal: The H_ii, (K,).

    Raises:
        ValueError: on a diagonal that is empty or not finite.

    Source:
        The code published with 2310.01082.

    Example:
        >>> published_condition_number([4.0, -2.0, 1.0, 0.0])
        4.0
    """
    sizes = np.sort(np.abs(checks.array("diagonal", diagonal, (None,))))
    middle = sizes[(len(sizes) - 1) // 2]
    return float(sizes[-1] / middle) if middle else np.inf


@dataclass(frozen=True, kw_only=True)
class _Observed:
    """What trainings with an observed landscape share: the fields that say what is observed, and the observing."""

    training: Training
    batch: int = 1000
    runs: int = 6
    held_out: int = 1000
    designs: int = 1000
    smoothness: bool = False
    condition_at: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        checks.integer("batch", self.batch, at_least=1)
        checks.integer("runs", self.runs, at_least=1)
        checks.integer("held_out", self.held_out, at_least=1)
        checks.integer("designs", self.designs, at_least=1, at_most=self.held_out)
        for step in self.condition_at:
            if step % self.training.record_every or not 0 <= step < self.training.steps:
                raise ValueError(
                    f"condition_at must hold multiples of record_every={self.training.record_every} from 0 to below "
                    f"{self.training.steps} steps, got {step}"
                )

    def _train(
        self,
        ensemble: Ensemble,
        objective: Objective,
        losses: Callable[[Ensemble], torch.Tensor],
        curvatures: Callable[[Ensemble], list[Curvature]],
    ) -> tuple[Trained, dict[str, Any]]:
        """Train; return what was trained, and the course (recorded steps, runs).

        Args:
            ensemble, objective: As `train` takes them.
            losses: The held-out loss of each run.
            curvatures: The curvature of each run's loss on the fixed designs.
        """

        def observe(ensemble: Ensemble, step: int, update: torch.Tensor | None) -> dict[str, Any]:
            with torch.no_grad():
                seen: dict[str, Any] = {"losses": losses(ensemble)}
            nothing = np.full(self.runs, np.nan)
            condition = update is not None and step in self.condition_at
            found = curvatures(ensemble) if condition or self.smoothness else []
            if self.smoothness:
                seen["gradient_norms"] = np.array([float(curvature.gradient.norm()) for curvature in found])
                seen["smoothness"] = nothing if update is None else along(found, update)
            if self.condition_at:
                diagonals = [curvature.hessian_diagonal().numpy() for curvature in found] if condition else []
                counts = {"condition": _condition_number, "published_condition": published_condition_number}
                for name, count in counts.items():
                    seen[name] = np.array([count(diagonal) for diagonal in diagonals]) if condition else nothing
            return seen

        trained = train(ensemble, objective, self.training, observe=observe)
        curve = trained.curve
        return trained, {
            "steps": curve.steps,
            "batch_losses": curve.losses,
            "batch_gradient_norms": curve.gradient_norms,
            "outcomes": list(trained.outcomes),
            **curve.observed,
        }


@dataclass(frozen=True, kw_only=True)
class TrainAlongLandscape(_Observed):
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
    """

    task: RegressionTask
    layers: int = 3
    value_block: Literal["free", "zero"] = "free"
    init_scale: float = 0.05

    def run(self) -> dict[str, Any]:
        """Train; return the course (recorded steps, runs) and the final weights.

        ``steps``, ``batch_losses``, ``batch_gradient_norms``, ``losses`` (held out), ``outcomes``, ``key_query``,
        ``value``; with ``smoothness`` also ``smoothness`` (uᵀHu along the update u; NaN at the end and for a run that
        has ended) and ``gradient_norms`` (of the risk); with ``condition_at`` ``condition`` and
        ``published_condition``, NaN at other steps.
        """
        torch.set_num_threads(1)
        ensemble = Ensemble(
            [
                LinearTransformer(
                    self.layers,
                    1,
                    self.task.dim,
                    value_block=self.value_block,
                    init_scale=self.init_scale,
                    generator=self.training.draws(self.seed, run, INITIAL_STREAM),
                )
                for run in range(self.runs)
            ]
        )
        wisharts = sample_wisharts(self.task, self.held_out, generator=generator(self.seed, 0, DESIGN_STREAM))

        def objective(ensemble: Ensemble, step: int) -> torch.Tensor:
            drawn = [
                sample_instances(self.task, self.batch, generator=self.training.draws(self.seed, run, step))
                for run in ensemble.runs
            ]
            instances = Instances(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))
            weights = ensemble.parameters()
            errors = prediction_errors(instances, weights["key_query"], weights.get("value"), self.layers)
            return errors.square().mean(-1)

        def losses(ensemble: Ensemble) -> torch.Tensor:
            return ensemble.call("mean_risk", wisharts, self.task)

        def curvatures(ensemble: Ensemble) -> list[Curvature]:
            return [risk_curvature(module, wisharts[: self.designs], self.task) for module in ensemble.modules()]  # type: ignore[arg-type]

        trained, course = self._train(ensemble, objective, losses, curvatures)
        return {
            **course,
            "key_query": trained.parameters["key_query"],
            "value": trained.parameters.get("value"),
        }


def _condition_number(diagonal: np.ndarray) -> float:
    return robust_condition_number(diagonal).value


def along(curvatures: list[Curvature], update: torch.Tensor) -> np.ndarray:
    """uᵀHu of each run along its update (runs, K); NaN where there is none."""
    return np.array(
        [
            curvature.directional(row) if bool(row.any()) else np.nan
            for curvature, row in zip(curvatures, update, strict=True)
        ]
    )


@dataclass(frozen=True, kw_only=True)
class GradientNoise:
    """How far the gradients of batches lie from that of a hundred times as many prompts, at random weights.

    Args:
        task: The data distribution, without label noise.
        layers: Number of layers L.
        batch: Prompts in a batch, B; the gradients of 1 are those of single prompts.
        batches: Number of batches.
        reference: Prompts of the reference gradient; 0 for 100 B.
        init_scale: Standard deviation of the weights; 0 for zero weights.
        seed: Seed of weights and prompts.
    """

    task: RegressionTask
    layers: int = 3
    batch: int = 1000
    batches: int = 10_000
    reference: int = 0
    init_scale: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        checks.integer("batch", self.batch, at_least=1)
        checks.integer("batches", self.batches, at_least=2)
        checks.integer("reference", self.reference, at_least=0)

    def run(self) -> dict[str, Any]:
        """Return ``norms`` (batches,) of the noise, ``normal`` (2, batches) and the size of the reference gradient.

        ``normal`` are the norms of two samples of as many normal vectors with the mean and covariance of the noise:
        what the norms would be like if the noise were Gaussian.
        """
        torch.set_num_threads(1)
        model = LinearTransformer(
            self.layers,
            1,
            self.task.dim,
            init_scale=self.init_scale,
            generator=generator(self.seed, 0, INITIAL_STREAM),
        )
        draws = generator(self.seed, 0, REFERENCE_STREAM)
        prompts = self.reference or 100 * self.batch
        reference = self._gradients(model, 1, prompts, draws)[0]
        noise = self._gradients(model, self.batches, self.batch, generator(self.seed, 0, 0)) - reference
        mean = noise.mean(0)
        # Rows of the triangular factor have the covariance of the noise, whatever its rank.
        factor = np.linalg.qr(noise - mean, mode="r") / np.sqrt(len(noise) - 1)
        normals = np.random.default_rng(self.seed).normal(size=(2, len(noise), len(factor)))
        return {
            "norms": np.linalg.norm(noise, axis=1),
            "normal": np.linalg.norm(mean + normals @ factor, axis=-1),
            "gradient_norm": float(np.linalg.norm(reference)),
        }

    def _gradients(self, model: LinearTransformer, batches: int, batch: int, draws: torch.Generator) -> np.ndarray:
        """(batches, K), drawn and differentiated in pieces of at most `CHUNK` prompts."""
        piece = min(batch, CHUNK)
        while batch % piece:
            piece -= 1
        pieces = batches * (batch // piece)
        rows = []
        for start in range(0, pieces, max(1, CHUNK // piece)):
            count = min(max(1, CHUNK // piece), pieces - start)
            drawn = sample_instances(self.task, count * piece, generator=draws)
            stacked = Instances(*(part.reshape(count, piece, *part.shape[1:]) for part in drawn))
            rows.append(batch_gradients(model, stacked))
        return torch.cat(rows).reshape(batches, batch // piece, -1).mean(1).numpy()


@dataclass(frozen=True, kw_only=True)
class TrainFeatureTransformer(_Observed):
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
    precision: Literal["float64", "float32"] = "float64"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("precision", self.precision, ("float64", "float32"))

    def run(self) -> dict[str, Any]:
        """Train; return the course (recorded steps, runs), named as by `TrainAlongLandscape`."""
        torch.set_num_threads(1)
        dtype = getattr(torch, self.precision)
        starts = [self.training.draws(self.seed, run, INITIAL_STREAM) for run in range(self.runs)]
        ensemble = Ensemble(
            [
                FeatureTransformer(
                    self.layers,
                    self.dim,
                    hidden=self.hidden,
                    init_scale=self.init_scale,
                    generator=start,
                    dtype=dtype,
                )
                for start in starts
            ],
            dtype=dtype,
        )
        targets = [
            ReluFeatures(
                self.dim, self.hidden, generator=self.training.draws(self.seed, run, TARGET_STREAM), dtype=dtype
            )
            for run in range(self.runs)
        ]

        def prompts(count: int, step: int, runs: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
            drawn = [
                sample_feature_prompts(
                    targets[run], count, self.context_length, generator=self.training.draws(self.seed, run, step)
                )
                for run in runs
            ]
            return torch.stack([p.tokens for p in drawn]), torch.stack([p.targets for p in drawn])

        fixed = prompts(self.held_out, DESIGN_STREAM, ensemble.runs)

        def objective(ensemble: Ensemble, step: int) -> torch.Tensor:
            return ensemble.call("loss", *prompts(self.batch, step, ensemble.runs), in_dims=(0, 0))

        def losses(ensemble: Ensemble) -> torch.Tensor:
            return ensemble.call("loss", *fixed, in_dims=(0, 0))

        def curvatures(ensemble: Ensemble) -> list[Curvature]:
            found = []
            for run, module in enumerate(ensemble.modules()):
                loss = module.loss(*(part[run, : self.designs] for part in fixed))  # type: ignore[operator]
                found.append(Curvature(loss, module.parameters()))
            return found

        return self._train(ensemble, objective, losses, curvatures)[1]
