"""Every claim of the catalogue against trained models, and every rival against the same measurement."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from plumbline.analysis import Budget, ClaimResult, Outcome, Store, catalogue, check
from plumbline.analysis.engine import claim as claim_module
from plumbline.analysis.engine.job import job_key

CLAIMS = catalogue()
RIVALS = [(name, rival) for name, claim in CLAIMS.items() for rival in claim.rivals]


@pytest.fixture(scope="session")
def judged(request):
    """The result of a claim, computed once; claims share their trained models through one store."""
    budget = Budget(request.config.getoption("--theory-budget"))
    with Store(None) as store:

        @cache
        def result(name: str) -> ClaimResult:
            return check([CLAIMS[name]], budget=budget, store=store)[0]

        yield result


@pytest.mark.parametrize("budget", [Budget.STANDARD, Budget.PAPER])
def test_jobs_of_large_budgets_can_be_built(budget):
    """What the quick catalogue never builds is refused here, not after hours: the first jobs of every case."""
    with_jobs = [claim for claim in CLAIMS.values() if claim.plan.__code__.co_filename != claim_module.__file__]
    asked = {(claim.name, label): next(claim.plan(case, budget, 0)) for claim in with_jobs
             for label, case in claim.cases(budget).items()}  # fmt: skip
    jobs = [job for ask in asked.values() for job in (ask.values() if isinstance(ask, dict) else np.ravel(ask))]
    assert len(jobs) > 200
    assert all(len(job_key(job)) == 64 for job in jobs)


@pytest.mark.theory
@pytest.mark.parametrize("name", CLAIMS)
def test_claim_is_consistent_with_trained_models(judged, name):
    """The verdict is CONSISTENT; outside its conditions a claim says NOT APPLICABLE and which condition fails."""
    result = judged(name)
    if CLAIMS[name].conditions and result.verdict.outcome is Outcome.NOT_APPLICABLE:
        assert "condition fails" in result.verdict.reason
        return
    assert result.verdict.outcome is Outcome.CONSISTENT, f"{result.verdict.reason}\n{result.error or ''}"


@pytest.mark.theory
@pytest.mark.parametrize(("name", "rival"), RIVALS)
def test_rival_is_refuted_by_the_same_measurement(judged, name, rival):
    """A measurement that cannot refute the wrong twin proves nothing about the theorem."""
    result = judged(name)
    if result.verdict.outcome is Outcome.NOT_APPLICABLE:
        assert not result.rivals
        return
    assert result.rivals[rival].outcome is Outcome.REFUTED, result.rivals[rival].reason
