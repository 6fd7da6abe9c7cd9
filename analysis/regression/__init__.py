"""In-context linear regression by linear attention.

Its calculators and jobs are here together, for who writes claims.
"""

from plumbline.analysis.family import Family, register
from plumbline.analysis.regression.jobs import (
    RareEventRisk,
    SampledGradientNoise,
    SampledRisk,
    TrainAlongLandscape,
    TrainFeatureTransformer,
    TrainLinearTransformer,
)
from plumbline.theory import regression as theory
from plumbline.theory.regression import *  # noqa: F403  (their list stands there)
from plumbline.theory.regression import RegressionTask

family = register(
    Family(
        "regression",
        title="in-context linear regression by linear attention",
        theory="plumbline.theory.regression",
        folder="plumbline.analysis.regression",
        task=RegressionTask,
        example=RegressionTask(5, 20),
        ingredients=("spectral_moments", "spectral_quadrature"),
    )
)

__all__ = [
    *theory.__all__,
    "family",
    "RareEventRisk",
    "SampledGradientNoise",
    "SampledRisk",
    "TrainAlongLandscape",
    "TrainFeatureTransformer",
    "TrainLinearTransformer",
]
