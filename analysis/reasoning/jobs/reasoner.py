"""From a reasoning task to trained one-layer transformers: the job that claims and figures share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from plumbline.analysis.jobs.training_job import TrainingJob
from plumbline.models.training import Trained, Training
from plumbline.theory import checks
from plumbline.theory.reasoning import ReasoningTask
from plumbline.theory.reasoning.model_names import MODEL_NAMES

if TYPE_CHECKING:
    from plumbline.models.ensemble import Ensemble
    from plumbline.models.reasoning import OneLayerTransformer
    from plumbline.models.reasoning.meter import Meter
    from plumbline.models.reasoning.stream import Stream

Data = Literal["population", "expected counts", "sentences", "token counts", "label counts", "finite sample"]


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
class TrainReasoner(TrainingJob):
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
    runs: int = field(init=False)
    start: float = 0.0
    data: Data = "sentences"
    batch: int = 512
    noise_levels: tuple[float, ...] = ()
    seeds: int = 1
    sample_size: int = 0
    test: int = 0
    loss: Literal["stable", "standard"] = "stable"

    def __post_init__(self) -> None:
        checks.integer("seeds", self.seeds, at_least=1)
        object.__setattr__(self, "runs", len(self.levels) * self.seeds)
        super().__post_init__()
        checks.one_of("model", self.model, MODEL_NAMES)
        checks.one_of("data", self.data, get_args(Data))
        checks.real("start", self.start, at_least=0.0)
        if self.exact and self.data not in ("population", "expected counts"):
            raise ValueError(f"training must not be L-BFGS unless data is an exact objective, got {self.data!r}")
        checks.one_of("loss", self.loss, ("stable", "standard"))
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

    @property
    def tasks(self) -> tuple[ReasoningTask, ...]:
        """The tasks of all runs."""
        return self.levels * self.seeds

    @property
    def exact(self) -> bool:
        """Whether each run is taken to the minimum by itself, so that it is measured there alone."""
        return self.training.optimizer == "lbfgs"

    @cached_property
    def noise_estimates(self) -> list[float | None]:
        """The share of noise labels in each run's sample where its feed-forward layer is built with it."""
        if self.data != "finite sample" or not self.levels[0].noise or self.model.startswith("Origin"):
            return [None] * self.runs
        from plumbline.models.reasoning.stream import finite_sample

        shares: list[float | None] = []
        for run in range(self.seeds):
            _, labels = finite_sample(self.levels, self.sample_size, seed=self.seed, run=run)
            shares += (labels == self.task.noise_token).double().mean(1).tolist()
        return shares

    def module(self, run: int) -> OneLayerTransformer:
        import torch

        from plumbline.models.reasoning import OneLayerTransformer
        from plumbline.models.reasoning.stream import START_STREAM
        from plumbline.models.training.draws import generator

        share = self.noise_estimates[run]
        model = OneLayerTransformer.from_name(self.model, self.tasks[run], noise_estimate=share, dtype=self.dtype)
        if self.start:
            size = sum(parameter.numel() for parameter in model.parameters())
            draws = generator(self.seed, run, START_STREAM)
            values = torch.normal(0.0, self.start, (size,), generator=draws, dtype=self.dtype)
            torch.nn.utils.vector_to_parameters(values, model.parameters())
        return model

    def meter(self) -> Meter:
        """What measures the ensemble, on test sentences of a stream of their own."""
        from plumbline.models.reasoning.meter import Meter
        from plumbline.models.reasoning.stream import TEST_STREAM
        from plumbline.models.training.draws import generator

        noise = [task.noise for task in self.tasks]
        return Meter(self.levels[0], noise, self.test, generator(self.seed, 0, TEST_STREAM))

    def minimised(self, ensemble: Ensemble) -> Stream:
        from plumbline.models.reasoning.stream import Stream

        return Stream(
            self.levels,
            data=self.data,
            steps=self.training.steps,
            batch=self.batch,
            seeds=self.seeds,
            seed=self.seed,
            sample_size=self.sample_size,
            loss="loss" if self.loss == "stable" else "standard_loss",
            dtype=self.dtype,
            observe=None if self.exact else self.meter(),
        )

    def read(self, ensemble: Ensemble, trained: Trained, objective: Stream) -> dict[str, Any]:
        """What `Meter` has, with axes (recorded steps, runs, ...), of L-BFGS at the end alone.

        And ``noise_estimates`` (runs,), and ``counts`` (steps, runs, ...) of triggers, with noise of output and noise
        labels. ``curve_losses`` are of the batch, before the step. Where every gradient is zero training ends early,
        and so do these.
        """
        measured = trained.curve.observed
        if self.exact:
            measured = {name: values.numpy()[None] for name, values in self.meter()(ensemble, 0, None).items()}
        shares = [np.nan if share is None else share for share in self.noise_estimates]
        return {"noise_estimates": np.array(shares), "counts": objective.counts(), **measured}
