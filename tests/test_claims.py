"""The catalogue at the budgets that no test runs; that it holds is tested by `plumbline` itself, see pyproject.toml."""

from __future__ import annotations

import numpy as np
import pytest

from plumbline.analysis import Budget, catalogue
from plumbline.analysis.claims import claim as claim_module
from plumbline.analysis.jobs.job import job_key

CLAIMS = catalogue()


@pytest.mark.parametrize("budget", [Budget.STANDARD, Budget.PAPER])
def test_jobs_of_large_budgets_can_be_built(budget):
    """What the quick catalogue never builds is refused here, not after hours: the first jobs of every case."""
    with_jobs = [claim for claim in CLAIMS.values() if claim.plan.__code__.co_filename != claim_module.__file__]
    asked = {(claim.name, label): next(claim.plan(case, budget, 0)) for claim in with_jobs
             for label, case in claim.cases(budget).items()}  # fmt: skip
    jobs = [job for ask in asked.values() for job in (ask.values() if isinstance(ask, dict) else np.ravel(ask))]
    assert len(jobs) > 200
    assert all(len(job_key(job)) == 64 for job in jobs)
