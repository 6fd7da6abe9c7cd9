"""Sweeps over grids: cells, rows, failures, resuming, and the table as CSV and Parquet."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from pyarrow import parquet

from plumbline.analysis.budget import Budget
from plumbline.analysis.extras import MissingExtra, required
from plumbline.analysis.family import Family
from plumbline.analysis.jobs.job import JobError
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.jobs.store import Store
from plumbline.analysis.sweeps.sweep import SEEDS_APART, plan_sweep
from plumbline.analysis.sweeps.table import exportable
from tests.analysis.jobs.jobs_for_tests import noted
from tests.analysis.jobs.sweep_for_tests import THROW, alike, throw


def run(log, grid, store=None, **options):
    """The rows of a sweep of throws."""
    plan = plan_sweep(THROW, {"log": str(log), **grid}, **options)
    if store is not None:
        return list(plan.run(Session(store)).rows())
    with Store(None) as own:
        return list(plan.run(Session(own)).rows())


def test_it_is_counted_before_it_starts(tmp_path):
    """Points, runs and ensembles; levels alike share ensembles, of at most so many runs."""
    plan = plan_sweep(THROW, {"size": [1, 2, 3], "level": [0.0, 0.5, 1.0, 1.5]}, seeds=5, runs_together=6)

    # Level 0 alone: 5 runs fit. The three others: two seeds a time, which makes three ensembles.
    assert str(plan) == "throw: 12 grid points, 60 runs in 12 ensembles"
    assert sum(cell.runs for cell in plan.cells) == 60
    assert {(len(cell.points), cell.runs) for cell in plan.cells} == {(1, 5), (3, 6), (3, 3)}
    assert {cell.seed for cell in plan.cells} == {0, SEEDS_APART, 2 * SEEDS_APART}


def test_rows_are_points_times_seeds(tmp_path):
    """Each run once, at its own point, with what it measured, what was predicted, and the gap."""
    rows = run(tmp_path / "log", {"size": [1, 2], "level": [0.0, 0.5, 1.0]}, seeds=5, runs_together=4)

    assert len(rows) == 2 * 3 * 5
    keys = Counter((row["size"], row["level"], row["seed"], row["run"]) for row in rows)
    assert set(keys.values()) == {1}
    assert set(Counter((row["size"], row["level"]) for row in rows).values()) == {5}
    for row in rows:
        assert row["predicted"] == row["size"] + row["level"]
        assert row["gap"] == row["measured"] - row["predicted"]
        joined = [0.0] if row["level"] == 0 else [0.5, 1.0]
        starts = 4 // len(joined)
        left = min(starts, 5 - row["seed"] // SEEDS_APART * starts)
        draws = np.random.default_rng((row["size"], row["seed"])).normal(size=left * len(joined))
        # In the ensemble the levels stand side by side for each start.
        assert (
            row["measured"] == draws[row["run"] * len(joined) + joined.index(row["level"])] + row["size"] + row["level"]
        )


def test_points_of_two_keys_share_an_ensemble(tmp_path):
    """All pairs of their values that are alike, each value with its own run; the rest of the grid stays apart."""
    grid = {"size": [1, 2], "level": [0.0, 0.5, 1.0], "tilt": [None, 10, 20]}
    plan = plan_sweep(THROW, {"log": str(tmp_path / "log"), **grid}, seeds=2, runs_together=12)

    assert str(plan) == "throw: 18 grid points, 36 runs in 4 ensembles"
    assert sorted(cell.runs for cell in plan.cells) == [6, 6, 12, 12]
    found = run(tmp_path / "log", grid, seeds=2, runs_together=12)
    keys = Counter((row["size"], row["level"], row["tilt"], row["run"]) for row in found)
    assert len(keys) == 36
    assert set(keys.values()) == {1}
    assert all(row["predicted"] == row["size"] + row["level"] + (row["tilt"] or 0) for row in found)
    assert all(abs(row["gap"]) < 5 for row in found)  # of a standard normal; a neighbour's tilt is 10 off


def test_more_seeds_train_only_what_is_new(tmp_path):
    """Whole ensembles of the smaller sweep are found in the store."""
    log = tmp_path / "log"
    with Store(tmp_path / "s") as store:
        few = run(log, {"size": [1, 2]}, store, seeds=8, runs_together=4)
        assert len(noted(log)) == 4
        many = run(log, {"size": [1, 2]}, store, seeds=12, runs_together=4)

    assert len(noted(log)) == 6
    assert all(row in many for row in few)


def test_a_failure_is_a_record_and_nothing_is_lost(tmp_path):
    """An exception and a NaN in one ensemble each: the others are whole, the bad are rows that say so."""
    for fault, bad in (("raise", 4), ("nan", 1)):
        log = tmp_path / fault
        rows = run(log, {"size": [1, 2, 3], "bad": 2, "fault": fault}, seeds=4)

        assert len(rows) == 12
        assert Counter(noted(log)) == {f"{size}:0": 1 for size in (1, 2, 3)}
        wrong = [row for row in rows if row["outcome"] != "budget"]
        assert len(wrong) == bad
        assert {row["size"] for row in wrong} == {2}
        assert all(row["measured"] is None and row["gap"] is None for row in wrong)
        assert {row["message"] for row in wrong} == ({"ArithmeticError: told to"} if fault == "raise" else {None})
        assert all(row["measured"] is not None for row in rows if row not in wrong)


def test_what_cannot_be_read_is_a_record(tmp_path):
    """A result that its experiment does not understand takes the others with it no more than a failed job."""
    plan = plan_sweep(THROW, {"size": [1, 2], "log": str(tmp_path / "log")})
    first = plan.cells[0]
    plan.cells[0] = replace(first, unit=replace(first.unit, read=lambda result: result["nothing"]))
    with Store(None) as store:
        table = plan.run(Session(store))

    assert [error for _, error in table.errors()] == [JobError("KeyError", "'nothing'")]
    assert [row["outcome"] for row in table.rows()] == ["error", "budget"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": SEEDS_APART}, "seed must be at most"),
        ({"runs_together": 0}, "runs_together must be at least 1, got 0"),
        (
            {"grid": {"size": range(1000)}, "seeds": 1001},
            r"at most max_runs = 1,000,000 runs, got 1,001,000 \(1,000 po",
        ),
        ({"grid": {"size": range(10)}, "max_runs": 9}, "at most max_runs = 9 runs, got 10"),
        ({"grid": {"size": -1}}, r"size must be at least 0, got -1 \(at size=-1, "),
    ],
)
def test_what_is_refused_before_anything_runs(options, message):
    """The parameter, its value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        plan_sweep(THROW, **{"grid": {}, **options})


def test_a_decorated_function_is_an_experiment():
    """Name, summary, keys and those whose values train together are read from it."""
    family = Family("tests")
    made = family.experiment(alike=alike)(throw)

    assert family.experiments == {"throw": made}
    with pytest.raises(ValueError, match="name must be new, got 'throw'"):
        family.experiment()(throw)
    assert (made.name, made.joined, made.keys) == ("throw", ("level", "tilt"), THROW.keys)
    assert made.summary == "Numbers around size plus level; the fault is that of the size called bad."


@pytest.fixture
def table(tmp_path):
    """Rows of every kind: joined, failed, NaN, without theory."""
    log = str(tmp_path / "log")
    grid = {"size": [1, 2], "bad": 2, "fault": ["none", "raise", "nan"], "fair": [True, False], "log": log}
    with Store(None) as store:
        return plan_sweep(THROW, grid, seeds=2, budget=Budget.PAPER).run(Session(store))


def test_csv_reads_back_exactly(table, tmp_path):
    """Typed by its columns: floats to the last bit, nothing for nothing."""
    table.write(tmp_path / "t.csv")
    read = {int: int, float: float, str: str, bool: {"true": True, "false": False}.__getitem__}
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            {name: read[kind](row[name]) if row[name] else None for name, kind in table.columns.items()}
            for row in csv.DictReader(file)
        ]

    assert rows == list(table.rows())
    assert len(rows) == len(table) == 24
    assert table.outcomes() == {"budget": 18, "error": 4, "nan": 2}
    assert {row["budget"] for row in rows} == {"paper"}
    assert not list(tmp_path.glob(".*partial*"))


def test_parquet_reads_back_exactly(table, tmp_path, monkeypatch):
    """The same rows, with types and nulls, in several groups."""
    monkeypatch.setattr("plumbline.analysis.sweeps.table.ROW_GROUP", 7)
    table.write(tmp_path / "t.parquet")
    read = parquet.read_table(tmp_path / "t.parquet")

    assert read.to_pylist() == list(table.rows())
    kinds = {int: "int64", float: "double", bool: "bool", str: "string"}
    assert {field.name: str(field.type) for field in read.schema} == {
        name: kinds[kind] for name, kind in table.columns.items()
    }
    assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 4


def test_a_failed_write_leaves_the_file_of_before(table, tmp_path, monkeypatch):
    """Whole or not at all."""
    table.write(tmp_path / "t.csv")
    before = (tmp_path / "t.csv").read_bytes()

    def broken(self):
        yield before_rows[0]
        raise OSError("no space left")

    before_rows = list(table.rows())
    monkeypatch.setattr(type(table), "rows", broken)
    with pytest.raises(OSError, match="no space left"):
        table.write(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("t.json", r"out must end with .csv or .parquet, got "),
        ("nowhere/t.csv", "out must be in a folder that exists, got "),
    ],
)
def test_names_that_cannot_be_written(tmp_path, name, message):
    """Found out before anything is computed."""
    with pytest.raises(ValueError, match=message):
        exportable(tmp_path / name)


def test_parquet_without_its_extra_says_which(tmp_path, monkeypatch):
    """And before anything is computed."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"this needs pyarrow, .* pip install 'plumbline-theory\[parquet\]'"):
        exportable(tmp_path / "t.parquet")


def test_an_extra_that_is_broken_is_not_called_missing(tmp_path, monkeypatch):
    """A package that is there but lacks something of its own fails with its own words."""
    (tmp_path / "half_installed.py").write_text("import what_it_lacks\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="what_it_lacks") as caught:
        required("half_installed", "cluster")
    assert not isinstance(caught.value, MissingExtra)
