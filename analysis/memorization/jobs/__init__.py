"""The jobs of memorization."""

from plumbline.analysis.memorization.jobs.constructions import ConstructedAccuracy, StoreContexts, StoreDistribution
from plumbline.analysis.memorization.jobs.next_token_model import TrainNextTokenModel
from plumbline.analysis.memorization.jobs.optimal_low_rank import OptimalLowRank

__all__ = ["ConstructedAccuracy", "OptimalLowRank", "StoreContexts", "StoreDistribution", "TrainNextTokenModel"]
