"""What the tutorial says is what happens: its blocks run in their order and print what stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.printed import same

PAGE = (Path(__file__).parent.parent / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_blocks_run_in_order_and_print_what_stands_there(tmp_path):
    """Files are written, commands run in one folder, and each output is compared with the block after it."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
        "COLUMNS": "120",
        "OMP_NUM_THREADS": "1",  # the matrices are small
    }
    output, commands = None, 0
    for kind, name, content in BLOCK.findall(PAGE):
        if name:
            (tmp_path / name).write_text(content, encoding="utf-8")
        elif kind == "bash":
            result = subprocess.run(
                ["bash", "-e", "-c", content],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 0, f"{content}{result.stdout}{result.stderr}"
            output = result.stdout
            commands += 1
        else:
            assert kind == "text", f"a block of {kind} without a file name"
            assert output is not None, f"nothing was run before {content}"
            assert same(output, content), f"printed:\n{output}\nexpected:\n{content}"
            output = None
    assert commands >= 6
    assert (tmp_path / "risk.png").stat().st_size > 10_000


def test_comparison_can_fail():
    """Tables and breaks apart, the same; other words, a number that is off, or something more are not."""
    table = "┃claim ┃ verdict   ┃ off by┃\n│mine  │ REFUTED   │  0.44│\n"
    assert same(table, "claim verdict off by\n\nmine REFUTED 0.441")
    assert same(table, "claim …\nmine REFUTED …")
    assert not same(table, "claim verdict off by\nmine CONSISTENT 0.44")
    assert not same(table, "claim verdict off by\nmine REFUTED 0.54")
    assert not same(table, "claim verdict off by\nmine REFUTED")
    assert not same(table, "claim … CONSISTENT …")
