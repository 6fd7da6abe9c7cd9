"""The command line: options, exit codes, messages."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import plumbline
from plumbline.analysis.catalogue import catalogue, catalogue_markdown, errata, errata_markdown, figures
from plumbline.analysis.commands.app import app
from plumbline.analysis.commands.calculators import calculators
from plumbline.analysis.drawing.data import FigureData, Panel, Series
from plumbline.analysis.verdict.levels import LEVELS
from plumbline.theory.regression import RegressionTask, one_step_risk

ROOT = Path(__file__).parents[3]
FAST = "transformer-is-its-algorithm"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Invoke a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_version_and_help(run):
    """As every command line has them; completion can be installed."""
    assert run("--version").stdout == f"plumbline {plumbline.__version__}\n"
    assert run("-h").stdout == run("--help").stdout
    assert "--install-completion" in run("-h").stdout
    assert "--budget" in run("check", "-h").stdout


@pytest.mark.parametrize(
    "arguments", [["claims"], ["errata"], ["sweep"], ["check", "rate-constnt"], ["bound", "--help"]]
)
def test_text_needs_no_torch(tmp_path, arguments):
    """To print what is known takes a second, not an import of torch; it works where there is none."""
    code = (
        "import sys; sys.modules['torch'] = sys.modules['matplotlib'] = None\n"
        f"sys.argv = ['plumbline', *{arguments!r}]\n"
        "from plumbline.analysis.commands.app import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)

    assert "torch" not in result.stderr
    assert result.returncode == (2 if "check" in arguments else 0), result.stderr
    assert "rate-constant" in result.stdout + result.stderr or arguments[0] != "check"


def test_claims_page_is_current():
    """docs/claims.md is generated: `plumbline claims --markdown > docs/claims.md`."""
    assert (ROOT / "docs" / "claims.md").read_text(encoding="utf-8") == catalogue_markdown()


def test_errata_page_is_current():
    """docs/errata.md is generated: `plumbline errata --markdown > docs/errata.md`."""
    assert (ROOT / "docs" / "errata.md").read_text(encoding="utf-8") == errata_markdown()


def test_every_erratum_can_be_replayed(run):
    """Each entry names commands, claims, reproductions and calculators that exist; each corrected claim has one."""
    reproducible = {name for name, figure in figures().items() if figure.published}
    known = {"check": set(catalogue()), "reproduce": reproducible, "bound": set(calculators())}
    for entry in errata():
        program, command, *names = entry.command.split()
        assert program == "plumbline"
        assert {name for name in names if not name.startswith("--")} <= known[command], entry
    corrected = {claim.name for claim in catalogue().values() if claim.status == "corrected"}
    assert corrected <= {entry.command.removeprefix("plumbline check ") for entry in errata()}
    assert run("errata", "--markdown").stdout == errata_markdown()


def test_reproduce_lists_and_prints_published_numbers(run, tmp_path):
    """Without names the list; with one the published number, ours and the exact one, on the screen and in a file."""
    listed = run("reproduce")
    assert listed.exit_code == 0
    assert all(name in listed.stdout for name in ("rotation-adam-p0", "experiment-6", "losses-origin-relu"))

    result = run("reproduce", "linear-rate")
    assert result.exit_code == 2
    assert "unknown reproduction 'linear-rate'" in result.output

    result = run("reproduce", "rotation-lbfgs", "--jobs", "1")
    assert result.exit_code == 0, result.output
    rows = (tmp_path / "reproductions" / "rotation-lbfgs.numbers.csv").read_text().splitlines()
    assert rows[0] == "quantity,published,ours,exact"
    assert rows[1].startswith("loss at the start,5.96,")
    # Trained weights are no case of the claim about the published ones: no verdict stands here.
    assert "claim " not in result.stdout
    assert "claim slope-above-the-bound, case N=10, d=d_h=2: CONSISTENT" in run("reproduce", "experiment-6").stdout


def test_claims_lists_every_claim(run):
    """As a table and as JSON."""
    listed = json.loads(run("claims", "--json").stdout)

    assert [row["name"] for row in listed] == list(catalogue())
    assert all(name in run("claims", "--markdown").stdout for name in catalogue())


def test_check_writes_verdicts_figures_store_and_exits_zero(run, tmp_path):
    """One claim, in process; the second call finds everything in the store."""
    result = run("check", FAST, "--json", "verdicts.json")
    report = json.loads((tmp_path / "verdicts.json").read_text())

    assert result.exit_code == 0, result.output
    assert "CONSISTENT" in result.stdout
    assert "3 of 3 rivals refuted" in result.stdout
    assert report["claims"][0]["verdict"]["outcome"] == "consistent"
    assert {rival["outcome"] for rival in report["claims"][0]["rivals"].values()} == {"refuted"}
    assert (tmp_path / ".plumbline" / "store.sqlite").exists()


def test_check_without_store_leaves_no_file(run, tmp_path):
    """--store none keeps nothing."""
    assert run("check", FAST, "--store", "none").exit_code == 0
    assert list(tmp_path.iterdir()) == []


THREE = ("risk-at-another-length", "one-shared-last-token", "expected-finite-sample-excess")


def test_the_same_seed_gives_the_same_bytes(run, tmp_path):
    """Nothing of time, process or store is in the verdicts: here or in two workers, with a store or without."""
    calls = {"a": ("--jobs", 1, "--store", "none"), "b": ("--jobs", 2), "c": ("--jobs", 1)}
    for name, options in calls.items():
        result = run("check", *THREE, "--seed", 3, "--json", f"{name}.json", *options)
        assert result.exit_code == 0, result.output
    written = {(tmp_path / f"{name}.json").read_bytes() for name in calls}
    assert len(written) == 1
    assert run("check", *THREE, "--seed", 4, "--json", "d.json", "--jobs", 1).exit_code == 0
    assert (tmp_path / "d.json").read_bytes() not in written


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named_and_the_results_are_kept(run, tmp_path):
    """The verdicts cannot be written; the next call finds them in the store."""
    result = run("check", THREE[0], "--json", "/dev/full", "--jobs", 1)
    assert result.exit_code == 1
    assert "No space left on device" in result.output
    assert "what is done is kept in .plumbline/store.sqlite; run the same command again" in result.output
    with sqlite3.connect(tmp_path / ".plumbline" / "store.sqlite") as connection:
        kept = connection.execute("SELECT count(*) FROM records WHERE status = 'done'").fetchone()[0]
    assert kept


def test_an_image_that_is_interrupted_leaves_the_earlier_one(run, tmp_path, monkeypatch):
    """Ctrl-C, or a disk that fills up, in the middle of writing a figure: the old file stands, nothing else is left."""
    from matplotlib.figure import Figure

    name = "float32-departure"
    assert run("figure", name, "--jobs", 1).exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    for error, code, said in ((KeyboardInterrupt(), 130, "interrupted"), (OSError(28, "No space left"), 1, "No space")):

        def fail_halfway(canvas, path, error=error, **options):
            path.write_bytes(b"half of an image")
            raise error

        monkeypatch.setattr(Figure, "savefig", fail_halfway)
        result = run("figure", name, "--jobs", 1)
        assert result.exit_code == code, result.output
        assert said in result.output
        assert {path: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == before


@pytest.mark.parametrize("fault", ["plan", "lengths"])
def test_one_figure_that_fails_does_not_take_the_others_along(run, tmp_path, monkeypatch, fault):
    """What cannot be computed or drawn shows its traceback, with exit code 1; the others are written and named."""
    from plumbline.analysis.commands import drawing

    def broken(budget, seed):
        if fault == "plan":
            raise ZeroDivisionError("no curve")
        return FigureData("x and y", [Panel("", [Series("a", "theory", [1, 2], [1])])])
        yield

    known = figures()
    bad = replace(known["loss-against-depth"], name="broken-figure", plan=broken)
    monkeypatch.setattr(drawing, "figures", lambda: {**known, bad.name: bad})
    result = run("figure", "broken-figure", "float32-departure", "--jobs", 1, "--store", "none")
    assert result.exit_code == 1
    assert "wrote figures/float32-departure.png" in result.output
    assert "broken-figure: Traceback" in result.output
    assert ("no curve" if fault == "plan" else "argument 2 is shorter") in result.output
    assert (tmp_path / "figures" / "float32-departure.png").exists()


def test_refuted_claim_exits_one_and_says_where_its_witness_is(run, tmp_path, monkeypatch):
    """A wrong formula in theory turns the verdict, the exit code and leaves a witness."""
    from plumbline.analysis.regression.claims import one_step

    right = one_step.one_step_risk
    monkeypatch.setattr(one_step, "one_step_risk", lambda *arguments: 1.2 * right(*arguments))
    result = run("check", "risk-at-another-length", "--seed", 5)

    assert result.exit_code == 1
    assert "REFUTED" in result.stdout
    assert "plumbline check risk-at-another-length --budget quick --seed 5 --store none" in result.stdout
    assert (tmp_path / ".plumbline" / "witnesses" / "risk-at-another-length-quick-5.json").exists()


def test_strict_fails_on_inconclusive(run, monkeypatch):
    """An open verdict exits 0, with --strict 1."""
    monkeypatch.setitem(LEVELS, "alpha_confirm", 1e-300)

    assert run("check", "risk-at-another-length").exit_code == 0
    assert run("check", "risk-at-another-length", "--strict").exit_code == 1


def test_claim_that_cannot_be_computed_exits_one_with_its_traceback(run, monkeypatch):
    """An error inside a claim is no verdict, and not silent."""
    from plumbline.analysis.regression.claims import identities

    def broken(*arguments, **options):
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(identities, "one_step_optimum", broken)
    failed = run("check", "one-step-gradient-and-hessian")

    assert failed.exit_code == 1
    assert "by design" in failed.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "one-step-preconditoner"], "did you mean one-step-preconditioner"),
        (["check", "--family", "regresion"], "did you mean regression"),
        (["check", "--budget", "huge"], "'quick', 'standard', 'paper'"),
        (["check", FAST, "--jobs", "0"], "--jobs"),
        (["check", FAST, "--seed", "-1"], "--seed"),
        (["check", FAST, "--store", "."], "store"),
        (["figure", "loss-against-dept"], "did you mean loss-against-depth"),
        (["figure", "--format", "bmp"], "must be png, pdf or svg, got 'bmp'"),
        (["bound", "multi-step-optimun"], "multi-step-optimum"),
        (["bound", "multi-step-optimum", "--steps", "0", "--dim", "5", "--context-length", "20"], "at least 1, got 0"),
        (["bound", "multi-step-optimum", "--steps", "x", "--dim", "5", "--context-length", "20"], "'x'"),
        (["bound", "multi-step-optimum", "--dim", "5"], "Missing option"),
        (["bound", "multi-step-risk", "--step-sizes", "a,b", "--dim", "5", "--context-length", "20"], "a,b"),
        (["bound", "one-step-optimum", "--dim", "2", "--context-length", "3", "--covariance", "[[1,2],[2,1]]"], "-1"),
        (["nonsense"], "nonsense"),
    ],
)
def test_bad_usage_exits_two_and_names_the_remedy(run, arguments, message):
    """Unknown names get the nearest matches, bad values what is allowed."""
    result = run(*arguments)

    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.replace("│", " ").split())


def test_bound_agrees_with_the_library(run):
    """Options made from the signature, a task among them, reach the calculator."""
    printed = run(
        "bound", "one-step-risk", "--dim", 2, "--context-length", 4, "--noise-variance", 0.5,
        "--covariance", "[[2,0.5],[0.5,1]]", "--preconditioner", "[[0.3,0],[0,0.4]]", "--test-length", 9, "--json",
    )  # fmt: skip
    task = RegressionTask(2, 4, covariance=[[2, 0.5], [0.5, 1]], noise_variance=0.5)

    assert json.loads(printed.stdout) == one_step_risk(task, [[0.3, 0], [0, 0.4]], 9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("wishart-moment --powers 2 --dim 2 --degrees 3", "(exact)"),
        ("published-capacity --heads 2 --head-dim 1 --embed-dim 2", "(exact)"),
        ("convergence-rate --learning-rate 0.1 --noise 0.2", "(its formula in float64, rounding aside)"),
        ("softmax-loss --scale 3 --noise 0.2", "method: "),
    ],
)
def test_every_number_says_how_far_to_trust_it(run, arguments, said):
    """An integer or fraction is exact, a float has rounding, and an estimate its error and method."""
    result = run("bound", *arguments.split())
    assert said in result.output
    assert ("(" in result.stderr) is (said != "method: ")


@pytest.mark.parametrize("name", calculators())
def test_every_calculator_has_help(run, name):
    """One option for each parameter, with the text of its docstring."""
    result = run("bound", name, "--help")

    assert result.exit_code == 0
    assert "--json" in result.stdout


def test_bound_needs_no_torch():
    """The calculators run on the base install."""
    code = (
        "import sys; sys.modules['torch'] = sys.modules['matplotlib'] = None\n"
        "sys.argv = ['plumbline', 'bound', 'degree-bound', '--degree', '1', '--dim', '5', '--context-length', '20']\n"
        "from plumbline.analysis.commands.app import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)

    assert result.stdout.strip() == "15/13 = 1.1538461538461537"


def test_check_without_torch_names_the_extra():
    """Exit code 2 and the pip command."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "sys.argv = ['plumbline', 'check']\n"
        "from plumbline.analysis.commands.app import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)

    assert result.returncode == 2
    assert "pip install 'plumbline-theory[models]'" in result.stderr


def test_interrupt_keeps_what_is_done_and_the_next_run_goes_on(tmp_path):
    """Ctrl-C ends at once with a sentence; the same command then finds what was done, and ends well."""
    code = "import sys; from plumbline.analysis.commands.app import main; sys.argv[0] = 'plumbline'; main()"
    arguments = ["check", "one-step-optimum-loss", "one-step-full-weights", "multi-step-loss", "--jobs", "1"]
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    path = tmp_path / ".plumbline" / "store.sqlite"
    while process.poll() is None and records(path) < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    done = records(path)

    assert process.returncode == 130
    assert "run the same command again to go on" in message
    assert done >= 2

    first = dict(records_by_key(path))
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    second = dict(records_by_key(path))
    assert first.items() <= second.items()  # nothing that was done is computed again


def records_by_key(path: Path) -> list[tuple[str, float]]:
    """Keys and seconds in a store; none while the file is not there yet."""
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(path)) as connection:
        try:
            return connection.execute("SELECT key, seconds FROM records").fetchall()
        except sqlite3.OperationalError:
            return []


def records(path: Path) -> int:
    """How many results a store holds."""
    return len(records_by_key(path))
