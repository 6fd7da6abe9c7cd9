"""Closed forms for in-context reasoning against distributional association by one-layer transformers.

Conventions: losses are cross-entropies in nats, the label noise included; the *scale* λ multiplies the published
key-query matrix; a `Layer` says which attention a model has, whether its feed-forward layer reads the attention output
too, and with which α̂ that was built; step t = 0 is the untrained model.
"""

from plumbline.theory.reasoning.batch_noise import batch_loss_deviation
from plumbline.theory.reasoning.bayes import AnswerProbabilities, bayes_predictor, bayes_risk
from plumbline.theory.reasoning.convergence import convergence_rate, published_rate, stall_scale, steps_to
from plumbline.theory.reasoning.dynamics import (
    LimitCycle,
    NormalizedGDCurve,
    limit_cycle,
    normalized_gd_curve,
    replay_normalized_gd,
)
from plumbline.theory.reasoning.enumeration import Population, enumerate_population
from plumbline.theory.reasoning.finite_sample import (
    LayerLogits,
    degenerate_sample_probability,
    excess_risk,
    excess_risk_bound,
    expected_excess_risk,
    layer_logits,
    layer_role_step,
)
from plumbline.theory.reasoning.first_step import feed_forward_gradient, key_query_gradient
from plumbline.theory.reasoning.gradient_flow import gradient_flow, normalized_gradient_flow
from plumbline.theory.reasoning.layer import Layer
from plumbline.theory.reasoning.optimum import feed_forward_gap, limit_loss, minimum_loss, optimal_scale
from plumbline.theory.reasoning.population_loss import output_probabilities, population_loss, population_loss_derivative
from plumbline.theory.reasoning.softmax_loss import softmax_loss, softmax_probabilities
from plumbline.theory.reasoning.task import ReasoningTask
from plumbline.theory.reasoning.unconstrained import UnseenBound, feed_forward_floor, unseen_output_bound

__all__ = [
    "AnswerProbabilities",
    "Layer",
    "LayerLogits",
    "LimitCycle",
    "NormalizedGDCurve",
    "Population",
    "ReasoningTask",
    "UnseenBound",
    "batch_loss_deviation",
    "bayes_predictor",
    "bayes_risk",
    "convergence_rate",
    "degenerate_sample_probability",
    "enumerate_population",
    "excess_risk",
    "excess_risk_bound",
    "expected_excess_risk",
    "feed_forward_floor",
    "feed_forward_gap",
    "feed_forward_gradient",
    "gradient_flow",
    "key_query_gradient",
    "layer_logits",
    "layer_role_step",
    "limit_cycle",
    "limit_loss",
    "minimum_loss",
    "normalized_gd_curve",
    "normalized_gradient_flow",
    "optimal_scale",
    "output_probabilities",
    "population_loss",
    "population_loss_derivative",
    "published_rate",
    "replay_normalized_gd",
    "softmax_loss",
    "softmax_probabilities",
    "stall_scale",
    "steps_to",
    "unseen_output_bound",
]
