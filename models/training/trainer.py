"""The one trainer: an ensemble, an objective, an optimizer; every run ends with a named outcome."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from plumbline.models.ensemble import Ensemble
from plumbline.models.normalized_gd import normalized
from plumbline.models.training.quasi_newton import descend
from plumbline.models.training.recorder import End, Recorder
from plumbline.models.training.settings import Training
from plumbline.models.training.trained import Ending, Trained

Objective = Callable[[Ensemble, int], torch.Tensor]
StepProgress = Callable[[int, int], None]
Observer = Callable[[Ensemble, int, torch.Tensor | None], Mapping[str, Any]]

# Stepping first-order methods, all runs are asked whether any is still running only so often: on an accelerator
# the answer costs a synchronisation.
ASK_EVERY = 16


def train(
    ensemble: Ensemble,
    objective: Objective,
    training: Training,
    *,
    snapshots: bool = False,
    observe: Observer | None = None,
    progress: StepProgress | None = None,
) -> Trained:
    """Train every run of the ensemble in place, each as if it were alone.

    A run whose loss or gradient is not finite, or whose loss grows beyond bounds, is taken back to the best
    parameters it had and frozen there; the others go on untouched.

    Args:
        ensemble: The runs; afterwards it holds the parameters kept.
        objective: Called as ``objective(ensemble, step)``, it returns the losses, shape (R,), of the ensemble
            it is given: this one, or under L-BFGS a view of one run of it. Run i of that ensemble has the
            number ``ensemble.runs[i]``, by which data and draws of its own are to be chosen (`generator`). No
            loss may depend on another run. L-BFGS passes step 0 always, so that a sampled objective becomes
            the one of its first sample.
        training: Optimizer, schedule, tolerances.
        snapshots: Whether the curve also holds the parameters.
        observe: Adam and SGD only: called as ``observe(ensemble, step, update)`` at recorded steps, with the ensemble
            as it is before the step and the change (R, K) of `Ensemble.vector` that the step is about to make (zero
            for a run that has ended), and once at the end, with the parameters kept and ``None``. It returns arrays
            (R, ...) by name, for the curve, and must leave the ensemble as it is.
        progress: Called as ``progress(done, total)`` in steps of the whole work: at recorded steps and at the
            end.

    Raises:
        ValueError: if the objective does not return R losses that depend on the parameters, or the observer arrays
            with R rows; on an observer for L-BFGS, which takes no step of its own length.

    Example:
        >>> class Bowl(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.x = torch.nn.Parameter(torch.ones(2))
        ...     def forward(self):
        ...         return ((self.x - torch.arange(2)) ** 2).sum() + 3
        >>> objective = lambda ensemble, step: ensemble.call("forward")
        >>> trained = train(Ensemble([Bowl()]), objective, Training(optimizer="lbfgs", steps=50))
        >>> trained.outcomes, trained.losses.round(9).tolist()
        (('converged',), [3.0])
    """
    record = Recorder(ensemble, steps=training.steps, every=training.record_every, snapshots=snapshots)
    if training.optimizer == "lbfgs":
        if observe is not None:
            raise ValueError(f"observe must be left out for 'lbfgs', got {observe!r}")
        end = _quasi_newton(ensemble, objective, training, record, progress)
    else:
        end = _first_order(ensemble, objective, training, record, observe, progress)
    return record.close(end)


def _evaluate(ensemble: Ensemble, objective: Objective, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and gradient norms, stacked (2, R), and the gradient as a vector (R, K)."""
    with torch.enable_grad():
        losses = objective(ensemble, step)
        if not isinstance(losses, torch.Tensor) or losses.shape != (len(ensemble),):
            got = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
            raise ValueError(f"objective must return losses of shape ({len(ensemble)},), got {got}")
        if not losses.requires_grad:
            raise ValueError("objective must return losses that depend on the parameters, got constants")
        parts = torch.autograd.grad(losses.sum(), list(ensemble.parameters().values()), materialize_grads=True)
    gradient = torch.cat([part.reshape(len(ensemble), -1) for part in parts], dim=1)
    return torch.stack((losses.detach(), torch.linalg.vector_norm(gradient, dim=1))), gradient


def _clip(ensemble: Ensemble, gradient: torch.Tensor, norms: torch.Tensor, training: Training) -> None:
    """Scale every block of the gradient (R, K) with a norm above ``clip`` down to it, in place."""
    if training.clip is None:
        return
    if training.clip_by == "run":
        gradient.mul_((training.clip / norms).clamp(max=1.0).unsqueeze(1))
        return
    for part in ensemble.split(gradient).values():
        # The last two axes, or the one there is; a number per run is its own norm.
        axes = tuple(range(max(1, part.ndim - 2), part.ndim))
        size = torch.linalg.vector_norm(part, dim=axes, keepdim=True) if axes else part.abs()
        part.mul_((training.clip / size).clamp(max=1.0))


def _normalize(ensemble: Ensemble, gradient: torch.Tensor, training: Training) -> None:
    """Scale the gradient (R, K) to length one by parameter, run or entry, in place."""
    if training.normalize is not None:
        parts = list(ensemble.split(gradient).values())
        for part, unit in zip(parts, normalized(parts, training.normalize, runs=True), strict=True):
            part.copy_(unit)


def _first_order(
    ensemble: Ensemble,
    objective: Objective,
    training: Training,
    record: Recorder,
    observe: Observer | None,
    progress: StepProgress | None,
) -> End:
    vector = ensemble.vector
    # torch has one rate for each group of parameters: rates of their own make each run a group.
    rates = [training.rate(run) for run in ensemble.runs]
    alone = len(set(rates)) > 1
    rows = list(vector.unbind()) if alone else [vector]
    groups = [{"params": [row], "lr": rate} for row, rate in zip(rows, rates, strict=False)]
    optimizer: torch.optim.Optimizer
    if training.optimizer == "adam":
        optimizer = torch.optim.AdamW(groups, betas=training.betas, weight_decay=training.weight_decay)
    else:
        optimizer = torch.optim.SGD(groups, momentum=training.momentum, weight_decay=training.weight_decay)
    active = vector.new_ones(len(ensemble), dtype=torch.bool)
    steps = vector.new_zeros(len(ensemble), dtype=torch.int64)
    with torch.no_grad():
        for step in range(training.steps + 1):
            marks, gradient = _evaluate(ensemble, objective, step)
            losses, norms = marks
            if step == 0:
                first = best = last = marks
                kept = vector.clone()
                highest = (training.divergence * losses.abs()).clamp(max=torch.finfo(vector.dtype).max)
                lowest_norm = training.tolerance * norms
            last = torch.where(active, marks, last)
            # A loss or a norm that is not finite makes the left side infinite or no number.
            good = active & (losses * 0 + norms < torch.inf) & (losses <= highest)
            settled = norms <= lowest_norm
            # What is kept: the lowest loss so far, until a run ends well, then the point where it ends.
            keep = good if step == training.steps else good & ((losses < best[0]) | settled)
            best = torch.where(keep, marks, best)
            torch.where(keep.unsqueeze(1), vector, kept, out=kept)
            active = good & ~settled
            recorded = record.write(step, marks)
            if recorded and progress is not None:
                progress(step, training.steps)
            if step == training.steps or (step % ASK_EVERY == 0 and not bool(active.any())):
                break
            steps += active
            if training.halve_every is not None:
                for group, rate in zip(optimizer.param_groups, rates, strict=False):
                    group["lr"] = rate * 0.5 ** (step // training.halve_every)
            _clip(ensemble, gradient, norms, training)
            _normalize(ensemble, gradient, training)
            for row, part in zip(rows, gradient.unbind() if alone else [gradient], strict=True):
                row.grad = part
            before = vector.clone() if recorded and observe is not None else None
            optimizer.step()
            torch.where(active.unsqueeze(1), vector, kept, out=vector)
            if before is not None and observe is not None:
                after = vector.clone()
                # A run that has ended is seen where it ended.
                torch.where(active.unsqueeze(1), before, kept, out=vector)
                with torch.enable_grad():
                    record.keep(observe(ensemble, step, after - vector.detach()))
                vector.copy_(after)
        vector.copy_(kept)
        for row in rows:
            row.grad = None
    if observe is not None:
        record.keep(observe(ensemble, int(steps.max()), None))
    if progress is not None:
        progress(training.steps, training.steps)

    def outcome(loss: float, norm: float, run: int) -> Ending:
        if not math.isfinite(loss) or not math.isfinite(norm):
            return "nan"
        if loss > highest[run]:
            return "diverged"
        return "converged" if norm <= lowest_norm[run] else "budget"

    outcomes = [outcome(loss, norm, run) for run, (loss, norm) in enumerate(last.T.tolist())]
    return End(best[0], best[1], first[1], outcomes, steps)


def _quasi_newton(
    ensemble: Ensemble,
    objective: Objective,
    training: Training,
    record: Recorder,
    progress: StepProgress | None,
) -> End:
    total = len(ensemble) * training.steps
    ends = []
    for position in range(len(ensemble)):
        view = ensemble.select(position)

        def evaluate(view: Ensemble = view) -> tuple[float, float, torch.Tensor]:
            marks, gradient = _evaluate(view, objective, 0)
            return *marks[:, 0].tolist(), gradient

        def visit(step: int, loss: float, norm: float, position: int = position) -> None:
            if record.write(step, torch.tensor([loss, norm], dtype=torch.float64), position) and progress is not None:
                progress(position * training.steps + step, total)

        ends.append(
            descend(
                view.vector,
                evaluate,
                steps=training.steps,
                learning_rate=training.rate(ensemble.runs[position]),
                tolerance=training.tolerance,
                visit=visit,
            )
        )
    if progress is not None:
        progress(total, total)
    return End(
        losses=torch.tensor([end.loss for end in ends], dtype=torch.float64),
        norms=torch.tensor([end.norm for end in ends], dtype=torch.float64),
        first_norms=torch.tensor([end.first_norm for end in ends], dtype=torch.float64),
        outcomes=[end.outcome for end in ends],
        steps=torch.tensor([end.steps for end in ends]),
    )
