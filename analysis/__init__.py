"""Theory against trained models: claims, verdicts, figures, and the command line.

Example:
    >>> from plumbline.analysis import Store, catalogue, check
    >>> result, = check([catalogue()["transformer-is-its-algorithm"]], store=Store(None))
    >>> result.verdict.outcome.value
    'consistent'
"""

if __name__ != "plumbline.analysis":  # never a second copy of a class
    raise ImportError("this folder is plumbline.analysis: write `from plumbline.analysis import …`")

from plumbline.analysis.catalogue import catalogue, experiments, figures
from plumbline.analysis.engine.check import CaseResult, ClaimResult, check
from plumbline.analysis.engine.claim import Budget, Claim, Evidence, claim
from plumbline.analysis.engine.cluster import dask_executor
from plumbline.analysis.engine.executors import process_pool
from plumbline.analysis.engine.experiment import Experiment, Measured, Unit, experiment
from plumbline.analysis.engine.extras import MissingExtra
from plumbline.analysis.engine.job import JobError
from plumbline.analysis.engine.model_report import ModelReport
from plumbline.analysis.engine.store import Store, StoreError
from plumbline.analysis.engine.sweep import run_jobs
from plumbline.analysis.engine.verdict import (
    AtMost,
    BoundExists,
    BoundForAll,
    Convergence,
    Expectation,
    GlobalMinimum,
    Identity,
    Ordering,
    Outcome,
    Rate,
    Runs,
    Verdict,
)
from plumbline.analysis.model_check import check_model, read_task_file, task_file
from plumbline.analysis.sweeps import sweep

__all__ = [
    "AtMost",
    "BoundExists",
    "BoundForAll",
    "Budget",
    "CaseResult",
    "Claim",
    "ClaimResult",
    "Convergence",
    "Evidence",
    "Expectation",
    "Experiment",
    "GlobalMinimum",
    "Identity",
    "JobError",
    "Measured",
    "MissingExtra",
    "ModelReport",
    "Ordering",
    "Outcome",
    "Rate",
    "Runs",
    "Store",
    "StoreError",
    "Unit",
    "Verdict",
    "catalogue",
    "check",
    "check_model",
    "claim",
    "dask_executor",
    "experiment",
    "experiments",
    "figures",
    "process_pool",
    "read_task_file",
    "run_jobs",
    "sweep",
    "task_file",
]
