"""What the regression models are trained on: the exact risk, the risk on Wishart matrices, errors on fresh prompts.

Objectives as `plumbline.models.training.trainer.train` takes them; those that draw give each run its own samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from plumbline.models.ensemble import Ensemble
from plumbline.models.regression.instances import Instances, prediction_errors, sample_instances
from plumbline.models.regression.prompts import sample_prompts, sample_wisharts
from plumbline.models.regression.relu_features import ReluFeatures, sample_feature_prompts
from plumbline.models.training.trainer import Objective
from plumbline.theory.regression.task import RegressionTask

Draws = Callable[[int, int], torch.Generator]
"""From a run and a step to the source of what is drawn there."""
FeaturePrompts = Callable[[int, int, Sequence[int]], tuple[Tensor, Tensor]]
"""From a number of prompts, a step and R runs to tokens (R, prompts, n+1, d+1) and targets (R, prompts)."""


def population_risk(task: RegressionTask) -> Objective:
    """The exact risk of one layer."""
    return lambda ensemble, step: ensemble.call("population_risk", task)


def risk_on_wisharts(task: RegressionTask, wisharts: Tensor, weights: Tensor | None = None) -> Objective:
    """The mean conditional risk on W (N, d, d), the same for all runs and steps; weights (N,) as `mean_risk`."""
    return lambda ensemble, step: ensemble.call("mean_risk", wisharts, task, weights)


def risk_on_fresh_wisharts(
    task: RegressionTask, samples: int, draws: Draws, *, redraw_every: int = 1, dtype: torch.dtype = torch.float64
) -> Objective:
    """The mean conditional risk on ``samples`` W of each run, drawn anew every ``redraw_every`` steps."""

    @lru_cache(maxsize=1)  # steps that share their Wisharts do not draw them again
    def drawn(step: int, runs: tuple[int, ...]) -> Tensor:
        return torch.stack([sample_wisharts(task, samples, generator=draws(run, step), dtype=dtype) for run in runs])

    def losses(ensemble: Ensemble, step: int) -> Tensor:
        wisharts = drawn(step - step % redraw_every, ensemble.runs)
        return ensemble.call("mean_risk", wisharts, task, in_dims=(0, None))

    return losses


def error_on_fresh_prompts(
    task: RegressionTask, samples: int, draws: Draws, *, dtype: torch.dtype = torch.float64
) -> Objective:
    """The mean squared error on ``samples`` new prompts of each run at each step, token by token."""

    def losses(ensemble: Ensemble, step: int) -> Tensor:
        drawn = [sample_prompts(task, samples, generator=draws(run, step), dtype=dtype) for run in ensemble.runs]
        tokens = torch.stack([prompts.tokens for prompts in drawn])
        targets = torch.stack([prompts.targets for prompts in drawn])
        return (ensemble.call("forward", tokens, in_dims=(0,)) - targets).square().mean(-1)

    return losses


def error_on_fresh_instances(
    task: RegressionTask, layers: int, samples: int, draws: Draws, *, dtype: torch.dtype = torch.float64
) -> Objective:
    """The same error on noise-free prompts, from what matters of them: W, the weight vector and the query."""

    def losses(ensemble: Ensemble, step: int) -> Tensor:
        drawn = [sample_instances(task, samples, generator=draws(run, step), dtype=dtype) for run in ensemble.runs]
        instances = Instances(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))
        weights = ensemble.parameters()
        errors = prediction_errors(instances, weights["key_query"], weights.get("value"), layers)
        return errors.square().mean(-1)

    return losses


def error_on_fresh_feature_prompts(prompts: FeaturePrompts, samples: int) -> Objective:
    """The loss of feature transformers on ``samples`` new prompts of each run's own features at each step."""
    return lambda ensemble, step: ensemble.call("loss", *prompts(samples, step, ensemble.runs), in_dims=(0, 0))


def feature_prompts(features: Sequence[ReluFeatures], context_length: int, draws: Draws) -> FeaturePrompts:
    """The prompts of runs that have features of their own, ``features[run]``."""

    def sample(samples: int, step: int, runs: Sequence[int]) -> tuple[Tensor, Tensor]:
        drawn = [
            sample_feature_prompts(features[run], samples, context_length, generator=draws(run, step)) for run in runs
        ]
        return torch.stack([prompts.tokens for prompts in drawn]), torch.stack([prompts.targets for prompts in drawn])

    return sample
