"""Threads are set for jobs and put back; a session holds what jobs need, and closes what it opened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from plumbline.analysis import Compute, Session, Store, StoreError, TorchJob, catalogue, check, run_jobs


@dataclass(frozen=True)
class ThreadsOfTorch(TorchJob):
    """How many threads torch has inside a job."""

    number: int = 0

    def run(self) -> dict[str, Any]:
        if self.number < 0:
            raise ZeroDivisionError("by design")
        return {"threads": torch.get_num_threads()}


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_of_the_session(three_threads, jobs, threads):
    """In this process and in workers; also where the job fails, this process has its own again afterwards."""
    with Session(jobs=jobs, compute=Compute(threads=threads)) as session:
        found, failed = run_jobs([ThreadsOfTorch(), ThreadsOfTorch(-1)], session=session)

    assert found == {"threads": threads}
    assert failed.type == "ZeroDivisionError"
    assert torch.get_num_threads() == 3


def test_check_leaves_its_host_as_it_was(three_threads):
    """Threads, default dtype, random state."""
    torch.manual_seed(0)
    before = torch.get_rng_state(), torch.get_default_dtype()
    claims = [catalogue()[name] for name in ("transformer-is-its-algorithm", "risk-at-another-length")]
    assert [result.verdict.passed for result in check(claims)] == [True, True]

    assert torch.get_num_threads() == 3
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_default_dtype() == before[1]


def test_a_session_closes_what_it_opened(tmp_path):
    """A store given by its path is closed; a store of the caller stays open."""
    with Session(tmp_path / "own.sqlite") as session:
        assert session.store.path == tmp_path / "own.sqlite"
    with pytest.raises(StoreError, match="closed"):
        len(session.store)
    with Store(None) as store:
        with Session(store) as session:
            assert session.store is store
        assert len(store) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "jobs must be at least 1, got 0"),
        ({"jobs": "2"}, "jobs must be an integer, got '2'"),
        ({"jobs": 2, "executor": ThreadPoolExecutor(1)}, "jobs must be left out beside an executor, got 2"),
    ],
)
def test_bad_numbers_are_named(options, message):
    """Before anything is started."""
    with pytest.raises(ValueError, match=message):
        Session(**options)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        Compute(threads=0)
