"""Closed forms for in-context linear regression by linear transformers.

Conventions: n examples, averages carry 1/n; a one-step predictor with preconditioner A answers
((1/n) Σ yᵢxᵢ)ᵀ A x_query; *risk* is E(prediction − w·x_query)², the query's own label noise not added; step sizes
ascend.
"""

from plumbline.theory.estimate import Estimate
from plumbline.theory.regression.asymptotics import bayes_limit, least_squares_limit, looped_limit, multi_step_limit
from plumbline.theory.regression.curvature import RobustConditionNumber, Spectrum, robust_condition_number
from plumbline.theory.regression.descent import Trajectory, largest_stable_step, one_layer_descent, one_layer_flow
from plumbline.theory.regression.estimators import bayes_risk, least_squares_risk, ridge_risk, zero_predictor_risk
from plumbline.theory.regression.gd_plus_plus import GDPlusPlusOptimum, gd_plus_plus_optimum, gd_plus_plus_risk
from plumbline.theory.regression.gradient_descent import gradient_descent_optimum, gradient_descent_risk
from plumbline.theory.regression.gradient_noise import GradientNoise, gradient_noise, gradient_noise_at_zero
from plumbline.theory.regression.gradient_tails import gradient_degree, tail_exponent
from plumbline.theory.regression.landscape import (
    gradient_at_zero,
    hessian_at_zero,
    one_layer_gradient,
    one_layer_hessian,
    one_layer_spectrum,
)
from plumbline.theory.regression.linear_attention import linear_transformer_risk
from plumbline.theory.regression.multi_step import (
    MultiStepOptimum,
    degree_bound,
    looped_optimum,
    looped_rotation_curvature,
    multi_step_optimum,
    multi_step_risk,
)
from plumbline.theory.regression.multi_step_curvature import MultiStepHessian, multi_step_hessian
from plumbline.theory.regression.noisy import NoisyMultiStepOptimum, noisy_multi_step_optimum, noisy_multi_step_risk
from plumbline.theory.regression.one_step import OneStepOptimum, one_step_optimum, one_step_risk
from plumbline.theory.regression.spectrum import SpectralQuadrature, spectral_quadrature
from plumbline.theory.regression.task import RegressionTask
from plumbline.theory.regression.wishart import spectral_moments, wishart_moment

__all__ = [
    "Estimate",
    "GDPlusPlusOptimum",
    "GradientNoise",
    "MultiStepHessian",
    "MultiStepOptimum",
    "NoisyMultiStepOptimum",
    "OneStepOptimum",
    "RegressionTask",
    "RobustConditionNumber",
    "SpectralQuadrature",
    "Spectrum",
    "Trajectory",
    "bayes_limit",
    "bayes_risk",
    "degree_bound",
    "gd_plus_plus_optimum",
    "gd_plus_plus_risk",
    "gradient_at_zero",
    "gradient_degree",
    "gradient_descent_optimum",
    "gradient_descent_risk",
    "gradient_noise",
    "gradient_noise_at_zero",
    "hessian_at_zero",
    "largest_stable_step",
    "least_squares_limit",
    "least_squares_risk",
    "linear_transformer_risk",
    "looped_limit",
    "looped_optimum",
    "looped_rotation_curvature",
    "multi_step_hessian",
    "multi_step_limit",
    "multi_step_optimum",
    "multi_step_risk",
    "noisy_multi_step_optimum",
    "noisy_multi_step_risk",
    "one_layer_descent",
    "one_layer_flow",
    "one_layer_gradient",
    "one_layer_hessian",
    "one_layer_spectrum",
    "one_step_optimum",
    "one_step_risk",
    "ridge_risk",
    "robust_condition_number",
    "spectral_moments",
    "spectral_quadrature",
    "tail_exponent",
    "wishart_moment",
    "zero_predictor_risk",
]
