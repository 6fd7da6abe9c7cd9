"""Linear transformers that regress in context, the prompts they read and the textbook predictors beside them."""

from models.regression.algorithm import Algorithm
from models.regression.design import WishartDesign, wishart_design
from models.regression.linear_transformer import LinearTransformer
from models.regression.population import one_step_population_risk
from models.regression.predictors import (
    gradient_descent,
    least_squares,
    preconditioned_gradient_descent,
    ridge,
)
from models.regression.prompts import Prompts, gram, sample_prompts, sample_wisharts

__all__ = [
    "Algorithm",
    "LinearTransformer",
    "Prompts",
    "WishartDesign",
    "gradient_descent",
    "gram",
    "least_squares",
    "one_step_population_risk",
    "preconditioned_gradient_descent",
    "ridge",
    "sample_prompts",
    "sample_wisharts",
    "wishart_design",
]
