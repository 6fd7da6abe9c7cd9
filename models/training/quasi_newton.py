"""L-BFGS for exact objectives, run down to the rounding of the loss and a little beyond."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

# Evaluations per line search, as in torch.
LINE_SEARCH = 25
# Steps in succession without progress (see `descend`) after which a search is given up.
PATIENCE = 5
# Factor by which a step must lower the gradient norm to count as progress where the loss is flat to rounding.
LOWER = 0.9
# Rounding of a loss, as a multiple of eps * |loss|.
ROUNDING = 4.0
# Relative gradient norm up to which a run that can make no progress counts as converged. At a minimum the loss is
# flat to rounding within sqrt(eps) = 1.5e-8 of it, times the root of the condition number.
ROUNDING_GRADIENT = 1e-6

Evaluate = Callable[[], tuple[float, float, torch.Tensor]]


@dataclass(frozen=True)
class Descent:
    """Where a run ended: loss and gradient norm there, gradient norm at the start, outcome, steps taken."""

    loss: float
    norm: float
    first_norm: float
    outcome: Literal["converged", "stalled", "budget", "nan"]
    steps: int


def descend(
    vector: torch.Tensor,
    evaluate: Evaluate,
    *,
    steps: int,
    learning_rate: float,
    tolerance: float,
    visit: Callable[[int, float, float], None],
) -> Descent:
    """Minimise with `torch.optim.LBFGS` and its strong Wolfe line search, until nothing is left to gain.

    A step is progress if it lowers the loss by more than its rounding, or the gradient norm by a tenth below all
    before: near a minimum the gradient still points the way where the loss no longer tells two points apart. When
    progress ends and the gradient is not small, the quasi-Newton model is thrown away and the search begins
    anew, as long as that has lowered the loss since the last time.

    Args:
        vector: The parameters, changed in place.
        evaluate: Loss, gradient norm and gradient (shaped as the vector) at the present parameters.
        steps: Largest number of steps.
        learning_rate: First trial step length of every line search.
        tolerance: Converged when the gradient norm is at most this multiple of the first one.
        visit: Called with step, loss, gradient norm at every iterate.
    """
    surface = _Surface(vector, evaluate)
    loss, norm, _ = surface.look()
    first = norm
    if not (math.isfinite(loss) and math.isfinite(norm)):
        visit(0, loss, norm)
        return Descent(loss, norm, first, "nan", 0)
    optimizer = surface.optimizer(first, learning_rate)
    lowest_norm, idle, fresh_loss = norm, 0, math.inf
    for step in range(steps + 1):
        visit(step, loss, norm)
        if norm <= tolerance * first:
            return Descent(loss, norm, first, "converged", step)
        if step == steps:
            break
        last_loss = loss
        surface.settle()
        noise = ROUNDING * torch.finfo(vector.dtype).eps * abs(loss)
        optimizer.step(surface)
        loss, norm, _ = surface.look()
        idle = 0 if last_loss - loss > noise or norm < LOWER * lowest_norm else idle + 1
        if idle == 0:
            lowest_norm = min(lowest_norm, norm)
        if idle < PATIENCE:
            continue
        if norm <= ROUNDING_GRADIENT * first:
            return Descent(loss, norm, first, "converged", step + 1)
        if not fresh_loss - loss > noise:
            return Descent(loss, norm, first, "nan" if surface.blocked else "stalled", step + 1)
        optimizer = surface.optimizer(first, learning_rate)
        idle, fresh_loss = 0, loss
    return Descent(loss, norm, first, "budget", steps)


class _Surface:
    """The objective as `torch.optim.LBFGS` calls it: scaled, finite, and evaluated once per point."""

    def __init__(self, vector: torch.Tensor, evaluate: Evaluate) -> None:
        self.vector = vector
        self.evaluate = evaluate
        self.seen: list[tuple[torch.Tensor, tuple[float, float, torch.Tensor]]] = []
        self.scale = self.ceiling = math.nan
        self.blocked = False

    def optimizer(self, first_norm: float, learning_rate: float) -> torch.optim.LBFGS:
        """A fresh optimizer, for an objective scaled by a power of two to an initial gradient norm of about 1e10.

        The scale changes no step of the method. It keeps curvature pairs clear of the fixed threshold
        y.s > 1e-10 below which torch drops them, and makes the first trial step at most the learning rate long.
        """
        self.scale = 2.0 ** min(round(math.log2(1e10) - math.log2(first_norm)), 900) if first_norm > 0 else 1.0
        self.first_norm = first_norm
        return torch.optim.LBFGS(
            [self.vector],
            lr=learning_rate,
            max_iter=1,
            max_eval=LINE_SEARCH + 1,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

    def look(self) -> tuple[float, float, torch.Tensor]:
        """Loss, gradient norm, gradient here."""
        for known, values in self.seen:
            if torch.equal(known, self.vector):
                return values
        values = self.evaluate()
        self.seen.append((self.vector.clone(), values))
        return values

    def settle(self) -> None:
        """Make this the point from which the next step starts; the others are forgotten."""
        values = self.look()
        self.seen = [(self.vector.clone(), values)]
        # What a point without a finite loss pretends to: a wall as high as the first slope rises over one unit.
        self.ceiling = values[0] + self.first_norm
        self.blocked = False

    def __call__(self) -> float:
        loss, norm, gradient = self.look()
        finite = math.isfinite(loss) and math.isfinite(norm)
        self.blocked |= not finite
        self.vector.grad = gradient * self.scale if finite else torch.zeros_like(gradient)
        return (loss if finite else self.ceiling) * self.scale
