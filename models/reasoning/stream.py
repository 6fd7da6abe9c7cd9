"""What an ensemble of one-layer transformers is trained on: every sentence, fresh batches, or one fixed sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plumbline.models.ensemble import Ensemble
from plumbline.models.reasoning.sentences import (
    enumerated_sentences,
    sample_label_counts,
    sample_sentences,
    sample_token_counts,
)
from plumbline.models.training.draws import generator
from plumbline.models.training.trainer import Observer
from plumbline.theory.reasoning.task import ReasoningTask

# Steps that no training reaches, so that what is drawn beside the batches has streams of its own.
TEST_STREAM, SAMPLE_STREAM, START_STREAM, ORDER_STREAM = 2**31, 2**31 + 1, 2**31 + 2, 2**31 + 3
Call = tuple[str, tuple[Tensor, ...], tuple[int | None, ...]]
"""A method of the model, its arguments, and the axis of each that runs over the ensemble."""


class Stream:
    """The losses (R,) of the runs on what they read at a step, as `train` takes its objective.

    The runs are all noise levels, for each seed in turn. Runs of one seed read the same sentences; their labels come
    from the same coins, held against each run's own noise.

    Args:
        levels: The tasks of the runs of one seed, which differ in their noise alone.
        data: What a step reads: every sentence (``"population"``) or its ``"expected counts"``; fresh ``"sentences"``,
            or the ``"token counts"`` or ``"label counts"`` that suffice of them; batches of a ``"finite sample"``.
        steps: Number of steps.
        batch: Sentences per step.
        seeds: Number of runs at each noise level.
        seed: Of all draws.
        sample_size: Of the finite sample.
        loss: The method of the model that sentences are read with, ``"loss"`` or ``"standard_loss"``.
        dtype: Of weights and counts.
        observe: What is shown the recorded steps, as `train` does.
    """

    def __init__(
        self,
        levels: Sequence[ReasoningTask],
        *,
        data: str,
        steps: int,
        batch: int,
        seeds: int,
        seed: int,
        sample_size: int,
        loss: str,
        dtype: torch.dtype,
        observe: Observer | None = None,
    ) -> None:
        self.levels, self.steps, self.batch, self.seeds, self.seed = levels, steps, batch, seeds, seed
        self.sample_size, self.loss, self.dtype, self.observe = sample_size, loss, dtype, observe
        self.seen: list[Tensor] = []
        make = {
            "population": self._population,
            "expected counts": self._expected_counts,
            "label counts": self._label_counts,
            "token counts": lambda: self._token_counts,
            "sentences": lambda: self._sentences,
            "finite sample": self._finite_sample,
        }
        self.read: Callable[[int], Call] = make[data]()

    def __call__(self, ensemble: Ensemble, step: int) -> Tensor:
        """The losses of the ensemble, or of a view of one run of it."""
        method, arguments, axes = self.read(step)
        if len(ensemble) == 1 < len(self.levels) * self.seeds:  # L-BFGS trains run by run
            here = ensemble.runs[0]
            arguments = tuple(
                argument if axis is None else argument[here : here + 1]
                for argument, axis in zip(arguments, axes, strict=True)
            )
        return ensemble.call(method, *arguments, in_dims=axes)

    def counts(self) -> np.ndarray:
        """What was counted in the batches (steps, runs, ...): triggers, with noise labels of output and noise token."""
        return torch.stack(self.seen).numpy() if self.seen else np.zeros((0, len(self.levels) * self.seeds, 1))

    def _population(self) -> Callable[[int], Call]:
        sentences = [enumerated_sentences(task, dtype=self.dtype) for task in self.levels]
        tokens, labels, _ = sentences[0]
        weights = torch.stack([s.weights for s in sentences] * self.seeds)
        return lambda step: ("loss", (tokens, labels, weights), (None, None, 0))

    def _expected_counts(self) -> Callable[[int], Call]:
        rows = [
            [1 - task.noise, task.noise] if task.noise else [1 / task.triggers] * task.triggers
            for _ in range(self.seeds)
            for task in self.levels
        ]
        shares = torch.tensor(rows, dtype=self.dtype)
        return lambda step: ("label_count_loss", (shares,), (0,))

    def _label_counts(self) -> Callable[[int], Call]:
        drawn = [
            sample_label_counts(
                task, self.batch, size=(self.steps + 1,), generator=generator(self.seed, run, 0), dtype=self.dtype
            )
            for run in range(self.seeds)
            for task in self.levels
        ]
        counts = torch.stack(drawn, dim=1)
        self.seen = list(counts.double())
        return lambda step: ("label_count_loss", (counts[step],), (0,))

    def _token_counts(self, step: int) -> Call:
        drawn = [self._relabelled(sample_token_counts, run, step) for run in range(self.seeds)]
        labels = torch.cat([coins for _, coins in drawn])
        parts, axes = self._joined([(sample.counts, sample.triggers, sample.outputs) for sample, _ in drawn])
        self._count(parts[1], labels)
        return "token_count_loss", (*parts, labels), (*axes, 0)

    def _sentences(self, step: int) -> Call:
        drawn = [self._relabelled(sample_sentences, run, step) for run in range(self.seeds)]
        labels = torch.cat([coins for _, coins in drawn])
        (tokens,), axes = self._joined([(sample.tokens,) for sample, _ in drawn])
        return self._labelled(tokens, labels, axes[0])

    def _finite_sample(self) -> Callable[[int], Call]:
        size = self.sample_size
        drawn = [finite_sample(self.levels, size, seed=self.seed, run=run) for run in range(self.seeds)]
        labels = torch.cat([coins for _, coins in drawn])
        (tokens,), axes = self._joined([(sample,) for sample, _ in drawn])

        def batch(step: int) -> Call:
            epoch, place = divmod(step, size // self.batch)
            order = torch.randperm(size, generator=generator(self.seed, 0, ORDER_STREAM + epoch))
            chosen = order[place * self.batch : (place + 1) * self.batch]
            return self._labelled(tokens[..., chosen, :], labels[:, chosen], axes[0])

        return batch

    def _labelled(self, tokens: Tensor, labels: Tensor, axis: int | None) -> Call:
        self._count(tokens[..., -1], labels)
        return self.loss, (tokens, labels), (axis, 0)

    def _relabelled(self, sample: Callable[..., Any], run: int, step: int) -> tuple[Any, Tensor]:
        return relabelled(sample, self.levels, self.batch, generator(self.seed, run, step))

    def _joined(self, parts: list[tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
        """The samples of all seeds, stacked over the runs; the one of a single seed is shared by them."""
        if len(parts) == 1:
            return parts[0], (None,) * len(parts[0])
        levels = len(self.levels)
        stacked = tuple(torch.stack(part).repeat_interleave(levels, dim=0) for part in zip(*parts, strict=True))
        return stacked, (0,) * len(stacked)

    def _count(self, triggers: Tensor, labels: Tensor) -> None:
        task = self.levels[0]
        if task.noise:
            noise = (labels == task.noise_token).sum(1).double()
            self.seen.append(torch.stack([labels.shape[1] - noise, noise], dim=1))
            return
        which = torch.arange(task.triggers)
        counted = (triggers.unsqueeze(-1) == which).sum(-2).double()
        self.seen.append(counted.expand(len(labels), -1))


def relabelled(
    sample: Callable[..., Any], levels: Sequence[ReasoningTask], size: int, draws: torch.Generator
) -> tuple[Any, Tensor]:
    """A sample, and its labels (levels, size) at every noise level, from the same coins."""
    drawn = sample(levels[0], size, generator=draws)
    noise = torch.tensor([task.noise for task in levels], dtype=torch.float64)
    if not noise.any():
        return drawn, drawn.outputs.expand(len(noise), -1)
    coins = torch.rand(size, generator=draws, dtype=torch.float64)
    return drawn, torch.where(coins < noise.unsqueeze(1), levels[0].noise_token, drawn.outputs)


def finite_sample(levels: Sequence[ReasoningTask], size: int, *, seed: int, run: int) -> tuple[Tensor, Tensor]:
    """The tokens (size, H) of the fixed sample of a seed's run, and its labels (levels, size)."""
    drawn, labels = relabelled(sample_sentences, levels, size, generator(seed, run, SAMPLE_STREAM))
    return drawn.tokens, labels
