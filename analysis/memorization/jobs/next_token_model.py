"""From a next-token law to trained models: the training that claims and figures share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from plumbline.analysis.jobs.training_job import TrainingJob
from plumbline.models.training import Trained
from plumbline.theory import checks
from plumbline.theory.memorization import NgramTask, conditional_entropy

if TYPE_CHECKING:
    from plumbline.models.ensemble import Ensemble
    from plumbline.models.memorization import NextTokenModel
    from plumbline.models.memorization.objectives import CrossEntropy

Architecture = Literal["attention only", "compressed", "mlp", "sequence encoder"]


@dataclass(frozen=True, kw_only=True)
class TrainNextTokenModel(TrainingJob):
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
        accuracy_curve: Also record the accuracies along the training curve (not with L-BFGS).
        training, runs, seed, precision: As in `TrainingJob`; the published code trains in float32.
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
    accuracy_curve: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("architecture", self.architecture, get_args(Architecture))
        checks.integer("samples", self.samples, at_least=0)
        if self.training.optimizer == "lbfgs" and (self.accuracy_curve or self.samples):
            raise ValueError("training must not be L-BFGS with accuracy_curve or samples")

    def module(self, run: int) -> NextTokenModel:
        from plumbline.models import memorization as models

        n, length, dim = self.task.vocab_size, self.task.context_length, self.embed_dim
        common: dict[str, Any] = {
            "init_scale": self.init_scale,
            "generator": self.initial_draws(run),
            "dtype": self.dtype,
        }
        if self.architecture == "sequence encoder":
            return models.SequenceEncoder(n, length, dim, **common)
        sizes = n, length, self.heads, self.head_dim or dim, dim
        if self.architecture == "attention only":
            return models.AttentionOnlyTransformer(*sizes, **common)
        if self.architecture == "compressed":
            return models.CompressedAttentionTransformer(*sizes, layers=self.layers, **common)
        return models.MLPTransformer(*sizes, self.width, layers=self.layers, **common)

    def minimised(self, ensemble: Ensemble) -> CrossEntropy:
        from plumbline.models.memorization.objectives import CrossEntropy, CrossEntropyAndAccuracy

        law: NgramTask | list[NgramTask] = self.task
        if self.own_tables:
            law = [replace(self.task, seed=self.task.seed + self.training.start(run)) for run in range(self.runs)]
        kind = CrossEntropyAndAccuracy if self.accuracy_curve else CrossEntropy
        return kind(law, dtype=self.dtype, samples=self.samples, draws=partial(self.training.draws, self.seed))

    def read(self, ensemble: Ensemble, trained: Trained, objective: CrossEntropy) -> dict[str, Any]:
        """Add ``divergences`` and ``accuracies`` (runs,), exact over all contexts, and along the curve (K, runs).

        The loss is a cross-entropy: ``curve_divergences`` is less by the entropy of the law, and as noisy with
        ``samples``. ``curve_accuracies`` is there where it was asked for, and exact.
        """
        curves = {f"curve_{name}": values for name, values in trained.curve.observed.items()}
        entropies = np.array([conditional_entropy(law) for law in objective.laws])
        return {
            "divergences": objective.exact("divergence", ensemble).detach().numpy(),
            "accuracies": objective.exact("accuracy", ensemble).detach().numpy(),
            "curve_divergences": trained.curve.losses - entropies,
            **curves,
        }
