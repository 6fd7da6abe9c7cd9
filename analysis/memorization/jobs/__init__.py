"""The jobs of memorization."""

from plumbline.analysis.memorization.jobs.constructions import ConstructedAccuracy, StoreContexts, StoreDistribution
from plumbline.analysis.memorization.jobs.training import OptimalLowRank, TrainNextTokenModel

__all__ = ["ConstructedAccuracy", "OptimalLowRank", "StoreContexts", "StoreDistribution", "TrainNextTokenModel"]
