"""A family is one object: a whole one in a file of its own, ones that lack parts, and ones that are broken."""

from __future__ import annotations

import doctest
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from plumbline.analysis import (
    Family,
    FigureData,
    Identity,
    Panel,
    Reader,
    Series,
    families,
    make_figures,
    register,
)
from plumbline.analysis import family as family_module
from plumbline.analysis.catalogue import catalogue
from plumbline.analysis.commands.app import app
from plumbline.analysis.commands.calculators import calculators
from plumbline.analysis.family import broken
from plumbline.analysis.regression import RegressionTask, TrainLinearTransformer

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_family.py"


@pytest.fixture
def folder(tmp_path, monkeypatch, own_modules):
    """A folder with a fourth family, and nothing else."""
    shutil.copy(EXAMPLE, tmp_path / "cover.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # names of claims are whole in the width for files
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [*arguments])


def test_a_fourth_family_is_one_short_file(folder):
    """Task, calculators, model, job, claims with rivals, figure; its docstrings are examples that hold."""
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 150
    assert run("--load", "cover.py", "claims").exit_code == 0
    module = importlib.import_module("cover")
    own = families()["cover"]

    assert list(families()) == ["regression", "memorization", "reasoning", "cover"]
    assert (len(own.calculators), len(own.claims), len(own.figures), own.experiments, own.reader) == (2, 2, 1, {}, None)
    assert all(claim.rivals for claim in own.claims.values())
    assert doctest.testmod(module).attempted >= 2
    assert doctest.testmod(module).failed == 0


def test_every_command_shows_it(folder):
    """`bound`, `claims`, `check`, `figure`, `report` and `check-model --example`."""
    load = ("--load", "cover.py")
    bound = run(*load, "bound", "separable-dichotomies", "--points", "6", "--dim", "3")
    assert bound.stdout.strip() == "32"
    assert "separable-fraction" in run(*load, "bound", "--help").stdout
    assert "function-counting" in run(*load, "claims", "--family", "cover").stdout
    assert '"type": "cover.CoverTask"' in run(*load, "check-model", "x", "--task", "y", "--example", "cover").stdout

    checked = run("check", "cover.py", "--jobs", "1", "--figures", "figures")
    assert checked.exit_code == 0, checked.output
    assert "2 claims: 2 consistent; 3 of 3 rivals refuted" in checked.stdout
    assert (folder / "figures" / "capacity-of-a-unit.png").stat().st_size > 10_000
    assert run(*load, "check", "half-at-capacity", "--jobs", "1").exit_code == 0
    drawn = run(*load, "figure", "capacity-of-a-unit", "--out", "more", "--format", "svg", "--jobs", "1")
    assert drawn.exit_code == 0, drawn.output
    assert "case N=5: CONSISTENT" in (folder / "more" / "capacity-of-a-unit.svg").read_text(encoding="utf-8")
    report = run("report", "cover.py", "--out", "report", "--jobs", "1")
    assert report.exit_code == 0, report.output
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "function-counting" in page
    assert "figure capacity-of-a-unit" in page


@pytest.mark.parametrize("arguments", [[], ["--pyargs", "plumbline", "--deselect=…"]], ids=["file", "catalogue"])
def test_pytest_holds_it(folder, arguments):
    """By its file in the configuration; the catalogue holds families that the configuration has loaded too."""
    (folder / "pytest.ini").write_text("[pytest]\nplumbline_claims = cover.py\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "theory",
        "-v",
        "--theory-budget",
        "quick",
        "-p",
        "no:cacheprovider",
    ]
    if arguments:
        command += ["--collect-only", "--pyargs", "plumbline", "."]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("half-at-capacity[one point more]") == 1
    assert "5 passed" in result.stdout or "multi-step-loss[" in result.stdout


def test_a_family_may_lack_everything(own_modules):
    """None of what it lacks is an error, in any listing."""
    register(Family("bare"))

    for arguments in (["claims"], ["errata"], ["sweep"], ["reproduce"], ["bound", "--help"]):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        assert "warning" not in result.output


def test_a_name_is_taken_once(own_modules):
    """Two families of one name would hide each other; a name is one word."""
    with pytest.raises(ValueError, match="name must be new, got 'regression', which is a family already"):
        register(Family("regression"))
    with pytest.raises(ValueError, match="name must be one word of letters, digits and _, got 'two words'"):
        Family("two words")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("from plumbline import Family, register\nregister(Family('regression'))", "ValueError: name must be new"),
    ],
)
def test_a_broken_family_is_named_and_the_others_go_on(tmp_path, monkeypatch, own_modules, source, reason):
    """A family of an installed package that cannot be imported or registered."""
    (tmp_path / "broken_family.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(family_module, "ENTRIES", (*family_module.ENTRIES, "broken_family"))
    monkeypatch.setattr(family_module, "_FAILURES", {})
    result = run("claims", "--family", "reasoning")

    assert result.exit_code == 0
    assert "rate-constant" in result.stdout
    assert f"warning: broken_family could not be registered: {reason}" in result.stderr
    assert len(catalogue()) >= 90


def test_a_broken_part_is_named_and_the_others_go_on(tmp_path, monkeypatch, own_modules):
    """Its claims cannot be imported; its figures, and all other families, are there."""
    package = tmp_path / "half_family"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from plumbline import Family, register\nfamily = register(Family('half', folder='half_family'))\n"
    )
    (package / "claims.py").write_text("undefined\n")
    (package / "figures.py").write_text(
        "from half_family import family\nfamily.figure(caption='A.', name='a')(lambda budget, seed: None)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(family_module, "ENTRIES", (*family_module.ENTRIES, "half_family"))

    assert list(families()["half"].figures) == ["a"]
    assert len(catalogue()) >= 90
    assert [name for name, trace in broken() if "NameError" in trace] == ["half_family.claims"]


@pytest.mark.parametrize("folder", ["no_such_folder", "statistics", "no.such.folder"])
def test_a_folder_that_is_none_is_named(own_modules, folder):
    """Every part that was asked for, and the other families go on."""
    own = register(Family("astray", folder=folder, theory="no_such_theory"))

    assert (own.claims, own.calculators) == ({}, {})
    assert "rate-constant" in run("claims").stdout
    assert len([name for name, _ in broken() if name in (f"{folder}.claims", "no_such_theory")]) >= 1


def test_a_malformed_entry_point_is_named(monkeypatch, own_modules):
    """What is no module of a package's entry points."""
    point = SimpleNamespace(value="not a module")
    monkeypatch.setattr(family_module.metadata, "entry_points", lambda group: [point])
    monkeypatch.setattr(family_module, "_FAILURES", {})

    assert "regression" in families()
    assert [name for name, _ in broken()] == ["not a module"]


def test_what_has_one_of_our_names_gives_way_and_is_named(own_modules):
    """Our claims, calculators and tasks stay what they are, whatever is loaded beside them."""
    own = register(Family("mine"))
    ours = catalogue()["rate-constant"], set(calculators())
    own.claim(
        statement="", source="", rule=Identity, status="derived here", rivals={"x": ""}, cases=lambda budget: {},
        name="rate-constant",
    )(print)  # fmt: skip

    @own.calculator
    def multi_step_optimum(x: int) -> int:
        return x

    assert catalogue()["rate-constant"] is ours[0]
    assert ours[1] <= set(calculators())
    assert calculators()["mine-multi-step-optimum"].function is multi_step_optimum
    said = [trace for name, trace in broken() if name == "rate-constant of the claims of mine"]
    assert said == ["the family reasoning has that name"]
    with pytest.raises(ValueError, match="task must be new, got RegressionTask, which is that of the family reg"):
        register(Family("other", task=RegressionTask))


def test_what_cannot_be_made_an_option_is_refused(own_modules):
    """A calculator without types; a second reader; a field that a job has not, a key without default."""
    own = Family("own")
    with pytest.raises(ValueError, match="calculator untyped must have a type for x, got none"):

        @own.calculator
        def untyped(x):
            return x

    reader = Reader((), build=print, report=print)
    own.reads(reader)
    with pytest.raises(ValueError, match="reader must be the only one of the family own"):
        own.reads(reader)
    with pytest.raises(ValueError, match="a field of TrainLinearTransformer must be one of"):
        own.experiment(job=TrainLinearTransformer, fields=("nosuch",))(lambda **fields: None)

    def no_default(*, dim: int, runs: int, seed: int, budget: str) -> None:
        """A key that must be given."""

    with pytest.raises(ValueError, match="dim must have a default"):
        own.experiment()(no_default)


def test_a_figure_without_jobs_is_an_ordinary_function(tmp_path):
    """As a claim may be."""
    own = Family("own")

    @own.figure(caption="A line.")
    def line(budget, seed):
        return FigureData("Line", [Panel("", [Series("x", "theory", [1, 2], [1, 2])])])

    assert make_figures([line], str(tmp_path))["line"].files[0].exists()
    with pytest.raises(ValueError, match="figures must be a sequence of figures, got 'line' in it"):
        make_figures(["line"], tmp_path)


@pytest.mark.parametrize(
    ("source", "reason"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("raise SystemExit(0)", "SystemExit: 0")],
)
def test_a_file_that_fails_is_bad_usage(tmp_path, source, reason, own_modules):
    """`--load` says in one line what it raised."""
    (tmp_path / "fails.py").write_text(source)
    result = run("--load", str(tmp_path / "fails.py"), "claims")

    assert result.exit_code == 2
    assert result.stderr.strip() == f"error: --load {tmp_path / 'fails.py'}: {reason}"


def test_the_variable_loads_a_family_too(folder):
    """In the environment, where a command line is not one's own."""
    command = [sys.executable, "-m", "plumbline", "bound", "separable-fraction", "--points", "10", "--dim", "5"]
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PLUMBLINE_LOAD": "cover.py"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "0.5"
