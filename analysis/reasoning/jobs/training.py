"""From a reasoning task to trained one-layer transformers: the job that claims and figures share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from plumbline.analysis.reasoning.jobs.meter import Measurement
from plumbline.models.ensemble import Ensemble
from plumbline.models.reasoning import (
    MODEL_NAMES,
    OneLayerTransformer,
    enumerated_sentences,
    sample_label_counts,
    sample_sentences,
    sample_token_counts,
)
from plumbline.models.training import Training
from plumbline.models.training.draws import generator
from plumbline.models.training.trainer import train
from plumbline.theory import checks
from plumbline.theory.reasoning import ReasoningTask

Data = Literal["population", "expected counts", "sentences", "token counts", "label counts", "finite sample"]
DATA = ("population", "expected counts", "sentences", "token counts", "label counts", "finite sample")
# Steps that no training reaches, so that test sentences and finite samples have streams of their own.
TEST_STREAM, SAMPLE_STREAM, START_STREAM, ORDER_STREAM = 2**31, 2**31 + 1, 2**31 + 2, 2**31 + 3
Call = tuple[str, tuple[Tensor, ...], tuple[int | None, ...]]


def normalized_descent(learning_rate: float | tuple[float, ...], steps: int, *, record_every: int = 1) -> Training:
    """The published training: each parameter tensor steps by the learning rate along its gradient, to the last step."""
    return Training(
        optimizer="sgd",
        steps=steps,
        learning_rate=learning_rate,
        normalize="tensor",
        tolerance=0.0,
        divergence=1e12,
        record_every=record_every,
    )


def exact_lbfgs(steps: int) -> Training:
    """To the minimum of an exact objective."""
    return Training(optimizer="lbfgs", steps=steps, tolerance=1e-9, record_every=1)


@dataclass(frozen=True, kw_only=True)
class TrainReasoner:
    """An ensemble of one-layer transformers of one kind, trained by normalised gradient descent.

    The runs are all noise levels, for each seed in turn. Runs of one seed read the same sentences; their labels come
    from the same coins, held against each run's own noise.

    Args:
        task: The data distribution; its noise is that of all runs unless ``noise_levels`` are given.
        model: A published name, one of `plumbline.models.reasoning.MODEL_NAMES`.
        training: Optimizer and schedule, `normalized_descent` as published or `exact_lbfgs` for exact objectives. At
            its recorded steps the models are measured.
        start: Standard deviation of normal initial parameters; 0 as published.
        data: What a step minimises. ``"population"``: the exact loss, by enumeration (small tasks); ``"expected
            counts"``: the exact loss of a reparameterised linear or ReLU model, at any size. ``"sentences"``: the
            loss of fresh sentences, as published; ``"token counts"`` (reparameterised models) and ``"label counts"``
            (with linear or ReLU attention): the same, drawn as what suffices of the sentences. ``"finite sample"``:
            batches of one fixed sample, in a new order each epoch; a fixed feed-forward layer is then built with the
            sample's share of noise labels.
        batch: Sentences per step.
        noise_levels: The noise of the runs of one seed, all of them 0 or none. Where ``training`` has several
            learning rates, these are of the same runs in turn.
        seeds: Number of runs at each noise level.
        seed: Of all draws.
        sample_size: Of the finite sample, a multiple of ``batch``.
        test: Number of sentences with trained, and of as many with unseen outputs, on which to measure; 0 for none.
        precision: Of parameters and losses.
        loss: ``"stable"``, which keeps its relative precision, or ``"standard"``: torch's, as published.
    """

    task: ReasoningTask
    model: str
    training: Training
    start: float = 0.0
    data: Data = "sentences"
    batch: int = 512
    noise_levels: tuple[float, ...] = ()
    seeds: int = 1
    seed: int = 0
    sample_size: int = 0
    test: int = 0
    precision: Literal["float64", "float32"] = "float64"
    loss: Literal["stable", "standard"] = "stable"

    def __post_init__(self) -> None:
        checks.one_of("model", self.model, MODEL_NAMES)
        checks.one_of("data", self.data, DATA)
        checks.real("start", self.start, at_least=0.0)
        if self.training.optimizer == "lbfgs" and self.data not in ("population", "expected counts"):
            raise ValueError(f"training must not be L-BFGS unless data is an exact objective, got {self.data!r}")
        checks.one_of("precision", self.precision, ("float64", "float32"))
        checks.one_of("loss", self.loss, ("stable", "standard"))
        checks.integer("seeds", self.seeds, at_least=1)
        checks.integer("test", self.test, at_least=0)
        if self.loss == "standard" and self.data not in ("sentences", "finite sample"):
            raise ValueError(f"loss must be 'stable' unless data is sentences, got {self.loss!r} with {self.data!r}")
        if self.data == "finite sample" and (self.sample_size < 1 or self.sample_size % self.batch):
            raise ValueError(f"sample_size must be a multiple of batch={self.batch}, got {self.sample_size}")
        if len({noise > 0 for noise in self.noise_levels}) > 1:
            raise ValueError(f"noise_levels must be all 0 or all greater than 0, got {self.noise_levels}")
        if len(self.training.rates) not in (1, len(self.levels)):
            raise ValueError(
                f"training must have one learning rate or as many as there are noise levels, {len(self.levels)}, "
                f"got {self.training.learning_rate}"
            )

    @property
    def levels(self) -> tuple[ReasoningTask, ...]:
        """The tasks of the runs of one seed."""
        return tuple(replace(self.task, noise=noise) for noise in self.noise_levels or (self.task.noise,))

    def run(self) -> dict[str, Any]:
        """Train, and return what was measured, first axes (recorded steps, runs).

        ``steps``, ``losses`` (of the batch, before the step), ``residuals`` (final gradient norms, relative),
        ``outcomes``, ``noise_estimates`` (runs,), ``counts`` (steps, runs, ...) of triggers, with noise of output and
        noise labels; and what `Measurement` has. Where every gradient is zero training ends early, and so do these.
        """
        torch.set_num_threads(1)
        training, exact = self.training, self.training.optimizer == "lbfgs"
        dtype = getattr(torch, self.precision)
        stream = _Stream(self, dtype)
        shares = stream.noise_estimates()
        tasks = self.levels * self.seeds
        ensemble = Ensemble(
            [_Model.from_name(self.model, task, noise_estimate=s) for task, s in zip(tasks, shares, strict=True)],
            dtype=dtype,
        )
        if self.start:
            with torch.no_grad():
                for run, vector in enumerate(ensemble.vector):
                    vector.normal_(std=self.start, generator=self._draws(run, START_STREAM))
        measurement = Measurement(
            self.levels[0], [task.noise for task in tasks], self.test, self._draws(0, TEST_STREAM)
        )

        def objective(ensemble: Ensemble, step: int) -> Tensor:
            if not exact and (step % training.record_every == 0 or step == training.steps):
                measurement.take(ensemble)
            method, arguments, axes = stream.batch(step)
            if len(ensemble) == 1 < len(tasks):  # L-BFGS trains run by run
                here = ensemble.runs[0]
                arguments = tuple(
                    argument if axis is None else argument[here : here + 1]
                    for argument, axis in zip(arguments, axes, strict=True)
                )
            return ensemble.call(method, *arguments, in_dims=axes)

        trained = train(ensemble, objective, training)
        curve = trained.curve
        end = int(curve.steps[-1])
        if exact:
            measurement.take(ensemble)
        elif end % training.record_every and end != training.steps:  # it ended early, at a step not measured
            measurement.keep(len(curve.steps) - 1)
            measurement.take(ensemble)
        return {
            "steps": curve.steps,
            "losses": curve.losses,
            "final_losses": trained.losses,
            "residuals": trained.relative_gradient_norms,
            "outcomes": list(trained.outcomes),
            "noise_estimates": np.array([np.nan if share is None else share for share in shares]),
            "counts": stream.counts(),
            **{name: values[: len(curve.steps)] for name, values in measurement.result().items()},
        }

    def _draws(self, run: int, step: int) -> torch.Generator:
        return generator(self.seed, run, step)


class _Model(OneLayerTransformer):
    """With the loss as the published code has it."""

    def standard_loss(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy of torch."""
        return torch.nn.functional.cross_entropy(self.lookup_logits(tokens).total, labels)


class _Stream:
    """What the ensemble reads at each step: a method, its arguments and their run axes."""

    def __init__(self, job: TrainReasoner, dtype: torch.dtype) -> None:
        self.job, self.dtype = job, dtype
        self.noise = torch.tensor([task.noise for task in job.levels], dtype=torch.float64)
        self.seen: list[Tensor] = []
        make = {
            "population": self._population,
            "expected counts": self._expected_counts,
            "label counts": self._label_counts,
            "token counts": lambda: self._token_counts,
            "sentences": lambda: self._sentences,
            "finite sample": self._finite_sample,
        }
        self.batch: Callable[[int], Call] = make[job.data]()

    def noise_estimates(self) -> list[float | None]:
        """The share of noise labels in each run's sample where its feed-forward layer is built with it."""
        job = self.job
        if job.data != "finite sample" or not job.levels[0].noise or job.model.startswith("Origin"):
            return [None] * (len(job.levels) * job.seeds)
        return (self.labels == job.task.noise_token).double().mean(1).tolist()

    def counts(self) -> np.ndarray:
        """What was counted in the batches (steps, runs, ...)."""
        return torch.stack(self.seen).numpy() if self.seen else np.zeros((0, len(self.noise) * self.job.seeds, 1))

    def _population(self) -> Callable[[int], Call]:
        sentences = [enumerated_sentences(task, dtype=self.dtype) for task in self.job.levels]
        tokens, labels, _ = sentences[0]
        weights = torch.stack([s.weights for s in sentences] * self.job.seeds)
        return lambda step: ("loss", (tokens, labels, weights), (None, None, 0))

    def _expected_counts(self) -> Callable[[int], Call]:
        job = self.job
        rows = [
            [1 - task.noise, task.noise] if task.noise else [1 / task.triggers] * task.triggers
            for task in job.levels * job.seeds
        ]
        shares = torch.tensor(rows, dtype=self.dtype)
        return lambda step: ("label_count_loss", (shares,), (0,))

    def _label_counts(self) -> Callable[[int], Call]:
        job = self.job
        drawn = [
            sample_label_counts(
                task, job.batch, size=(job.training.steps + 1,), generator=job._draws(run, 0), dtype=self.dtype
            )
            for run in range(job.seeds)
            for task in job.levels
        ]
        counts = torch.stack(drawn, dim=1)
        self.seen = list(counts.double())
        return lambda step: ("label_count_loss", (counts[step],), (0,))

    def _token_counts(self, step: int) -> Call:
        job = self.job
        drawn = [self._relabelled(sample_token_counts, run, step) for run in range(job.seeds)]
        labels = torch.cat([coins for _, coins in drawn])
        parts, axes = self._joined([(sample.counts, sample.triggers, sample.outputs) for sample, _ in drawn])
        self._count(parts[1], labels)
        return "token_count_loss", (*parts, labels), (*axes, 0)

    def _sentences(self, step: int) -> Call:
        job = self.job
        drawn = [self._relabelled(sample_sentences, run, step) for run in range(job.seeds)]
        labels = torch.cat([coins for _, coins in drawn])
        (tokens,), axes = self._joined([(sample.tokens,) for sample, _ in drawn])
        return self._read(tokens, labels, axes[0])

    def _finite_sample(self) -> Callable[[int], Call]:
        job = self.job
        drawn = [self._relabelled(sample_sentences, run, SAMPLE_STREAM, job.sample_size) for run in range(job.seeds)]
        self.labels = torch.cat([coins for _, coins in drawn])
        (tokens,), axes = self._joined([(sample.tokens,) for sample, _ in drawn])
        per_epoch = job.sample_size // job.batch

        def batch(step: int) -> Call:
            epoch, place = divmod(step, per_epoch)
            order = torch.randperm(job.sample_size, generator=job._draws(0, ORDER_STREAM + epoch))
            chosen = order[place * job.batch : (place + 1) * job.batch]
            return self._read(tokens[..., chosen, :], self.labels[:, chosen], axes[0])

        return batch

    def _read(self, tokens: Tensor, labels: Tensor, axis: int | None) -> Call:
        self._count(tokens[..., -1], labels)
        return "loss" if self.job.loss == "stable" else "standard_loss", (tokens, labels), (axis, 0)

    def _relabelled(self, sample: Callable[..., Any], run: int, step: int, size: int = 0) -> tuple[Any, Tensor]:
        """A sample, and its labels (levels, size) at every noise level."""
        draws, size = self.job._draws(run, step), size or self.job.batch
        drawn = sample(self.job.levels[0], size, generator=draws)
        if not self.noise.any():
            return drawn, drawn.outputs.expand(len(self.noise), -1)
        coins = torch.rand(size, generator=draws, dtype=torch.float64)
        noisy = coins < self.noise.unsqueeze(1)
        return drawn, torch.where(noisy, self.job.task.noise_token, drawn.outputs)

    def _joined(self, parts: list[tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
        """The samples of all seeds, stacked over the runs; the one of a single seed is shared by them."""
        if len(parts) == 1:
            return parts[0], (None,) * len(parts[0])
        levels = len(self.noise)
        stacked = tuple(torch.stack(part).repeat_interleave(levels, dim=0) for part in zip(*parts, strict=True))
        return stacked, (0,) * len(stacked)

    def _count(self, triggers: Tensor, labels: Tensor) -> None:
        task = self.job.levels[0]
        if task.noise:
            noise = (labels == task.noise_token).sum(1).double()
            self.seen.append(torch.stack([labels.shape[1] - noise, noise], dim=1))
            return
        which = torch.arange(task.triggers)
        counted = (triggers.unsqueeze(-1) == which).sum(-2).double()
        self.seen.append(counted.expand(len(labels), -1))
