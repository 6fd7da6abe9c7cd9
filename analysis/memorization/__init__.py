"""How much attention stores, and next-token laws of low rank.

Its calculators and jobs are here together, for who writes claims.
"""

from plumbline.analysis.family import Family, register
from plumbline.analysis.memorization.jobs import (
    ConstructedAccuracy,
    OptimalLowRank,
    StoreContexts,
    StoreDistribution,
    TrainNextTokenModel,
)
from plumbline.theory import memorization as theory
from plumbline.theory.memorization import *  # noqa: F403  (their list stands there)
from plumbline.theory.memorization import NgramTask, lookup_table

family = register(
    Family(
        "memorization",
        title="how much attention stores, and next-token laws of low rank",
        theory="plumbline.theory.memorization",
        folder="plumbline.analysis.memorization",
        task=NgramTask,
        example=lookup_table(10, 2),
        ingredients=("geometric_law", "lookup_table", "uniform_law", "zipf_law"),
    )
)

__all__ = [
    *theory.__all__,
    "family",
    "ConstructedAccuracy",
    "OptimalLowRank",
    "StoreContexts",
    "StoreDistribution",
    "TrainNextTokenModel",
]
