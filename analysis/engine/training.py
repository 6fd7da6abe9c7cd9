"""The one trainer: an ensemble, an objective, an optimizer; every run ends with a named outcome."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch

from plumbline.analysis.engine.quasi_newton import descend
from plumbline.analysis.engine.trained import End, Outcome, Record, Trained
from plumbline.models.ensemble import Ensemble
from plumbline.models.normalized_gd import NORMALIZATIONS, normalized
from plumbline.theory import checks

Objective = Callable[[Ensemble, int], torch.Tensor]
Observer = Callable[[Ensemble, int, torch.Tensor | None], Mapping[str, Any]]
Progress = Callable[[int, int], None]

OPTIMIZERS = ("lbfgs", "adam", "sgd")
# Options that would have no effect with the optimizer named are refused rather than ignored.
FOREIGN_OPTIONS = {
    "lbfgs": ("momentum", "betas", "weight_decay", "clip", "clip_by", "normalize", "halve_every", "divergence"),
    "adam": ("momentum", "normalize"),
    "sgd": ("betas",),
}
# Stepping first-order methods, all runs are asked whether any is still running only so often: on an accelerator
# the answer costs a synchronisation.
ASK_EVERY = 16


@dataclass(frozen=True, kw_only=True)
class Training:
    """How an ensemble is trained.

    Args:
        optimizer: ``"lbfgs"`` (run by run, strong Wolfe line search; for exact objectives), ``"adam"`` or
            ``"sgd"`` (all runs as one tensor program), as in `torch.optim`.
        steps: Largest number of optimizer steps of a run.
        learning_rate: Greater than 0. For L-BFGS the first trial step length, 1 if not given; the others must
            be given one. Several: of the runs in turn, so that run i has the one at i modulo their number.
        momentum: SGD only, in [0, 1).
        betas: Adam only, decay rates of its two moments, in [0, 1).
        weight_decay: Adam: decoupled, as in AdamW (with 0 the two are the same); SGD: added to the gradient.
        clip: Largest Frobenius norm of a gradient block; larger blocks are scaled down to it. ``None``: no clipping.
        clip_by: The blocks: ``"matrix"``, the last two axes of each parameter (each run, layer and head has its
            own norm; a parameter with fewer axes is one block per run), or ``"run"``, all parameters of a run.
        normalize: SGD only: gradients are scaled to length one before the step, ``"tensor"`` (each parameter of each
            run by its own norm), ``"joint"`` (all parameters of a run by one norm) or ``"sign"`` (entry by entry), see
            `models.normalized_gd`. Such a run can converge only where its gradient is zero or, by its
            tolerance, small: with a tolerance of 0 it goes on as long as there is a gradient. ``None``: not scaled.
        halve_every: The learning rate is halved every so many steps; ``None``: constant.
        tolerance: A run is converged when its gradient norm is at most this multiple of its first one.
        divergence: Adam and SGD only: a run has diverged when its loss exceeds this multiple of its first loss
            (absolute value).
        record_every: The curve holds every so many steps, and the first and the last.

    Raises:
        ValueError: naming the parameter, its value and what is allowed; also for an option that the optimizer
            named would ignore.

    Example:
        >>> Training(optimizer="adam", steps=1000, learning_rate=0.01, clip=0.01).betas
        (0.9, 0.999)
    """

    optimizer: Literal["lbfgs", "adam", "sgd"]
    steps: int
    learning_rate: float | tuple[float, ...] = None  # type: ignore[assignment]  # not so after __post_init__
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float | None = None
    clip_by: Literal["matrix", "run"] = "matrix"
    normalize: Literal["tensor", "joint", "sign"] | None = None
    halve_every: int | None = None
    tolerance: float = 1e-8
    divergence: float = 1e6
    record_every: int = 10

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        checks.one_of("optimizer", self.optimizer, OPTIMIZERS)
        put("steps", checks.integer("steps", self.steps, at_least=1))
        rate = self.learning_rate
        if rate is None:
            if self.optimizer != "lbfgs":
                raise ValueError(f"learning_rate must be given for the optimizer {self.optimizer!r}, got None")
            rate = 1.0
        if isinstance(rate, tuple | list):
            if not rate:
                raise ValueError(f"learning_rate must be at least one number, got {rate!r}")
            put("learning_rate", tuple(checks.real("learning_rate", one, above=0.0) for one in rate))
        else:
            put("learning_rate", checks.real("learning_rate", rate, above=0.0))
        put("momentum", _below_one("momentum", self.momentum))
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas!r}")
        put("betas", tuple(_below_one("betas", beta) for beta in self.betas))
        put("weight_decay", checks.real("weight_decay", self.weight_decay, at_least=0.0))
        if self.clip is not None:
            put("clip", checks.real("clip", self.clip, above=0.0))
        checks.one_of("clip_by", self.clip_by, ("matrix", "run"))
        checks.one_of("normalize", self.normalize, (None, *NORMALIZATIONS))
        if self.normalize is not None and self.clip is not None:
            raise ValueError(f"clip must be left out where gradients are normalized, got {self.clip}")
        if self.halve_every is not None:
            put("halve_every", checks.integer("halve_every", self.halve_every, at_least=1))
        put("tolerance", _below_one("tolerance", self.tolerance))
        put("divergence", checks.real("divergence", self.divergence, above=1.0))
        put("record_every", checks.integer("record_every", self.record_every, at_least=1))
        defaults = {field.name: field.default for field in fields(self)}
        for name in FOREIGN_OPTIONS[self.optimizer]:
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{name} must be left out for {self.optimizer!r}, got {getattr(self, name)!r}")

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates of the runs in turn; one, where all have the same."""
        return self.learning_rate if isinstance(self.learning_rate, tuple) else (self.learning_rate,)

    def rate(self, run: int) -> float:
        """The learning rate of a run."""
        return self.rates[run % len(self.rates)]

    def start(self, run: int) -> int:
        """The number by which a run draws: runs that differ by nothing but their learning rate draw the same."""
        return run // len(self.rates)

    def draws(self, seed: int, run: int, step: int) -> torch.Generator:
        """The `generator` of a run at a step."""
        return generator(seed, self.start(run), step)


def _below_one(name: str, value: Any) -> float:
    number = checks.real(name, value, at_least=0.0)
    if number >= 1.0:
        raise ValueError(f"{name} must be less than 1, got {number}")
    return number


def generator(seed: int, run: int, step: int) -> torch.Generator:
    """A torch generator for the draws of one run at one step, whatever was drawn before.

    The three numbers are mixed by `numpy.random.SeedSequence`, so that neighbouring seeds, runs and steps give
    unrelated streams, and a run draws the same in any ensemble. (The generator of torch on the CPU starts from
    32 bits: among a million streams some hundred pairs coincide.)

    Args:
        seed, run, step: From 0 up.

    Example:
        >>> round(torch.rand(1, generator=generator(0, 1, 2), dtype=torch.float64).item(), 3)
        0.398
    """
    numbers = (
        checks.integer("seed", seed, at_least=0),
        checks.integer("run", run, at_least=0),
        checks.integer("step", step, at_least=0),
    )
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(state[0]))


def train(
    ensemble: Ensemble,
    objective: Objective,
    training: Training,
    *,
    snapshots: bool = False,
    observe: Observer | None = None,
    progress: Progress | None = None,
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
    record = Record(ensemble, steps=training.steps, every=training.record_every, snapshots=snapshots)
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
    record: Record,
    observe: Observer | None,
    progress: Progress | None,
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

    def outcome(loss: float, norm: float, run: int) -> Outcome:
        if not math.isfinite(loss) or not math.isfinite(norm):
            return "nan"
        if loss > highest[run]:
            return "diverged"
        return "converged" if norm <= lowest_norm[run] else "budget"

    outcomes = [outcome(loss, norm, run) for run, (loss, norm) in enumerate(last.T.tolist())]
    return End(best[0], best[1], first[1], outcomes, steps)


def _quasi_newton(
    ensemble: Ensemble, objective: Objective, training: Training, record: Record, progress: Progress | None
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
