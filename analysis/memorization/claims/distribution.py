"""Claims about distributions: transformers that equal a sequence encoder on the contexts they store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.memorization import family
from plumbline.analysis.memorization.claims.capacity import DANA
from plumbline.analysis.memorization.jobs.constructions import StoreDistribution
from plumbline.analysis.verdict import BoundForAll, Identity
from plumbline.theory.memorization import geometric_law


@family.claim(
    statement="With T₀ ≥ N^S an attention-only transformer equals a given sequence encoder in every context, and has "
    "its divergence: no further error γ and no limit.",
    source=DANA + ", Theorem 1; sharpened and constructed here",
    rule=Identity,
    status="corrected",
    published="Theorem 1 has a further error γ > 0 beside the divergence of the encoder, with a constant that it "
    "does not give.",
    rivals={
        "the law itself": "divergence 0: it is the encoder that is stored, not the law",
        "fewer heads": "the same with a third of the heads, which store a part of the contexts",
    },
    cases=by_budget(
        {
            "N=6, d=3, d_h=2": StoreDistribution(
                task=geometric_law(6, 2, ratio=0.5), heads=17, head_dim=2, embed_dim=3, tables=4
            )
        },
        {
            "N=4, S=3, d=d_h=2": StoreDistribution(
                task=geometric_law(4, 3, ratio=0.7), heads=31, head_dim=2, embed_dim=2, tables=4
            )
        },
    ),
)
def encoder_is_stored(case: StoreDistribution, budget: Budget, seed: int) -> Any:
    whole, part = yield [replace(case, seed=seed), replace(case, heads=case.heads // 3, seed=seed)]
    return Evidence(
        # Linear systems of condition up to 1e10 leave six digits of the logits, and more of the divergence.
        rule=Identity(1e-6),
        measured=whole["divergences"],
        predicted=whole["encoder_divergences"],
        rivals=[0.0 * whole["encoder_divergences"], whole["encoder_divergences"]],
        rivals_measured=[None, part["divergences"]],
        note=f"largest difference of logits {whole['oscillations'].max():.1e}",
    )


@family.claim(
    statement="A transformer that equals an encoder f on M has KL(T) ≤ KL(f) + Σ_{t∉M} ρ_t osc(f_t − T_t).",
    source="derived here, in place of " + DANA + ", Theorem 1, whose constant C differs between text and appendix",
    rule=BoundForAll,
    status="derived here",
    rivals={
        "nothing lost elsewhere": "KL(T) ≤ KL(f)",
        "half the oscillation": "KL(T) ≤ KL(f) + ½ Σ ρ_t osc: half the range, as if the mean of the two ends counted",
    },
    cases=by_budget(
        {
            "N=6, d=3, d_h=2, H=8": StoreDistribution(
                task=geometric_law(6, 2, ratio=0.5), heads=8, head_dim=2, embed_dim=3, tables=10
            )
        },
        {
            "N=5, S=3, d=d_h=2, H=30": StoreDistribution(
                task=geometric_law(5, 3, ratio=0.7), heads=30, head_dim=2, embed_dim=2, tables=10
            )
        },
    ),
)
def oscillation_bound(case: StoreDistribution, budget: Budget, seed: int) -> Any:
    stored = yield replace(case, seed=seed)
    half = (stored["encoder_divergences"] + stored["bounds"]) / 2
    return Evidence(
        rule=BoundForAll("upper", numerical_error=1e-9),
        measured=stored["divergences"],
        predicted=stored["bounds"],
        rivals=[stored["encoder_divergences"], half],
        note=f"largest ratio of the divergence to its bound {(stored['divergences'] / stored['bounds']).max():.3f}",
    )
