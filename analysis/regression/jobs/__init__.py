"""The jobs of in-context regression."""

from plumbline.analysis.regression.jobs.landscape import GradientNoise, TrainAlongLandscape, TrainFeatureTransformer
from plumbline.analysis.regression.jobs.training import RareEventRisk, SampledRisk, TrainLinearTransformer

__all__ = [
    "GradientNoise",
    "RareEventRisk",
    "SampledRisk",
    "TrainAlongLandscape",
    "TrainFeatureTransformer",
    "TrainLinearTransformer",
]
