"""Closed forms for the memorisation of next-token laws by attention-only transformers.

Conventions: N tokens, contexts of S tokens, T contexts; P (T, N) is the conditional table and ρ (T,) the prior over
contexts; divergences are Σ_t ρ_t KL(P_t ‖ model) in nats; H heads of dimension d_h, embedding dimension d.
"""

from plumbline.theory.memorization.accuracy import accuracy_lower_bound, guaranteed_accuracy
from plumbline.theory.memorization.bounds import (
    OrderResult,
    bit_upper_bound,
    dimension_upper_bound,
    order_results,
    three_layer_relu_capacity,
    threshold_network_width,
    two_layer_relu_weights,
    two_layer_relu_width,
)
from plumbline.theory.memorization.capacity import (
    attention_only_capacity,
    compressed_attention_capacity,
    heads_needed,
    multi_head_capacity,
    published_capacity,
)
from plumbline.theory.memorization.cells import cell_bound, token_block_bound
from plumbline.theory.memorization.certificate import LowerBound
from plumbline.theory.memorization.codimension import (
    CodimensionOneOptimum,
    codimension_one_divergence,
    codimension_one_optimum,
)
from plumbline.theory.memorization.distribution import DistributionBound, distribution_bound, logit_oscillation
from plumbline.theory.memorization.eckart_young import eckart_young_bound
from plumbline.theory.memorization.entropy import (
    best_constant_divergence,
    conditional_entropy,
    divergence,
    uniform_divergence,
)
from plumbline.theory.memorization.log_table import rank_for_zero_divergence, small_signal_divergence
from plumbline.theory.memorization.lookup import (
    circle_cosines,
    circle_divergence,
    circle_scale,
    lookup_divergence,
    noisy_lookup_bound,
    one_dimensional_divergence,
    published_noisy_lookup_bound,
)
from plumbline.theory.memorization.low_rank import LowRankOptimum, optimal_low_rank
from plumbline.theory.memorization.parameters import (
    attention_only_parameters,
    compressed_attention_parameters,
    sequence_encoder_parameters,
)
from plumbline.theory.memorization.rank import GenericRank, generic_rank, independent_contexts
from plumbline.theory.memorization.tails import unseen_mass, zipf_tail
from plumbline.theory.memorization.task import NgramTask, geometric_law, lookup_table, uniform_law, zipf_law

__all__ = [
    "CodimensionOneOptimum",
    "DistributionBound",
    "GenericRank",
    "LowRankOptimum",
    "LowerBound",
    "NgramTask",
    "OrderResult",
    "accuracy_lower_bound",
    "attention_only_capacity",
    "attention_only_parameters",
    "best_constant_divergence",
    "bit_upper_bound",
    "cell_bound",
    "circle_cosines",
    "circle_divergence",
    "circle_scale",
    "codimension_one_divergence",
    "codimension_one_optimum",
    "compressed_attention_capacity",
    "compressed_attention_parameters",
    "conditional_entropy",
    "dimension_upper_bound",
    "distribution_bound",
    "divergence",
    "eckart_young_bound",
    "generic_rank",
    "geometric_law",
    "guaranteed_accuracy",
    "heads_needed",
    "independent_contexts",
    "logit_oscillation",
    "lookup_divergence",
    "lookup_table",
    "multi_head_capacity",
    "noisy_lookup_bound",
    "one_dimensional_divergence",
    "optimal_low_rank",
    "order_results",
    "published_capacity",
    "published_noisy_lookup_bound",
    "rank_for_zero_divergence",
    "sequence_encoder_parameters",
    "small_signal_divergence",
    "three_layer_relu_capacity",
    "threshold_network_width",
    "token_block_bound",
    "two_layer_relu_weights",
    "two_layer_relu_width",
    "uniform_divergence",
    "uniform_law",
    "unseen_mass",
    "zipf_law",
    "zipf_tail",
]
