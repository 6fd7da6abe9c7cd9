"""The jobs of in-context regression."""

from plumbline.analysis.regression.jobs.gradient_noise import SampledGradientNoise
from plumbline.analysis.regression.jobs.landscape import TrainAlongLandscape, TrainFeatureTransformer
from plumbline.analysis.regression.jobs.linear_transformer import TrainLinearTransformer
from plumbline.analysis.regression.jobs.risks import RareEventRisk, SampledRisk

__all__ = [
    "RareEventRisk",
    "SampledGradientNoise",
    "SampledRisk",
    "TrainAlongLandscape",
    "TrainFeatureTransformer",
    "TrainLinearTransformer",
]
