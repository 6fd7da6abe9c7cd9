"""How often verdicts refute what is true: simulated full catalogues, every claim true but barely.

    python benchmarks/verdicts.py                     # 1,000 catalogues of the quick cases, some minutes
    python benchmarks/verdicts.py --catalogues 100

The cases are those of `plumbline check`, whose store is read (what is not in it is computed first). Each statistical
case is simulated as often as asked: its rule, its number of batches, runs, sizes or pairs and its scatter are the real
ones, its truth lies where the rule errs most often: the mean or slope on the margin, on either side, of batch means as
skewed as those of exponential draws; the success probability at the fraction claimed. A case that involves no chance
(an identity, a bound, a witness) is judged once, on its own measurement. A refutation is repeated on fresh draws, as
`check` does, and counts if it stands.

Prints how many catalogues hold a false refutation at the level of `check`, the same for all cases, then the same for a
reader who takes every verdict at the level 0.001 and repeats nothing. Exits with 1 if more than one catalogue in a
thousand is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from plumbline.analysis import (
    Budget,
    Convergence,
    Evidence,
    Expectation,
    GlobalMinimum,
    Ordering,
    Outcome,
    Rate,
    Runs,
    Store,
)
from plumbline.analysis.catalogue import catalogue
from plumbline.analysis.jobs.scheduler import drive
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.verdict.levels import FALSE_CONFIRMATION, FALSE_REFUTATION
from plumbline.analysis.verdict.ordering import FIRST

Draw = Callable[[np.random.Generator], Any]
CARELESS = 1e-3
"""The level of a reader who does not think of how many cases there are."""


def evidence(store: str) -> dict[str, Evidence]:
    """What every case of the quick catalogue measures, by claim and case."""
    plans = {
        f"{claim.name} / {label}": claim.plan(case, Budget.QUICK, 0)
        for claim in catalogue().values()
        for label, case in claim.cases(Budget.QUICK).items()
        if claim.failing_condition(case) is None
    }
    with Store(store) as kept:
        finished = drive(plans, session=Session(kept))
    for name, end in finished.items():
        if end.error is not None:
            raise RuntimeError(f"{name} could not be computed: {end.error.message}")
    return {name: end.value for name, end in finished.items()}


def barely_true(found: Evidence) -> Draw | None:
    """Draws measurements of a case whose claim is only just true; ``None`` if no chance is involved."""
    rule: Any = found.rule
    if isinstance(rule, Expectation):
        means = np.asarray(found.measured, dtype=float)
        return lambda rng: (
            float(found.predicted)
            + rng.choice([-1, 1]) * rule.margin * rule.scale
            + means.std(ddof=1) * exponential_means(rng, means.size, rule.draws_per_batch)
        )
    if isinstance(rule, Rate):
        sizes, values = (np.asarray(part, dtype=float) for part in found.measured)
        line = np.polyfit(np.log(sizes), np.log(values), 1)
        scatter = (np.log(values) - np.polyval(line, np.log(sizes))).std(ddof=2)

        def powers(rng: np.random.Generator) -> Any:
            slope = float(found.predicted) + rng.choice([-1, 1]) * rule.margin
            return sizes, np.exp(slope * np.log(sizes) + scatter * rng.standard_normal(sizes.size))

        return powers
    if isinstance(rule, Convergence):
        count, target = len(found.measured), np.asarray(found.predicted, dtype=float)
        rows = np.broadcast_to(target, (count, *target.shape))
        return lambda rng: Runs(rows, np.where(rng.random(count) < rule.fraction, 0.0, np.inf))
    if isinstance(rule, Ordering):
        pairs = np.array([[1.0, 0.0]] * len(found.measured))
        right = pairs if found.predicted == FIRST else pairs[:, ::-1]
        return lambda rng: np.where(rng.random((len(right), 1)) < rule.fraction, right, right[:, ::-1])
    if isinstance(rule, GlobalMinimum) and rule.attained is not None:
        count, least = len(found.measured), float(found.predicted)
        elsewhere = least + 2 * rule.margin * (rule.trivial - least)
        return lambda rng: Runs(np.where(rng.random(count) < rule.attained, least, elsewhere), np.zeros(count))
    return None


def exponential_means(rng: np.random.Generator, count: int, draws: int) -> np.ndarray:
    """Means of so many exponential draws, centred, in their standard deviation (exactly: a gamma variable)."""
    return (rng.standard_gamma(draws, count) / draws - 1.0) * np.sqrt(draws)


def main() -> int:
    """Simulate; return 1 if more than one catalogue in a thousand holds a false refutation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalogues", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", default=".plumbline/store.sqlite")
    options = parser.parse_args()
    cases = evidence(options.store)
    draws = {name: draw for name, found in cases.items() if (draw := barely_true(found)) is not None}

    def refuted(name: str, measured: Any, level: float) -> bool:
        found = cases[name]
        verdict = found.rule.judge(measured, found.predicted, alpha_refute=level, alpha_confirm=FALSE_CONFIRMATION)
        return verdict.outcome is Outcome.REFUTED

    certain = [name for name in cases if name not in draws and refuted(name, cases[name].measured, FALSE_REFUTATION)]
    print(
        f"{len(cases)} cases at the level {FALSE_REFUTATION:g}; {len(cases) - len(draws)} without chance, of which "
        f"{len(certain)} are refuted"
    )
    wrong, once, careless = 0, 0, 0
    for number in range(options.catalogues):
        rng = np.random.default_rng([options.seed, number])
        first = {name: draw(rng) for name, draw in draws.items()}
        doubtful = [name for name, measured in first.items() if refuted(name, measured, FALSE_REFUTATION)]
        standing = [name for name in doubtful if refuted(name, draws[name](rng), FALSE_REFUTATION)]
        once += bool(doubtful)
        wrong += bool(standing or certain)
        careless += any(refuted(name, measured, CARELESS) for name, measured in first.items())
    total = options.catalogues
    print(f"{len(draws)} cases simulated with the truth where each rule errs most often:")
    print(f"  catalogues with a false refutation: {wrong} of {total} ({once} before it was repeated on fresh draws)")
    print(f"  the same with the level {CARELESS:g} for every case and nothing repeated: {careless} of {total}")
    return int(wrong > max(1, total // 1000))


if __name__ == "__main__":
    sys.exit(main())
