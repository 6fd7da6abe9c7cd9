"""The table of a sweep, one row for each run, as CSV or Parquet."""

from __future__ import annotations

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget
from plumbline.analysis.extras import required
from plumbline.analysis.files import replacing
from plumbline.analysis.jobs.job import JobError
from plumbline.analysis.sweeps.experiment import Cell, Experiment, Measured, of_runs

FORMATS = (".csv", ".parquet")
ROW_GROUP = 2**16


@dataclass(frozen=True, eq=False)
class Table:
    """What became of every run of a sweep.

    Columns: the keys of the experiment (empty where the budget decides), ``budget``, ``seed`` and ``run`` (which
    random start it was), ``outcome``, ``steps_taken``, ``quantity`` and ``measured`` with its ``error`` (0: exact to
    rounding), ``theory`` and what it ``predicted``, ``gap`` = measured − predicted, and ``message`` of a failed job.
    """

    experiment: Experiment
    budget: Budget
    results: list[tuple[Cell, Measured | JobError]] = field(repr=False)

    @property
    def columns(self) -> dict[str, type]:
        """The kind of each column: ``int``, ``float``, ``bool`` or ``str``."""
        return {
            **{name: key.kind for name, key in self.experiment.keys.items()},
            "budget": str,
            "seed": int,
            "run": int,
            "outcome": str,
            "steps_taken": int,
            "quantity": str,
            "measured": float,
            "error": float,
            "theory": str,
            "predicted": float,
            "gap": float,
            "message": str,
        }

    def __len__(self) -> int:
        return sum(cell.runs for cell, _ in self.results)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a dict for each run, in the order of the grid; None where there is nothing."""
        for cell, found in self.results:
            common = {"budget": str(self.budget), "seed": cell.seed, "quantity": cell.unit.quantity}
            rows = list(_numbers(found, cell.runs))
            for place, point in enumerate(cell.points):
                for run, numbers in enumerate(rows[place :: len(cell.points)]):
                    yield {**point, **common, "run": run, "theory": cell.unit.theory or None, **numbers}

    def over(self, x: str, y: str, column: str, statistic: Callable[..., float]) -> np.ndarray:
        """A statistic of a column over two keys, (values of y, values of x), both in ascending order.

        Raises:
            ValueError: if a point has a run without a value in that column.
        """
        groups: dict[tuple[Any, Any], list[float]] = defaultdict(list)
        for row in self.rows():
            if row[column] is None:
                raise ValueError(f"every run must have a value of {column}, got {row}")
            groups[row[y], row[x]].append(row[column])
        rows, columns = (sorted({place[axis] for place in groups}) for axis in (0, 1))
        return np.array([[statistic(groups[row, at]) for at in columns] for row in rows])

    def outcomes(self) -> Counter[str]:
        """How many runs ended how."""
        return Counter(row["outcome"] for row in self.rows())

    def errors(self) -> list[tuple[Cell, JobError]]:
        """The ensembles that could not be computed."""
        return [(cell, found) for cell, found in self.results if isinstance(found, JobError)]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write all rows to a file, whole or not at all.

        CSV has floats that read back exactly, ``true`` and ``false``, and nothing where there is nothing. Parquet has
        typed columns with nulls.

        Raises:
            ValueError: if the name ends neither with .csv nor with .parquet.
            MissingExtra: if it is Parquet and pyarrow is not installed.
        """
        target = exportable(path)
        with replacing(target) as partial:
            (self._write_csv if target.suffix == ".csv" else self._write_parquet)(partial)

    def _write_csv(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.columns))
            writer.writeheader()
            for row in self.rows():
                writer.writerow(
                    {name: str(cell).lower() if isinstance(cell, bool) else cell for name, cell in row.items()}
                )

    def _write_parquet(self, path: Path) -> None:
        pyarrow, parquet = required("pyarrow", "parquet"), required("pyarrow.parquet", "parquet")
        kinds = {int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_(), str: pyarrow.string()}
        schema = pyarrow.schema([(name, kinds[kind]) for name, kind in self.columns.items()])
        with parquet.ParquetWriter(path, schema) as writer:
            rows = self.rows()
            while group := list(islice(rows, ROW_GROUP)):
                writer.write_batch(pyarrow.RecordBatch.from_pylist(group, schema=schema))


def exportable(path: str | os.PathLike[str]) -> Path:
    """Return the path if a table can be written there; otherwise raise, before anything is computed.

    Raises:
        ValueError: if the name ends neither with .csv nor with .parquet, or its folder does not exist.
        MissingExtra: if it is Parquet and pyarrow is not installed.
    """
    target = Path(path)
    if target.suffix not in FORMATS:
        raise ValueError(f"out must end with {' or '.join(FORMATS)}, got {str(path)!r}")
    if not target.parent.is_dir():
        raise ValueError(f"out must be in a folder that exists, got {str(path)!r}")
    if target.suffix == ".parquet":
        required("pyarrow", "parquet")
    return target


def _numbers(found: Measured | JobError, runs: int) -> Iterator[dict[str, Any]]:
    """The columns that differ from run to run."""
    if not isinstance(found, Measured):
        blank = dict.fromkeys(("steps_taken", "measured", "error", "predicted", "gap"))
        yield from ({"outcome": "error", **blank, "message": f"{found.type}: {found.message}"} for _ in range(runs))
        return
    columns = (of_runs(column, runs) for column in (found.steps, found.measured, found.error, found.predicted))
    for outcome, steps, measured, error, predicted in zip(found.outcomes, *map(list, columns), strict=True):
        yield {
            "outcome": outcome,
            "steps_taken": int(steps),
            "measured": _finite(measured),
            "error": _finite(error),
            "predicted": _finite(predicted),
            "gap": _finite(measured - predicted),
            "message": None,
        }


def _finite(number: float) -> float | None:
    return float(number) if number == number else None
