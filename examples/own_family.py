"""Your own family in one file: how many dichotomies a linear unit separates (Cover 1965), with a trained perceptron.

plumbline --load own_family.py bound separable-dichotomies --points 6 --dim 3
plumbline check own_family.py
"""

from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from plumbline import Evidence, Expectation, Family, FigureData, Identity, Panel, Series, TorchJob, register
from plumbline.theory import checks

COVER = "Cover 1965, Geometrical and statistical properties of systems of linear inequalities, Theorem 1"


@dataclass(frozen=True)
class CoverTask:
    """T points in general position in N dimensions, with random labels; drawn here as standard normal vectors."""

    points: int
    dim: int

    def __post_init__(self) -> None:
        for name in ("points", "dim"):
            checks.integer(name, getattr(self, name), at_least=1, at_most=1000)


family = register(Family("cover", title="what a linear unit separates", task=CoverTask, example=CoverTask(10, 5)))


@family.calculator
def separable_dichotomies(task: CoverTask) -> int:
    r"""Return how many of the 2^T labellings of T points a hyperplane through the origin separates.

    .. math:: C(T, N) = 2 \sum_{k<N} \binom{T-1}{k}

    Conditions: points in general position (any N of them are linearly independent).

    Args:
        task: T and N.

    Returns:
        An integer from 2 to 2^T.

    Raises:
        ValueError: from the task, on sizes below 1 or above 1000.

    Source:
        Cover 1965, Theorem 1.

    Example:
        >>> separable_dichotomies(CoverTask(6, 3))
        32
    """
    return 2 * sum(comb(task.points - 1, k) for k in range(task.dim))


@family.calculator
def separable_fraction(task: CoverTask) -> float:
    """Return the probability C(T, N)/2^T that random labels can be separated; 1/2 at T = 2N.

    Conditions, arguments, errors and source: as `separable_dichotomies`.

    Example:
        >>> separable_fraction(CoverTask(10, 5))
        0.5
    """
    return separable_dichotomies(task) / 2**task.points


def perceptron(units: int, dim: int) -> Any:
    """Linear units without a threshold, and how they learn: the model, made where torch is wanted."""
    import torch

    class Perceptron(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.Parameter(torch.zeros(units, dim, dtype=torch.float64), requires_grad=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.einsum("utn,un->ut", x, self.weights)

        def learn(self, x: torch.Tensor, y: torch.Tensor, steps: int) -> torch.Tensor:
            """Add the worst point of each unit until all are right; which units separate their points."""
            units, signed = torch.arange(len(x)), y.unsqueeze(-1) * x
            for _ in range(steps):
                margin, worst = self(signed).min(-1)
                self.weights += (margin <= 0).unsqueeze(-1) * signed[units, worst]
            return (self(signed) > 0).all(-1)

    return Perceptron()


@dataclass(frozen=True, kw_only=True)
class TrainPerceptrons(TorchJob):
    """Perceptrons on points with all labellings (``units`` 0), or each on points and random labels of its own."""

    task: CoverTask
    units: int = 0
    steps: int = 1000
    seed: int = 0

    def run(self) -> dict[str, Any]:
        """Return which of them came to separate their points."""
        import torch

        t, n = self.task.points, self.task.dim
        rng, count = np.random.default_rng(self.seed), self.units or 2**t
        x = rng.normal(size=(self.units or 1, t, n))
        bits = rng.integers(2, size=(count, t)) if self.units else np.arange(count)[:, None] >> np.arange(t) & 1
        x, y = torch.as_tensor(x / np.linalg.norm(x, axis=-1, keepdims=True)), torch.as_tensor(2.0 * bits - 1)
        return {"separated": perceptron(count, n).learn(x.expand(count, t, n), y, self.steps).numpy()}


@family.claim(
    statement="Of T points in general position in N dimensions perceptrons separate C(T, N) of the 2^T labellings.",
    source=COVER, rule=Identity, status="as published", cases=lambda budget: {"T=6, N=3": CoverTask(6, 3)},
    rivals={"with a threshold": "C(T, N + 1): an affine unit", "next point": "C(T + 1, N)"},
)  # fmt: skip
def function_counting(task, budget, seed):
    found = yield TrainPerceptrons(task=task, seed=seed)
    wrong = CoverTask(task.points, task.dim + 1), CoverTask(task.points + 1, task.dim)
    counts = [separable_dichotomies(one) for one in (task, *wrong)]
    return Evidence(Identity(exact=True), [int(found["separated"].sum())], [counts[0]], [[one] for one in counts[1:]])


@family.claim(
    statement="Random labels of T = 2N points can be separated with probability 1/2.", source=COVER, rule=Expectation,
    status="as published", rivals={"one point more": "T = 2N + 1"}, cases=lambda budget: {"N=5": CoverTask(10, 5)},
)  # fmt: skip
def half_at_capacity(task, budget, seed):
    found = yield [TrainPerceptrons(task=task, units=1000, seed=1000 * seed + batch) for batch in range(16)]
    # Of the labellings that can be separated 2 to 3 % have too small a margin for so many steps.
    return Evidence(
        Expectation(0.05, scale=1.0, draws_per_batch=1000), [one["separated"].mean() for one in found],
        separable_fraction(task), [separable_fraction(CoverTask(task.points + 1, task.dim))],
    )  # fmt: skip


@family.figure(caption="Share of separated labellings over the number of points.", claims={half_at_capacity: "N=5"})
def capacity_of_a_unit(budget, seed):
    tasks = [CoverTask(t, 5) for t in range(4, 17, 2)]
    found = yield [TrainPerceptrons(task=task, units=1000, seed=1000 * seed) for task in tasks]
    exact, x = [separable_fraction(task) for task in tasks], [task.points for task in tasks]
    trained = Series("trained, 1,000 units", "trained", x, [one["separated"].mean() for one in found])
    lines = [Series("C(T, N)/2^T", "theory", x, exact), trained]
    return FigureData("Linear units, N=5", [Panel("", lines, xlabel="points T", ylabel="share separated")])
