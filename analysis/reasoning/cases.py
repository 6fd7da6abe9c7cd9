"""The tasks and models that claims and figures speak about."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from plumbline.analysis.reasoning.jobs.reasoner import Data
from plumbline.theory.reasoning import Layer, ReasoningTask, population_loss
from plumbline.theory.reasoning.layer import RELU_OFFSET
from plumbline.theory.reasoning.model_names import ModelName

PAPER = "Nguyen, Nguyen-Tang 2025 (2505.15009)"
PUBLISHED = ReasoningTask()
"""Vocabulary 60, sentences of 256 tokens, 5 triggers, 4 outputs, no noise."""
NOISY = replace(PUBLISHED, noise=0.2)
NOISE_LEVELS = (0.2, 0.5, 0.8)
LEARNING_RATES = (0.1, 0.5)
BATCH = 512


@dataclass(frozen=True)
class ModelCase:
    """A task, a published model name, and a learning rate."""

    task: ReasoningTask
    model: ModelName
    learning_rate: float = 0.1

    @property
    def layer(self) -> Layer:
        """The model as the calculators know it."""
        _, attention, *_, feed_forward = self.model.split("-")
        return Layer(attention.lower(), feed_forward)  # type: ignore[arg-type]

    @property
    def data(self) -> Data:
        """What suffices of fresh sentences for this model."""
        if self.model.startswith("Origin") or "-W-" in self.model:
            return "sentences"
        return "token counts" if self.layer.attention == "softmax" else "label counts"


def small_tasks(seed: int, count: int) -> list[ReasoningTask]:
    """Random tasks that can be enumerated, every other one with noise."""
    rng = np.random.default_rng(seed)
    tasks = []
    for index in range(count):
        noise = float(rng.uniform(0.05, 0.95)) if index % 2 else 0.0
        triggers, outputs = (int(n) for n in rng.integers(1, 4, size=2))
        vocab_size = triggers + outputs + int(rng.integers(2, 4))
        tasks.append(ReasoningTask(vocab_size, int(rng.integers(6, 8)), triggers, outputs, noise))
    return tasks


def exact_loss(task: ReasoningTask, scale: float, layer: Layer) -> float:
    """The population loss of the published model, with the offset of its ReLU."""
    return population_loss(task, scale, layer, relu_offset=RELU_OFFSET if layer.attention == "relu" else 0.0)
