"""What the README prints is what happens."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from pathlib import Path

from typer.testing import CliRunner

from plumbline.analysis import Budget, Outcome, catalogue, check
from plumbline.analysis.commands.app import app
from plumbline.theory.regression import multi_step_optimum
from tests.printed import same

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_own_theorem_is_printed_whole_short_and_comes_out_consistent(own_modules):
    """The example in the README is the file, has at most 30 lines, and its verdicts are as promised."""
    source = (ROOT / "examples" / "own_theorem.py").read_text(encoding="utf-8")
    own = runpy.run_path(str(ROOT / "examples" / "own_theorem.py"))["covariate_shift"]
    (result,) = check([own])

    assert source.rstrip() in README
    assert len(source.splitlines()) <= 30
    assert result.verdict.outcome is Outcome.CONSISTENT, result.verdict.reason
    assert [rival.outcome for rival in result.rivals.values()] == [Outcome.REFUTED]


def test_own_model_lines_stand_in_the_example():
    """The excerpt about one's own model is taken from the file."""
    source = (ROOT / "examples" / "own_model.py").read_text(encoding="utf-8")
    block = README.split("[examples/own_model.py](examples/own_model.py)")[1].split("```python\n")[1].split("```")[0]

    assert all(line.split("  #")[0] in source for line in block.splitlines())


def test_printed_number_is_the_number():
    """The import on the first screen."""
    assert f"# {multi_step_optimum(3, dim=5, context_length=20).loss!r}" in README


def test_every_plumbline_command_in_a_shell_block_runs(tmp_path, monkeypatch, own_modules):
    """The commands as printed, and the examples they need, where these are."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    commands = [line for line in lines if line.startswith(("plumbline ", "python examples/"))]

    assert len(commands) >= 2
    for command in commands:
        if command.startswith("python "):
            runpy.run_path(command.split()[1])
            continue
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}: {result.output}"
        if " check-model " in command:
            shown = README.split(command)[1].split("```text\n")[1].split("```")[0]
            assert same(result.output, f"…{shown}…"), result.output


def test_table_on_the_first_screen_is_of_the_catalogue():
    """Every row names a claim (long names are cut), every family has some, and the counts are those of today."""
    table = README.split("```text\n")[1].split("```")[0]
    known = catalogue()
    judged = [
        claim
        for claim in known.values()
        if any(claim.failing_condition(case) is None for case in claim.cases(Budget.QUICK).values())
    ]
    rivals = sum(len(claim.rivals) for claim in judged)
    families = {claim.family for claim in known.values()}
    cells = {line[1:31].strip().rstrip("…") for line in table.splitlines() if line.startswith("│")}

    assert families <= cells
    assert len(cells) > 15
    for cell in cells - families:
        assert any(name.startswith(cell) for name in known), cell
    assert f"a table of {len(known)} claims" in README
    assert f"{rivals} of {rivals} rivals refuted" in table
    assert f"{len(known)} claims" in table
