"""From a next-token law to the best divergence of a rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plumbline.theory.memorization import NgramTask, optimal_low_rank


@dataclass(frozen=True, kw_only=True)
class OptimalLowRank:
    """The best divergence of a rank, between the value found and its certified lower bound.

    Args:
        task: The law.
        rank: d.
        starts: Number of starts; ``None`` is the calculator's choice.
        max_iterations: Of each of the best starts.
        seed: Seed of the random starts.
    """

    task: NgramTask
    rank: int
    starts: int | None = None
    max_iterations: int = 600
    seed: int = 0

    def run(self) -> dict[str, Any]:
        """Return the divergence found, the lower bound, its method and whether that is rigorous."""
        best = optimal_low_rank(
            self.task, self.rank, starts=self.starts, seed=self.seed, max_iterations=self.max_iterations
        )
        return {
            "divergence": best.divergence,
            "lower_bound": best.lower_bound,
            "method": best.certificate.method,
            "rigorous": best.certificate.rigorous,
        }
