"""Linear transformers that regress in context, the prompts they read and the textbook predictors beside them."""

from plumbline.models.regression.algorithm import Algorithm
from plumbline.models.regression.curvature import (
    Curvature,
    batch_gradients,
    prompt_gradients,
    risk_curvature,
    sampled_gradients,
)
from plumbline.models.regression.design import WishartDesign, wishart_design
from plumbline.models.regression.instances import Instances, instances_of, prediction_errors, sample_instances
from plumbline.models.regression.linear_transformer import LinearTransformer
from plumbline.models.regression.population import one_step_population_risk
from plumbline.models.regression.predictors import (
    gradient_descent,
    least_squares,
    preconditioned_gradient_descent,
    ridge,
)
from plumbline.models.regression.prompts import Prompts, gram, sample_prompts, sample_wisharts
from plumbline.models.regression.relu_features import FeatureTransformer, ReluFeatures, sample_feature_prompts

__all__ = [
    "Algorithm",
    "Curvature",
    "FeatureTransformer",
    "Instances",
    "LinearTransformer",
    "Prompts",
    "ReluFeatures",
    "WishartDesign",
    "batch_gradients",
    "gradient_descent",
    "gram",
    "instances_of",
    "least_squares",
    "one_step_population_risk",
    "preconditioned_gradient_descent",
    "prediction_errors",
    "prompt_gradients",
    "ridge",
    "risk_curvature",
    "sample_feature_prompts",
    "sample_instances",
    "sample_prompts",
    "sample_wisharts",
    "sampled_gradients",
    "wishart_design",
]
