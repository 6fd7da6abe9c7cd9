"""The noise of batch gradients at random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.analysis.jobs.job import TorchJob
from plumbline.analysis.jobs.training_job import INITIAL_STREAM
from plumbline.theory import checks
from plumbline.theory.regression import RegressionTask

REFERENCE_STREAM = 2**31 + 3
"""A step that no training reaches, at which the prompts of the reference gradient are drawn."""


@dataclass(frozen=True, kw_only=True)
class SampledGradientNoise(TorchJob):
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
        from plumbline.models.regression import LinearTransformer, sampled_gradients
        from plumbline.models.training.draws import generator

        model = LinearTransformer(
            self.layers,
            1,
            self.task.dim,
            init_scale=self.init_scale,
            generator=generator(self.seed, 0, INITIAL_STREAM),
        )

        def gradients(batches: int, batch: int, stream: int) -> np.ndarray:
            draws = generator(self.seed, 0, stream)
            return sampled_gradients(model, self.task, batches, batch, generator=draws).numpy()

        reference = gradients(1, self.reference or 100 * self.batch, REFERENCE_STREAM)[0]
        noise = gradients(self.batches, self.batch, 0) - reference
        mean = noise.mean(0)
        # Rows of the triangular factor have the covariance of the noise, whatever its rank.
        factor = np.linalg.qr(noise - mean, mode="r") / np.sqrt(len(noise) - 1)
        normals = np.random.default_rng(self.seed).normal(size=(2, len(noise), len(factor)))
        return {
            "norms": np.linalg.norm(noise, axis=1),
            "normal": np.linalg.norm(mean + normals @ factor, axis=-1),
            "gradient_norm": float(np.linalg.norm(reference)),
        }
