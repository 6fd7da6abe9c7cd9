"""Closed forms for the memorisation of next-token laws by attention-only transformers.

Conventions: N tokens, contexts of S tokens, T contexts; P (T, N) is the conditional table and ρ (T,) the prior over
contexts; divergences are Σ_t ρ_t KL(P_t ‖ model) in nats.
"""

from theory.memorization.entropy import best_constant_divergence, conditional_entropy, uniform_divergence
from theory.memorization.task import NgramTask, geometric_law, lookup_table, uniform_law, zipf_law

__all__ = [
    "NgramTask",
    "best_constant_divergence",
    "conditional_entropy",
    "geometric_law",
    "lookup_table",
    "uniform_divergence",
    "uniform_law",
    "zipf_law",
]
