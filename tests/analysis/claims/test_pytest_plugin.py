"""The plugin of pytest: whose verdict a test has, what is collected, and what is said of what cannot be."""

from __future__ import annotations

import subprocess
import sys

import pytest

ONE = """
from plumbline import Evidence, Identity, claim

@claim(statement="One.", source="", rule=Identity, status="derived here", rivals={"two": ""}, name="rate-constant",
       cases=lambda budget: {"only": None})
def one_is(case, budget, seed):
    return Evidence(Identity(1e-9), [MEASURED], [1.0], [[2.0]])
"""


@pytest.fixture
def run(tmp_path):
    """pytest in a folder with files of claims and a configuration that names them."""

    def start(files, *arguments, named=None):
        for name, content in files.items():
            (tmp_path / name).write_text(content)
        (tmp_path / "pytest.ini").write_text(f"[pytest]\nplumbline_claims = {' '.join(named or files)}\n")
        command = [sys.executable, "-m", "pytest", "-v", "--theory-budget", "quick", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)

    return start


def test_a_claim_has_its_own_verdict_whatever_its_name(run):
    """Two files with a claim of one name, one of them false, the name one of the catalogue's."""
    files = {name: ONE.replace("MEASURED", value) for name, value in (("one.py", "1.0"), ("two.py", "3.0"))}
    result = run(files)

    assert "one.py::rate-constant PASSED" in result.stdout
    assert "two.py::rate-constant FAILED" in result.stdout


def test_a_file_leaves_the_catalogue_whole(run):
    """Only the claims that it has itself are not collected again."""
    source = "from plumbline import catalogue\n\nmine = catalogue()['rate-constant']\n"
    result = run({"mine.py": source}, ".", "--pyargs", "plumbline", "--collect-only", "-qq")

    assert result.stdout.count("::rate-constant\n") == 1
    assert "::noisy-rate-constant\n" in result.stdout
    assert "::multi-step-loss\n" in result.stdout


def test_files_that_cannot_be_collected_are_said(run):
    """A file that is not there is bad usage; one that fails is an error in one sentence."""
    missing = run({}, named=["missing.py"])
    assert missing.returncode == 4
    assert "plumbline_claims must name existing files" in missing.stderr
    wrong = run({"empty.py": "x = 1\n", "ends.py": "raise SystemExit(0)\n"})
    assert wrong.returncode == 2
    assert "path must hold at least one claim" in wrong.stdout
    assert "ended with SystemExit(0)" in wrong.stdout
    assert "pytest_plugin.py" not in wrong.stdout


def test_a_broken_family_is_a_test_that_fails(run, tmp_path):
    """And the others go on."""
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[plumbline.families]\nbroken = no_such_module\n")
    (tmp_path / "conftest.py").write_text("")
    result = run({}, "--pyargs", "plumbline", "-k", "no_such or noisy-rate", named=["conftest.py"])

    assert "no_such_module could not be registered" in result.stdout
    assert "1 failed, 3 passed" in result.stdout
