"""Claims about look-up tables: the circle, the line, and noise."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.memorization import family
from plumbline.analysis.memorization.cases import noisy_lookup_law
from plumbline.analysis.memorization.claims.capacity import DANA
from plumbline.analysis.memorization.jobs.next_token_model import TrainNextTokenModel
from plumbline.analysis.verdict import BoundForAll, Identity
from plumbline.models.training import Training
from plumbline.theory.memorization import (
    NgramTask,
    circle_cosines,
    circle_divergence,
    circle_scale,
    lookup_table,
    noisy_lookup_bound,
    one_dimensional_divergence,
)

LBFGS = Training(optimizer="lbfgs", steps=150, tolerance=1e-8)


def label_masses(law: NgramTask) -> np.ndarray:
    """Prior mass of the contexts with each label."""
    return np.bincount(law.labels, law.prior, minlength=law.vocab_size)


@family.claim(
    statement="On a circle two dimensions store every look-up table: the divergence is log Σ_k exp(−λ(1 − cos 2πk/N)) "
    "at scale λ, and goes to 0 as λ grows.",
    source=DANA + ", Proposition 3; the value is derived here",
    rule=Identity,
    status="derived here",
    rivals={
        "nearest neighbour only": "log(1 + exp(−λ(1 − cos 2π/N)))",
        "all neighbours alike": "log(1 + (N−1) exp(−λ(1 − cos 2π/N))): the upper bound taken for the value",
    },
    cases=by_budget({"N=5": 5, "N=8": 8}, {"N=50": 50}),
)
def circle(vocab_size: int, budget: Budget, seed: int) -> Evidence:
    import torch

    from plumbline.models.memorization import SequenceEncoder

    n = vocab_size
    law = lookup_table(n, 1, seed=seed)
    # From nearly uniform to a divergence of 1e-6; and the scale at which a given divergence is reached.
    scales = [0.5, 2.0, 10.0, *(circle_scale(divergence, n) for divergence in (1e-2, 1e-6))]
    angles = 2 * np.pi * np.arange(n) / n
    points = torch.as_tensor(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    measured = []
    for scale in scales:
        model = SequenceEncoder(n, 1, 2, init_scale=0.0)
        with torch.no_grad():
            model.unembedding.copy_(points)
            model.encoding.copy_(scale * points[torch.as_tensor(law.labels.copy())])
            measured.append(model.divergence(law).item())
    nearest = np.exp(-np.array(scales) * (1 - np.cos(2 * np.pi / n)))
    return Evidence(
        # A divergence of 1e-6 is the difference of logits near 10 λ: rounding of 1e-12 at the scale of the largest.
        rule=Identity(1e-11),
        measured=measured,
        predicted=[circle_divergence(scale, n) for scale in scales[:3]] + [1e-2, 1e-6],
        rivals=[np.log1p(nearest), np.log1p((n - 1) * nearest)],
    )


def line_construction(masses: np.ndarray, ratio: float) -> float:
    """Divergence of logits on a line whose gaps grow by a ratio from both ends inwards, likeliest tokens outermost.

    Tokens of level k = 1, 2, … sit at R^k from their end. A context with a label there has the slope R^{−k−1/2}
    towards that end: those beyond it are as likely as itself up to R^{−1/2}, all others exp(−R^{1/2}) times less.
    """
    ranked = np.sort(masses)[::-1]
    total = 0.0
    for position, mass in enumerate(ranked):
        level = position // 2 + 1
        beyond = np.arange(1, level)
        total += mass * np.log1p(np.exp(ratio**-0.5 - ratio ** (beyond - level - 0.5)).sum())
    return float(total)


@family.claim(
    statement="One dimension stores no look-up table of three labels or more: the infimum is Σ_r q_(r) log⌈r/2⌉ over "
    "ranked label masses, approached by gaps that grow geometrically.",
    source="derived here; against " + DANA + ", version 2, Proposition 3",
    rule=Identity,
    status="corrected",
    published="Version 2, Proposition 3: a look-up table is stored 'in any embedding dimension d'.",
    rivals={
        "any dimension": "0: version 2 says that a look-up table is stored 'in any embedding dimension d'",
        "one end only": "Σ_r q_(r) log r: the same construction from one end",
        "no context": "log N: what no dimension reaches",
    },
    cases=by_budget({"N=5, S=2": lookup_table(5, 2, seed=1)}, {"N=10, S=2": lookup_table(10, 2, seed=2)}),
)
def line_is_approached(law: NgramTask, budget: Budget, seed: int) -> Evidence:
    masses = label_masses(law)
    ranked = np.sort(masses)[::-1]
    return Evidence(
        # The construction at R = 1e14 is within N R^{-1/2} = 1e-6 of the limit.
        rule=Identity(1e-5),
        measured=[line_construction(masses, 1e14)],
        predicted=[one_dimensional_divergence(masses)],
        rivals=[[0.0], [float(ranked @ np.log(np.arange(1, len(ranked) + 1)))], [np.log(len(ranked))]],
    )


@family.claim(
    statement="No sequence encoder of one dimension has a divergence below Σ_r q_(r) log⌈r/2⌉.",
    source="derived here",
    rule=BoundForAll,
    status="derived here",
    rivals={"one end only": "Σ_r q_(r) log r: tokens ranked from one end of the line, which training undercuts"},
    cases=by_budget({"N=5, S=2": lookup_table(5, 2, seed=1)}, {"N=8, S=2": lookup_table(8, 2, seed=2)}),
)
def line_is_not_undercut(law: NgramTask, budget: Budget, seed: int) -> Any:
    trained = yield TrainNextTokenModel(
        task=law, architecture="sequence encoder", embed_dim=1, training=LBFGS, runs=8, init_scale=3.0, seed=seed
    )
    masses = label_masses(law)
    ranked = np.sort(masses)[::-1]
    return Evidence(
        rule=BoundForAll("lower", numerical_error=1e-9),
        measured=trained["divergences"],
        predicted=one_dimensional_divergence(masses),
        rivals=[float(ranked @ np.log(np.arange(1, len(ranked) + 1)))],
        note=f"infimum {one_dimensional_divergence(masses):.4g}, best trained {trained['divergences'].min():.4g}",
    )


@family.claim(
    statement="A noisy look-up table costs at most E[(1 − P_t(g)) (1 − C₋)/(1 − C₊) log((N−1)/(e^{H(P_t)} − 1))] in "
    "two dimensions, H the Shannon entropy, by unit vectors of cosines in [C₋, C₊].",
    source=DANA + ", Theorem 2; corrected here",
    rule=BoundForAll,
    status="corrected",
    published="The logarithm of (N−1)/(e^{−H} − 1) for an entropy H, which is negative where the appendix takes H "
    "in [0, log N]; and a simpler bound with the mean over contexts inside the logarithm.",
    rivals={
        "published sign": "e^{−H} − 1 with H in [0, log N], as the appendix has it: negative, so that no context has a "
        "logarithm and nothing is left of the sum",
        "simpler bound": "the mean over contexts taken inside the logarithm, which is convex: Jensen the wrong way",
        "no cosines": "without the factor (1 − C₋)/(1 − C₊)",
    },
    cases=by_budget({"N=3, 4, 5": (3, 4, 5)}, {"N=3, 4, 6, 8, 11": (3, 4, 6, 8, 11)}),
)
def noisy_lookup(vocab_sizes: tuple[int, ...], budget: Budget, seed: int) -> Evidence:
    from scipy.special import entr

    measured, bounds, simpler, plain = [], [], [], []
    for table, n in product(range(12), vocab_sizes):
        low, high = circle_cosines(n)
        law = noisy_lookup_law(n, 2, 0.05 + 0.03 * table, seed=12 * seed + table)
        measured.append(circle_at_equal_entropy(law))
        bounds.append(noisy_lookup_bound(law))
        plain.append(bounds[-1] * (1 - high) / (1 - low))
        entropy = law.prior @ entr(law.conditional).sum(axis=1)
        error = law.prior @ (1 - law.conditional.max(axis=1))
        simpler.append(error * (1 - low) / (1 - high) * np.log((n - 1) / np.expm1(entropy)))
    return Evidence(
        # Three tokens on a circle have equal cosines and attain the bound; the scales are roots to 1e-12.
        rule=BoundForAll("upper", numerical_error=1e-9),
        measured=np.array(measured),
        predicted=np.array(bounds),
        rivals=[np.zeros(len(bounds)), np.array(simpler), np.array(plain)],
        note=f"largest ratio to the bound {np.max(np.array(measured) / bounds):.4f}",
    )


def circle_at_equal_entropy(law: NgramTask) -> float:
    """Exact divergence of logits λ_t cos(2π(i − g_t)/N) with log Σ_j exp(λ_t (cos(2πj/N) − 1)) = H(P_t)."""
    from scipy.special import entr

    n = law.vocab_size
    angles = 2 * np.pi * np.arange(n) / n
    total = 0.0
    for weight, row in zip(law.prior, law.conditional, strict=True):
        entropy = float(entr(row).sum())
        logits = circle_scale(entropy, n) * (np.cos(angles - angles[row.argmax()]) - 1)
        total += weight * (np.log(np.exp(logits).sum()) - row @ logits - entropy)
    return float(total)
