"""Claims of users: by file at the command line, as tests of their own repository, and the examples that show how."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline.analysis.claims.own import load_claims
from plumbline.analysis.commands.app import app

EXAMPLES = Path(__file__).parents[3] / "examples"
pytestmark = pytest.mark.usefixtures("own_modules")
VERDICTS = {"own_theorem": "CONSISTENT", "own_module": "CONSISTENT", "wrong_theorem": "REFUTED"}


@pytest.mark.parametrize("name", VERDICTS)
def test_examples_come_out_as_promised(name, tmp_path, monkeypatch):
    """Three complete claims of at most 30 lines: two hold, a wrong one is refuted with the command that replays it."""
    monkeypatch.chdir(tmp_path)
    file = EXAMPLES / f"{name}.py"
    result = CliRunner().invoke(app, ["check", str(file), "--jobs", "1"])

    assert len(file.read_text(encoding="utf-8").splitlines()) <= 30
    assert VERDICTS[name] in result.stdout
    assert "1 of 1 rivals refuted" in result.stdout
    assert result.exit_code == (VERDICTS[name] == "REFUTED")
    if result.exit_code:
        assert f"plumbline check {file} --budget quick --seed 0" in result.stdout


def test_jobs_of_a_users_file_run_in_worker_processes(tmp_path):
    """The worker imports the file that defines the job."""
    main = "from plumbline.analysis.commands.app import main; main()"
    command = [sys.executable, "-c", main, "check", str(EXAMPLES / "own_module.py"), "--jobs", "2"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "CONSISTENT" in result.stdout


def test_a_claim_that_forgets_a_rival_is_bad_usage(tmp_path):
    """One line that names it, no traceback."""
    source = (EXAMPLES / "own_module.py").read_text(encoding="utf-8")
    (tmp_path / "forgetful.py").write_text(source.replace("found, half, [whole])", "found, half, [])"))
    result = CliRunner().invoke(app, ["check", str(tmp_path / "forgetful.py"), "--jobs", "1", "--store", "none"])
    assert result.exit_code == 2, result.output
    assert re.match(r"error: claim [\w-]+ is registered with the rule Identity and the rivals", result.output)


def test_files_without_claims_are_refused(tmp_path):
    """The message names the file and what is wanted of it."""
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "two words.py").write_text("")
    (tmp_path / "statistics.py").write_text("")
    (tmp_path / "unfinished.py").write_text("x = 1\ndef claim(:\n")
    import statistics  # the standard library's

    assert statistics
    for name, message in (
        ("missing.py", "must be an existing Python file"),
        ("empty.py", "must hold at least one claim"),
        ("two words.py", "a name that Python can import"),
        ("unfinished.py", "must hold valid Python, got .*unfinished.py', line 2: "),
        ("statistics.py", "must not have the name of another module"),
    ):
        with pytest.raises(ValueError, match=message):
            load_claims(tmp_path / name)
    result = CliRunner().invoke(app, ["check", str(tmp_path / "missing.py")])
    assert result.exit_code == 2
    assert "missing.py" in result.output


def test_pytest_runs_the_claims_of_a_repository(tmp_path):
    """`pytest -m theory` with one line of configuration: each claim and rival is a test, a refutation is in words."""
    for name in ("own_module", "wrong_theorem"):
        (tmp_path / f"{name}.py").write_text((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nplumbline_claims = own_module.py wrong_theorem.py\n")
    command = [sys.executable, "-m", "pytest", "-m", "theory", "-v", "--theory-budget", "quick"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    assert "4 items" in result.stdout
    assert "3 passed" in result.stdout
    assert "1 failed" in result.stdout
    assert "REFUTED: preconditioner-is-the-inverse" in result.stdout or "worst of 4 points" in result.stdout
    assert "Traceback" not in result.stdout
