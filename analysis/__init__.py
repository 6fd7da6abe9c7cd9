"""Theory against trained models: claims, verdicts, figures, and the command line.

Example:
    >>> from plumbline.analysis import catalogue, check
    >>> result, = check([catalogue()["transformer-is-its-algorithm"]])
    >>> result.verdict.outcome.value
    'consistent'
"""

if __name__ != "plumbline.analysis":  # never a second copy of a class
    raise ImportError(
        "this folder is plumbline.analysis: write `from plumbline.analysis import …`; "
        "a folder of yours called analysis is found before it if it has an __init__.py"
    )

from plumbline.analysis.budget import Budget
from plumbline.analysis.catalogue import catalogue, errata, experiments, figures
from plumbline.analysis.claims.check import CaseResult, ClaimResult, check
from plumbline.analysis.claims.claim import Claim, Evidence
from plumbline.analysis.drawing.data import FigureData, Number, Panel, Series
from plumbline.analysis.drawing.figure import Figure
from plumbline.analysis.drawing.make import make_figures
from plumbline.analysis.extras import MissingExtra
from plumbline.analysis.family import Family, claim, families, register
from plumbline.analysis.jobs.cluster import dask_executor
from plumbline.analysis.jobs.compute import Compute
from plumbline.analysis.jobs.executors import process_pool
from plumbline.analysis.jobs.job import JobError, TorchJob
from plumbline.analysis.jobs.scheduler import run_jobs
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.jobs.store import Store, StoreError
from plumbline.analysis.jobs.training_job import TrainingJob
from plumbline.analysis.subject.check_model import check_model
from plumbline.analysis.subject.model_report import ModelReport
from plumbline.analysis.subject.reader import Reader
from plumbline.analysis.subject.task_file import read_task_file, task_file
from plumbline.analysis.sweeps.experiment import Experiment, Measured, Unit
from plumbline.analysis.sweeps.sweep import sweep
from plumbline.analysis.verdict import (
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

__all__ = [
    "AtMost",
    "BoundExists",
    "BoundForAll",
    "Budget",
    "CaseResult",
    "Claim",
    "ClaimResult",
    "Compute",
    "Convergence",
    "Evidence",
    "Expectation",
    "Experiment",
    "Family",
    "Figure",
    "FigureData",
    "GlobalMinimum",
    "Identity",
    "JobError",
    "Measured",
    "MissingExtra",
    "ModelReport",
    "Number",
    "Ordering",
    "Outcome",
    "Panel",
    "Rate",
    "Reader",
    "Runs",
    "Series",
    "Session",
    "Store",
    "StoreError",
    "TorchJob",
    "TrainingJob",
    "Unit",
    "Verdict",
    "catalogue",
    "check",
    "check_model",
    "claim",
    "dask_executor",
    "errata",
    "experiments",
    "families",
    "figures",
    "make_figures",
    "process_pool",
    "read_task_file",
    "register",
    "run_jobs",
    "sweep",
    "task_file",
]
