"""What holds of an installed Plumbline, from a wheel or a source tree, outside both: `.ci/run` runs this in either.

Stands alone: no test imports anything of ours in its own process, and each works in an empty folder.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
DIST = os.environ.get("PLUMBLINE_DIST")
"""The folder of a built wheel and source distribution."""


def run(folder, *command, **environment):
    """The output of a command in a folder; its failure is one of the test."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, env={**clean, "COLUMNS": "200", **environment}
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def python(folder, code, **environment):
    return run(folder, sys.executable, "-c", code, **environment).strip()


def test_entrances_work(tmp_path):
    """The command, the module, the imports that the README shows, and one claim."""
    version = python(tmp_path, "import plumbline; print(plumbline.__version__)")
    assert run(tmp_path, BIN / "plumbline", "--version") == f"plumbline {version}\n"
    assert "rate-constant" in run(tmp_path, sys.executable, "-m", "plumbline", "claims")
    code = "from plumbline.theory.regression import multi_step_optimum as f; print(f(3, 5, 20).loss)"
    assert float(python(tmp_path, code)) == pytest.approx(0.13360842938318332)
    checked = run(tmp_path, BIN / "plumbline", "check", "rate-constant", "--jobs", "1", "--store", "none")
    assert "1 claims: 1 consistent" in checked


def test_import_is_light_and_names_are_there(tmp_path):
    """Neither numpy nor torch before a name is asked for; every public name of analysis is one of the package."""
    code = "import sys, plumbline; print({'numpy', 'torch', 'typer'} & set(sys.modules), 'check' in dir(plumbline))"
    assert python(tmp_path, code) == "set() True"
    code = (
        "import plumbline as p, plumbline.analysis as a; print(all(getattr(p, n) is getattr(a, n) for n in a.__all__))"
    )
    assert python(tmp_path, code) == "True"
    code = "before = {*globals(), 'before'}; from plumbline import *; print(sorted({*globals()} - before)[:3], Path)"
    assert python(tmp_path, f"Path = 'mine'; {code}") == "['AtMost', 'BoundExists', 'BoundForAll'] mine"
    assert python(tmp_path, "import plumbline\ntry: plumbline.nothing\nexcept AttributeError as e: print(e)") == (
        "module 'plumbline' has no attribute 'nothing'"
    )


def test_pytest_offers_the_catalogue(tmp_path):
    """`pytest -m theory --pyargs plumbline`: each claim and each rival is a test, once; one of them runs."""
    command = [sys.executable, "-m", "pytest", "-m", "theory", "--theory-budget", "quick", "--pyargs", "plumbline"]
    command += ["-p", "no:cacheprovider", "-q"]
    listed = run(tmp_path, *command, "--collect-only")
    names = [line.split("::", 1)[1] for line in listed.splitlines() if "::" in line]
    assert len(names) == len(set(names)) > 250
    assert "3 passed" in run(tmp_path, *command, "-k", "rate-constant and not noisy")


CLAIM = """
from dataclasses import dataclass

import analysis, models, theory  # the user's own
from models import Net
from plumbline import Evidence, Identity, check, claim
from plumbline.theory.regression import RegressionTask, zero_predictor_risk


@dataclass(frozen=True)
class Answers:
    value: float

    def run(self):
        return {"value": Net(self.value).answer()}


@claim(
    rule=Identity, status="derived here", source="mine", statement="The net answers.",
    rivals={"twice": "twice as much"}, cases=lambda budget: {"2": 2.0},
)
def the_net_answers(case, budget, seed):
    found = yield Answers(case)
    right = theory.MINE * analysis.MINE * zero_predictor_risk(RegressionTask(2, 3))
    return Evidence(Identity(1e-12), [found["value"]], [right], [[2 * right]])


if __name__ == "__main__":
    print(check([the_net_answers])[0].verdict.outcome)
"""


@pytest.fixture
def repository(tmp_path):
    """A repository whose own names are those of our rooms."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text(
        "class Net:\n    def __init__(self, x): self.x = x\n    def answer(self): return self.x\n"
    )
    (tmp_path / "theory.py").write_text("MINE = 0.5\n")
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "__init__.py").write_text("MINE = 2.0\n")
    (tmp_path / "conftest.py").write_text("import models\n\nassert models.Net\n")
    (tmp_path / "my_claims.py").write_text(CLAIM)
    (tmp_path / "pytest.ini").write_text("[pytest]\nplumbline_claims = my_claims.py\n")
    return tmp_path


def test_a_repository_with_our_names_uses_us(repository):
    """Its own `models`, `theory` and `analysis` beside ours, as a script, at the command line and in pytest."""
    assert python(repository, "import runpy; runpy.run_path('my_claims.py', run_name='__main__')") == "consistent"
    assert run(repository, sys.executable, "my_claims.py").strip() == "consistent"
    for jobs in ("1", "2"):
        checked = run(repository, BIN / "plumbline", "check", "my_claims.py", "--jobs", jobs, "--store", "none")
        assert "1 claims: 1 consistent; 1 of 1 rivals refuted" in checked
    assert "2 passed" in run(repository, sys.executable, "-m", "pytest", "-m", "theory")


VERDICT = "{v.outcome}, p = {v.p_refute:.1e} at {v.alpha_refute:g}"
BARELY = """
import numpy as np
from plumbline import Evidence, Expectation, check, claim


@claim(
    rule=Expectation, status="derived here", source="mine", statement="The mean is 0.", rivals={"one": "1"},
    cases=lambda budget: {"only": None},
)
def mean_is_zero(case, budget, seed):
    # So far off that 1e-3 over a few cases would refute it, and 1e-6 does not.
    means = 0.1 + 0.021 + 0.03 * np.sin(np.arange(32))
    return Evidence(Expectation(0.1, scale=1.0, draws_per_batch=1000), means, 0.0, [1.0])


if __name__ == "__main__":
    print(check([mean_is_zero])[0].verdict.outcome, check([mean_is_zero])[0].verdict.alpha_refute)
"""


def test_a_verdict_is_the_same_through_all_entrances(tmp_path):
    """The level is a constant: script, command and pytest say the same of a sample between two levels."""
    (tmp_path / "barely.py").write_text(BARELY)
    (tmp_path / "pytest.ini").write_text("[pytest]\nplumbline_claims = barely.py\n")

    assert run(tmp_path, sys.executable, "barely.py").split() == ["inconclusive", "1e-06"]
    assert "INCONCLUSIVE" in run(tmp_path, BIN / "plumbline", "check", "barely.py", "--jobs", "1", "--store", "none")
    command = [sys.executable, "-m", "pytest", "-m", "theory"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "INCONCLUSIVE: the mean of 32 batches" in result.stdout


def test_former_names_say_the_new_ones(tmp_path):
    """One sentence for who starts the former plugin."""
    command = [sys.executable, "-m", "pytest", "-p", "plumbline_pytest"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode != 0
    assert "the pytest plugin is plumbline.pytest_plugin now" in result.stderr


CHANGE = """
import sys
from pathlib import Path
import plumbline
from plumbline.analysis.jobs.job import code_version
home = Path(sys.argv[1])
assert Path(plumbline.__file__).is_relative_to(home), plumbline.__file__
first, count = code_version(), 0
for room in plumbline.FLOORS:
    folder = next(path for path in (home / room, home / "plumbline" / room) if path.is_dir())
    for source in sorted(folder.rglob("*.py")):
        content = source.read_bytes()
        source.write_bytes(content + b"#")
        code_version.cache_clear()
        assert code_version() != first, source
        source.write_bytes(content)
        count += 1
code_version.cache_clear()
assert code_version() == first
print(count)
"""


def test_every_source_is_part_of_the_keys(tmp_path):
    """One byte more in any source of the rooms, in a copy of what is installed, changes the version of the code."""
    code = (
        "import shutil, sys; from pathlib import Path; import plumbline\n"
        "home = Path(plumbline.__file__).parent; leave = shutil.ignore_patterns('__pycache__')\n"
        "rooms = [Path(p) / r for p in plumbline.__path__ for r in plumbline.FLOORS if p != str(home)]\n"
        "for folder in [home, *(room for room in rooms if room.is_dir())]:\n"
        "    shutil.copytree(folder, Path(sys.argv[1]) / folder.name, ignore=leave)"
    )
    run(tmp_path, sys.executable, "-c", code, str(tmp_path / "copy"))
    changed = run(
        tmp_path, sys.executable, "-c", CHANGE, str(tmp_path / "copy"),
        PYTHONPATH=str(tmp_path / "copy"), PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip
    assert int(changed) > 200


@pytest.mark.skipif(DIST is None, reason="looks into a built wheel and source distribution: .ci/run has them")
def test_wheel_and_source_distribution_are_whole():
    """The wheel has the data files and no tests; the source distribution has tests, docs and examples."""
    (wheel,), (source,) = Path(DIST).glob("*.whl"), Path(DIST).glob("*.tar.gz")
    inside = set(zipfile.ZipFile(wheel).namelist())
    for name in ("py.typed", "analysis/drawing/plumbline.mplstyle", "analysis/report/page.html"):
        assert f"plumbline/{name}" in inside
    assert {name.split("/")[0].split("-")[0] for name in inside} == {
        "plumbline",
        "plumbline_theory",
        "plumbline_pytest.py",
    }
    assert not [name for name in inside if "__pycache__" in name]
    with tarfile.open(source) as archive:
        packed = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for name in (
        "tests/test_house.py",
        "examples/own_family.py",
        "docs/tutorial.md",
        "theory/checks.py",
        "constraints.txt",
    ):
        assert name in packed
