"""Closed forms for the memorisation of next-token laws by attention-only transformers.

Conventions: N tokens, contexts of S tokens, T contexts; P (T, N) is the conditional table and ρ (T,) the prior over
contexts; divergences are Σ_t ρ_t KL(P_t ‖ model) in nats; H heads of dimension d_h, embedding dimension d.
"""

from theory.memorization.accuracy import accuracy_lower_bound, guaranteed_accuracy
from theory.memorization.bounds import (
    OrderResult,
    bit_upper_bound,
    dimension_upper_bound,
    order_results,
    three_layer_relu_capacity,
    threshold_network_width,
    two_layer_relu_weights,
    two_layer_relu_width,
)
from theory.memorization.capacity import (
    attention_only_capacity,
    compressed_attention_capacity,
    heads_needed,
    multi_head_capacity,
    published_capacity,
)
from theory.memorization.distribution import DistributionBound, distribution_bound, logit_oscillation
from theory.memorization.entropy import (
    best_constant_divergence,
    conditional_entropy,
    divergence,
    uniform_divergence,
)
from theory.memorization.parameters import (
    attention_only_parameters,
    compressed_attention_parameters,
    sequence_encoder_parameters,
)
from theory.memorization.rank import GenericRank, generic_rank, independent_contexts
from theory.memorization.tails import unseen_mass, zipf_tail
from theory.memorization.task import NgramTask, geometric_law, lookup_table, uniform_law, zipf_law

__all__ = [
    "DistributionBound",
    "GenericRank",
    "NgramTask",
    "OrderResult",
    "accuracy_lower_bound",
    "attention_only_capacity",
    "attention_only_parameters",
    "best_constant_divergence",
    "bit_upper_bound",
    "compressed_attention_capacity",
    "compressed_attention_parameters",
    "conditional_entropy",
    "dimension_upper_bound",
    "distribution_bound",
    "divergence",
    "generic_rank",
    "geometric_law",
    "guaranteed_accuracy",
    "heads_needed",
    "independent_contexts",
    "logit_oscillation",
    "lookup_table",
    "multi_head_capacity",
    "order_results",
    "published_capacity",
    "sequence_encoder_parameters",
    "three_layer_relu_capacity",
    "threshold_network_width",
    "two_layer_relu_weights",
    "two_layer_relu_width",
    "uniform_divergence",
    "uniform_law",
    "unseen_mass",
    "zipf_law",
    "zipf_tail",
]
