"""Theory against trained models: claims, verdicts, figures, and the command line.

Example:
    >>> from analysis import Store, catalogue, check
    >>> result, = check([catalogue()["transformer-is-its-algorithm"]], store=Store(None))
    >>> result.verdict.outcome.value
    'consistent'
"""

from importlib.util import find_spec
from pathlib import Path


def _own_packages_or_error() -> None:
    """`theory` and `models` are common names: refuse to work with somebody else's."""
    home = Path(__file__).resolve().parent.parent
    for name in ("theory", "models"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if found != home / name / "__init__.py":
            raise ImportError(
                f"plumbline needs its own package {name!r}, but Python finds {found or 'none'}; rename that file or "
                "folder, or start Python from another directory"
            )


_own_packages_or_error()

from analysis.catalogue import catalogue, experiments, figures  # noqa: E402  (after the check above)
from analysis.engine.check import CaseResult, ClaimResult, check  # noqa: E402
from analysis.engine.claim import Budget, Claim, Evidence, claim  # noqa: E402
from analysis.engine.cluster import dask_executor  # noqa: E402
from analysis.engine.executors import process_pool  # noqa: E402
from analysis.engine.experiment import Experiment, Measured, Unit, experiment  # noqa: E402
from analysis.engine.extras import MissingExtra  # noqa: E402
from analysis.engine.job import JobError  # noqa: E402
from analysis.engine.model_report import ModelReport  # noqa: E402
from analysis.engine.store import Store, StoreError  # noqa: E402
from analysis.engine.sweep import run_jobs  # noqa: E402
from analysis.engine.verdict import (  # noqa: E402
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
from analysis.model_check import check_model, read_task_file, task_file  # noqa: E402
from analysis.sweeps import sweep  # noqa: E402

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
