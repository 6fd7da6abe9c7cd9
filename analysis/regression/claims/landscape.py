"""Claims of 2310.01082: what makes transformers hard to train shows in shallow linear ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.regression import family
from plumbline.analysis.regression.jobs import SampledGradientNoise, TrainAlongLandscape
from plumbline.analysis.regression.published import MODES, PUBLISHED_RATIOS, Mode, Optimizer, training
from plumbline.analysis.regression.tails import GROUP, largest_over_median
from plumbline.analysis.verdict import Ordering
from plumbline.analysis.verdict.ordering import FIRST, SECOND
from plumbline.theory.regression import zero_predictor_risk

AHN = "Ahn, Cheng, Song, Yun, Jadbabaie, Sra 2024 (2310.01082)"
SEEDS = 14
"""Pairs of trainings: the published 6 seeds, all in one order, could not confirm one order and refute the other."""
LEVEL = 0.01
"""α_confirm of the catalogue, for the false-alarm rates that the notes state."""


@dataclass(frozen=True)
class NoiseCase:
    """Groups of `GROUP` batches of gradients; ``fraction`` is the share of groups that the claim is about."""

    mode: Mode
    layers: int
    batch: int
    groups: int
    fraction: float

    def job(self, seed: int, *, mode: Mode | None = None, layers: int | None = None) -> SampledGradientNoise:
        """The noise of this case, or of another mode or depth at the same size."""
        return SampledGradientNoise(
            task=(mode or self.mode).task,
            layers=layers or self.layers,
            batch=self.batch,
            batches=self.groups * GROUP,
            reference=max(100 * self.batch, 10_000),
            seed=seed,
        )


@family.claim(
    statement="At random initial weights the noise of a batch's gradient is heavier-tailed than normal noise of the "
    "same mean and covariance.",
    source=AHN + ", stochastic gradient noise; the test is derived here",
    rule=Ordering,
    status="as published",
    rivals={
        "normal noise": "the noise is a normal vector: its groups against those of a second normal sample",
        "lighter tails": "the norm of the noise is lighter-tailed than that of a normal vector",
    },
    cases=by_budget(
        # Batches of 50 keep the quick budget; the published 1,000 average more of the tail away.
        {"normal, n=20, L=3, B=50": NoiseCase(MODES["normal, n=20"], 3, 50, 100, 0.9)},
        {
            "normal, n=5, L=3, B=50": NoiseCase(MODES["normal, n=5"], 3, 50, 100, 0.9),
            "gamma, n=20, L=3, B=50": NoiseCase(MODES["gamma, n=20"], 3, 50, 100, 0.9),
        },
        # Some 73 % of the groups of 1,000 prompts: 200 of them left 3/4 open, 700 tell 0.65 from that and from 1/2.
        {"normal, n=20, L=3, B=1000": NoiseCase(MODES["normal, n=20"], 3, 1000, 700, 0.65)},
    ),
)
def heavy_tailed_noise(case: NoiseCase, budget: Budget, seed: int) -> Any:
    noise = yield case.job(seed)
    observed = largest_over_median(noise["norms"])
    twin, second = (largest_over_median(norms) for norms in noise["normal"])
    rule = Ordering(case.fraction)
    alarm = rule.false_alarm(len(observed), alpha_confirm=LEVEL)
    pairs = np.column_stack([observed, twin])
    return Evidence(
        rule=rule,
        measured=pairs,
        predicted=FIRST,
        rivals=[FIRST, SECOND],
        rivals_measured=[np.column_stack([second, twin]), pairs],
        note=f"largest of {GROUP} norms over their median: {np.median(observed):.3g} (median over groups), normal "
        f"{np.median(twin):.3g}; normal noise would be called heavier-tailed with probability {alarm:.1e}",
    )


@family.claim(
    statement="The gradient noise is heavier-tailed for gamma than for normal covariates.",
    source=AHN + ", stochastic gradient noise",
    rule=Ordering,
    status="as published",
    rivals={"normal heavier": "normal covariates give the heavier tails"},
    cases=by_budget(
        {"n=20, L=3, B=10": NoiseCase(MODES["gamma, n=20"], 3, 10, 60, 0.75)},
        {},
        {"n=20, L=3, B=1000": NoiseCase(MODES["gamma, n=20"], 3, 1000, 200, 0.75)},
    ),
)
def covariates_make_noise_heavier(case: NoiseCase, budget: Budget, seed: int) -> Any:
    gamma, normal = yield [case.job(seed), case.job(seed, mode=MODES["normal, n=20"])]
    pairs = np.column_stack([largest_over_median(noise["norms"]) for noise in (gamma, normal)])
    rule = Ordering(case.fraction)
    medians = np.median(pairs, axis=0)
    return Evidence(
        rule=rule,
        measured=pairs,
        predicted=FIRST,
        rivals=[SECOND],
        note=f"largest of {GROUP} norms over their median: gamma {medians[0]:.3g}, normal {medians[1]:.3g}; "
        f"false alarm {rule.false_alarm(len(pairs), alpha_confirm=LEVEL):.1e}",
    )


@family.claim(
    statement="At random initial weights, normal covariates, the gradient noise of eight layers is heavier-tailed than "
    "that of two; at zero weights depth only scales it, by √L.",
    source=AHN + ", effect of depth; at zero weights derived here",
    rule=Ordering,
    status="corrected",
    published="Deeper networks have the heavier-tailed gradient noise, whatever the weights.",
    rivals={
        "shallow heavier": "two layers have the heavier tails",
        "at zero weights too": "the order is already there at zero weights, where every layer has the same gradient",
    },
    cases=by_budget(
        {"n=5, B=4": NoiseCase(MODES["normal, n=5"], 8, 4, 50, 0.55)},
        {},
        {"n=5, B=50": NoiseCase(MODES["normal, n=5"], 8, 50, 50, 0.55)},
    ),
)
def depth_makes_noise_heavier(case: NoiseCase, budget: Budget, seed: int) -> Any:
    # The order depends a little on the weights: groups of four initial weights each.
    depths = (case.layers, 2)
    jobs = [case.job(seed + start, layers=layers) for layers in depths for start in range(4)]
    at_zero = [
        SampledGradientNoise(
            task=case.mode.task,
            layers=layers,
            batch=case.batch,
            batches=1000,
            reference=1000,
            init_scale=0.0,
            seed=seed,
        )
        for layers in depths
    ]
    *noise, deep_zero, shallow_zero = yield [*jobs, *at_zero]
    statistics = [largest_over_median(result["norms"]) for result in noise]
    pairs = np.column_stack([np.concatenate(statistics[:4]), np.concatenate(statistics[4:])])
    # Rounded, since at zero weights the two agree to rounding: ties, which are in no order.
    zero = np.column_stack([largest_over_median(result["norms"]) for result in (deep_zero, shallow_zero)]).round(9)
    medians = np.median(pairs, axis=0)
    rule = Ordering(case.fraction)
    scale = float(np.median(deep_zero["norms"] / shallow_zero["norms"]))
    return Evidence(
        rule=rule,
        measured=pairs,
        predicted=FIRST,
        rivals=[SECOND, FIRST],
        rivals_measured=[pairs, zero],
        note=f"largest of {GROUP} norms over their median: L=8 {medians[0]:.3g}, L=2 {medians[1]:.3g}; at zero weights "
        f"the noise of 8 layers is {scale:.6g} times that of 2 (√(8/2) = 2)",
    )


@dataclass(frozen=True)
class RaceCase:
    """Trainings at several learning rates to a target loss, a fraction of the zero predictor's risk.

    SGDM may choose its best rate seed by seed; Adam, without ``adam_rates``, keeps the published one.
    """

    mode: Mode
    sgdm_rates: tuple[float, ...]
    adam_rates: tuple[float, ...]
    target: float
    steps: int
    batch: int

    def job(self, optimizer: Optimizer, rate: float, seed: int) -> TrainAlongLandscape:
        """One rate, all seeds."""
        return TrainAlongLandscape(
            task=self.mode.task,
            training=training(optimizer, rate, clip=self.mode.clip, steps=self.steps, record_every=5),
            batch=self.batch,
            runs=SEEDS,
            held_out=200,
            designs=1,
            seed=seed,
        )


def first_below(result: Any, target: float) -> np.ndarray:
    """The recorded iteration at which each run's held-out loss is first at most the target; infinite if never."""
    hit = result["held_out_losses"] <= target
    return np.where(hit.any(axis=0), result["curve_steps"][hit.argmax(axis=0)], np.inf)


@family.claim(
    statement="Adam reaches a small target loss in fewer iterations than SGD with momentum, whose learning rate is the "
    "best of a grid for each seed. (With 1,000 prompts SGD with momentum is first at "
    "ten times the target.)",
    source=AHN
    + ", Adam against SGD; the target (2 % of the zero predictor's risk with 50 prompts, 0.2 % with 1,000) is set here",
    rule=Ordering,
    status="corrected",
    published="The loss of Adam is below that of SGD with momentum, whatever the target.",
    rivals={
        "SGDM first": "SGD with momentum is there first",
    },
    cases=by_budget(
        # Published: 1,000 prompts each; with 50 both end at a higher loss, so that the quick target is higher.
        {"sphere, n=20, B=50": RaceCase(MODES["sphere, n=20"], (0.5, 1.0, 2.0), (0.1,), 0.02, 150, 50)},
        {},
        {
            "sphere, n=20, B=1000": RaceCase(MODES["sphere, n=20"], (1.25, 2.5, 5.0, 10.0), (0.1,), 0.002, 1000, 1000),
            "normal, n=20, B=1000": RaceCase(
                MODES["normal, n=20"], (0.04, 0.08, 0.16, 0.32), (0.01, 0.02, 0.04), 0.002, 1000, 1000
            ),
        },
    ),
)
def adam_reaches_the_target_first(case: RaceCase, budget: Budget, seed: int) -> Any:
    rates = {"SGDM": case.sgdm_rates, "Adam": case.adam_rates}
    asked = [(optimizer, rate) for optimizer in rates for rate in rates[optimizer]]
    results = yield [case.job(optimizer, rate, seed) for optimizer, rate in asked]  # type: ignore[arg-type]
    target = case.target * zero_predictor_risk(case.mode.task)

    def iterations(target: float, optimizer: str) -> np.ndarray:
        """Of each seed at its best rate."""
        there = [
            first_below(result, target) for (name, _), result in zip(asked, results, strict=True) if name == optimizer
        ]
        return np.min(there, axis=0)

    pairs = np.column_stack([iterations(target, "SGDM"), iterations(target, "Adam")])
    higher = [np.median(iterations(10 * target, optimizer)) for optimizer in ("Adam", "SGDM")]
    rule = Ordering(0.7)
    return Evidence(
        rule=rule,
        measured=pairs,
        predicted=FIRST,
        rivals=[SECOND],
        note=f"median iterations to a loss of {target:.3g}: Adam {np.median(pairs[:, 1]):g}, SGDM "
        f"{np.median(pairs[:, 0]):g} of {case.steps}; to ten times that loss {higher[0]:g} and {higher[1]:g}; "
        f"false alarm {rule.false_alarm(SEEDS, alpha_confirm=LEVEL):.1e}",
    )


@dataclass(frozen=True)
class ConditionCase:
    """The published setting of normal covariates, n = 20, both optimizers at their published rates.

    ``fraction`` is the share of seeds that the claim is about.
    """

    mode: Mode
    step: int
    steps: int
    batch: int
    designs: int
    watched: tuple[int, ...]
    seeds: int = SEEDS
    fraction: float = 0.7

    def job(self, optimizer: Optimizer, seed: int) -> TrainAlongLandscape:
        """All seeds of one optimizer."""
        return TrainAlongLandscape(
            task=self.mode.task,
            training=training(
                optimizer, self.mode.rate(optimizer), clip=self.mode.clip, steps=self.steps, record_every=10
            ),
            batch=self.batch,
            runs=self.seeds,
            held_out=max(200, self.designs),
            designs=self.designs,
            condition_at=self.watched,
            seed=seed,
        )


def ratios(sgdm: Any, adam: Any, step: int, *, published: bool = False) -> np.ndarray:
    """Robust condition number of SGDM over Adam's at an iteration, seed by seed."""
    row = list(sgdm["curve_steps"]).index(step)
    name = "published_condition" if published else "condition"
    return sgdm[name][row] / adam[name][row]


@family.claim(
    statement="With normal covariates (n = 20) the Hessian's robust condition number along Adam's path falls below "
    "that along the path of SGD with momentum, at the published learning rates.",
    source=AHN + ", robust condition number; parameters without curvature are left out of the median here",
    rule=Ordering,
    status="corrected",
    published="The median includes the parameters without curvature: some 270 at the start.",
    rivals={"SGDM below": "the path of SGD with momentum has the lower condition number"},
    cases=by_budget(
        {"iteration 290, B=100": ConditionCase(MODES["normal, n=20"], 290, 300, 100, 50, (290,))},
        {"iteration 750, B=200": ConditionCase(MODES["normal, n=20"], 750, 760, 200, 100, (750,))},
        # At iteration 1250 the order holds in some 86 % of seeds: 14 seeds left 0.7 open, 40 tell 0.55 from that.
        {
            f"iteration {step}, B=1000": ConditionCase(
                MODES["normal, n=20"], step, 1260, 1000, 500, (750, 1250), seeds=40, fraction=fraction
            )
            for step, fraction in ((750, 0.7), (1250, 0.55))
        },
    ),
)
def adam_path_is_better_conditioned(case: ConditionCase, budget: Budget, seed: int) -> Any:
    from scipy.special import stdtrit

    results = yield {optimizer: case.job(optimizer, seed) for optimizer in ("SGDM", "Adam")}
    ratio = ratios(results["SGDM"], results["Adam"], case.step)
    as_published = ratios(results["SGDM"], results["Adam"], case.step, published=True)
    half = stdtrit(case.seeds - 1, 0.975) * ratio.std(ddof=1) / np.sqrt(case.seeds)
    known = {step: f"; published {mean} ± {deviation}" for step, mean, deviation in PUBLISHED_RATIOS}
    return Evidence(
        rule=Ordering(case.fraction),
        measured=np.column_stack([ratio, np.ones(case.seeds)]),
        predicted=FIRST,
        rivals=[SECOND],
        note=f"SGDM over Adam {ratio.mean():.3g} ± {half:.2g} (95 %, {case.seeds} seeds; sd {ratio.std(ddof=1):.2g}), "
        f"counted as published {as_published.mean():.3g}{known.get(case.step, '')}",
    )
