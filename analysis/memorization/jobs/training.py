"""From a next-token law to trained models and certified optima: the jobs that claims and figures share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from plumbline.models.ensemble import Ensemble
from plumbline.models.memorization import (
    AttentionOnlyTransformer,
    CompressedAttentionTransformer,
    MLPTransformer,
    NextTokenModel,
    SequenceEncoder,
    joint_law,
    sample_sequences,
)
from plumbline.models.training import Training
from plumbline.models.training.trainer import train
from plumbline.theory import checks
from plumbline.theory.memorization import NgramTask, conditional_entropy, optimal_low_rank

Architecture = Literal["attention only", "compressed", "mlp", "sequence encoder"]
ARCHITECTURES = ("attention only", "compressed", "mlp", "sequence encoder")
# A step that no training reaches, so that the initial weights have a stream of their own.
INITIAL_STREAM = 2**31


@dataclass(frozen=True, kw_only=True)
class TrainNextTokenModel:
    """An ensemble of models trained on a next-token law.

    Args:
        task: The law.
        architecture: ``"attention only"`` (the paper), ``"compressed"`` (its code), ``"mlp"`` (the code with an MLP)
            or ``"sequence encoder"`` (a free state for every context).
        embed_dim: d.
        heads: H, per layer.
        head_dim: d_h; ``None`` is d.
        layers: Of the code's two architectures.
        width: Hidden units of the MLP.
        init_scale: Of the initial weights.
        own_tables: Whether start r learns the law with seed ``task.seed + r``; otherwise all learn the same one.
        samples: Sequences per step from which the objective is estimated; 0 is the exact objective.
        training: Optimizer and schedule.
        runs: Number of runs: random starts times learning rates.
        seed: Seed of starts and samples.
        accuracy_curve: Also record the accuracies along the training curve (not with L-BFGS).
        precision: Of the parameters while they train; the published code has float32.
    """

    task: NgramTask
    architecture: Architecture
    embed_dim: int
    heads: int = 0
    head_dim: int | None = None
    layers: int = 1
    width: int = 0
    init_scale: float = 1.0
    own_tables: bool = False
    samples: int = 0
    training: Training
    runs: int = 1
    seed: int = 0
    accuracy_curve: bool = False
    precision: Literal["float64", "float32"] = "float64"

    def __post_init__(self) -> None:
        checks.one_of("architecture", self.architecture, ARCHITECTURES)
        checks.integer("runs", self.runs, at_least=1)
        checks.integer("samples", self.samples, at_least=0)
        checks.one_of("precision", self.precision, ("float64", "float32"))
        if self.training.optimizer == "lbfgs" and (self.accuracy_curve or self.samples):
            raise ValueError("training must not be L-BFGS with accuracy_curve or samples")

    def model(self, source: torch.Generator | None = None) -> NextTokenModel:
        """One model with its initial weights."""
        task, width = self.task, self.head_dim or self.embed_dim
        sizes = (task.vocab_size, task.context_length)
        common: dict[str, Any] = {"init_scale": self.init_scale, "generator": source, "dtype": self._dtype}
        if self.architecture == "sequence encoder":
            return SequenceEncoder(*sizes, self.embed_dim, **common)
        if self.architecture == "attention only":
            return AttentionOnlyTransformer(*sizes, self.heads, width, self.embed_dim, **common)
        if self.architecture == "compressed":
            return CompressedAttentionTransformer(
                *sizes, self.heads, width, self.embed_dim, layers=self.layers, **common
            )
        return MLPTransformer(*sizes, self.heads, width, self.embed_dim, self.width, layers=self.layers, **common)

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.precision)
        return dtype

    def tasks(self) -> list[NgramTask]:
        """The law of every run, or the one of all."""
        if not self.own_tables:
            return [self.task]
        return [replace(self.task, seed=self.task.seed + self.training.start(run)) for run in range(self.runs)]

    def run(self) -> dict[str, Any]:
        """Train, and return exact divergences and accuracies, residuals, outcomes and the curve, runs first."""
        # Tables of this size gain little from a second thread, and the two processes of a sweep need one each.
        torch.set_num_threads(1)
        ensemble = Ensemble(
            [self.model(self.training.draws(self.seed, run, INITIAL_STREAM)) for run in range(self.runs)],
            dtype=self._dtype,
        )
        laws = self.tasks()
        entropies = np.array([conditional_entropy(law) for law in laws])
        joints = [joint_law(law, dtype=self._dtype) for law in laws]
        joint = torch.stack([law.mT for law in joints]).mT if self.own_tables else joints[0]
        axis = [0 if self.own_tables else None]
        recorded = []

        def objective(members: Ensemble, step: int) -> torch.Tensor:
            if self.accuracy_curve and step % self.training.record_every == 0:
                recorded.append(members.call("accuracy", joint, in_dims=axis).detach().numpy().copy())
            if self.samples:
                drawn = [self._sampled(laws[run % len(laws)], run, step) for run in members.runs]
                return members.call("cross_entropy", torch.stack(drawn).mT, in_dims=[0])
            if len(members) < self.runs and self.own_tables:  # L-BFGS looks at one run at a time
                return members.call("cross_entropy", joint[list(members.runs)], in_dims=[0])
            return members.call("cross_entropy", joint, in_dims=axis)

        trained = train(ensemble, objective, self.training)
        accuracies = ensemble.call("accuracy", joint, in_dims=axis).detach().numpy()
        divergences = ensemble.call("divergence", joint, in_dims=axis).detach().numpy()
        result = {
            "divergences": divergences,
            "accuracies": accuracies,
            "residuals": trained.relative_gradient_norms,
            "outcomes": list(trained.outcomes),
            "steps": trained.steps,
            "curve_steps": trained.curve.steps,
            "curve_divergences": trained.curve.losses - entropies,
        }
        if self.accuracy_curve:
            course = np.array(recorded)[: len(trained.curve.steps) - 1]
            result["curve_accuracies"] = np.concatenate([course, accuracies[None]])
        return result

    def _sampled(self, law: NgramTask, run: int, step: int) -> torch.Tensor:
        """The empirical joint law (N, N^S) of one batch of sequences: its cross-entropy is that of the batch."""
        n, length = law.vocab_size, law.context_length
        tokens = sample_sequences(law, self.samples, length + 1, generator=self.training.draws(self.seed, run, step))
        index = torch.zeros_like(tokens[:, 0])
        for position in range(length):
            index = index * n + tokens[:, position]
        index = tokens[:, -1] * n**length + index
        counts = torch.bincount(index, minlength=n ** (length + 1))
        return counts.reshape(n, n**length).to(self._dtype) / self.samples


@dataclass(frozen=True, kw_only=True)
class OptimalLowRank:
    """The best divergence of a rank, between the value found and its certified lower bound.

    Args:
        task: The law.
        rank: d.
        starts: Number of starts; ``None`` is the calculator's choice.
        max_iterations: Of each of the best starts.
        seed: Seed of the random starts.
    """

    task: NgramTask
    rank: int
    starts: int | None = None
    max_iterations: int = 600
    seed: int = 0

    def run(self) -> dict[str, Any]:
        """Return the divergence found, the lower bound, its method and whether that is rigorous."""
        best = optimal_low_rank(
            self.task, self.rank, starts=self.starts, seed=self.seed, max_iterations=self.max_iterations
        )
        return {
            "divergence": best.divergence,
            "lower_bound": best.lower_bound,
            "method": best.certificate.method,
            "rigorous": best.certificate.rigorous,
        }
