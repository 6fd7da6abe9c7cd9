"""Break the formulas of theory and models by one token each, and see whether their tests turn red.

    python -m tests.mutations                     all mutations
    python -m tests.mutations regression/noisy 3  those of modules whose path has this in it, and mutation number 3
    python -m tests.mutations --list              numbers, modules and changes

Each mutation is applied to a temporary copy; the working tree is not touched. Tests of the
mutated module run first, then those of its family; the first failure ends the run. Prints "caught" or "SURVIVED" for
each mutation and exits with the number of survivors. A mutation that makes a test run endlessly is caught by the clock.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutations import Mutation, memorization, reasoning, regression

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 600
"""A run of the tests that takes longer is taken as caught."""
MUTATIONS: list[Mutation] = [*regression.MUTATIONS, *memorization.MUTATIONS, *reasoning.MUTATIONS]


def is_red(root: Path, arguments: list[str]) -> bool:
    """Whether pytest is red there."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-n0",
        "-p",
        "no:cacheprovider",
        "--hypothesis-profile=mutations",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        result = subprocess.run([*command, *arguments], cwd=root, timeout=SECONDS, **quiet)
    except subprocess.TimeoutExpired:
        return True
    if result.returncode not in (0, 1, 2):  # 1: tests failed, 2: interrupted by an error while collecting
        raise RuntimeError(f"pytest ended with code {result.returncode}")
    return result.returncode != 0


def copy_tree(root: Path) -> None:
    """What the tests need, below ``root``."""
    for folder in ("plumbline", "theory", "models", "analysis", "tests"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)


def _family(mutation: Mutation) -> str:
    """The folder of the tests that have to see it."""
    return str(Path("tests") / Path(mutation.module).parent)


def survives(mutation: Mutation) -> bool:
    """Whether the tests stay green with this mutation."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copy_tree(root)
        mutation.apply(root)
        family = _family(mutation)
        first = f"{family}/{mutation.first}.py"
        return not is_red(root, [first]) and not is_red(root, [family, f"--deselect={first}"])


def main(arguments: list[str]) -> int:
    """Run the chosen mutations; return the number of survivors."""
    chosen = [
        (number, mutation)
        for number, mutation in enumerate(MUTATIONS)
        if not arguments or str(number) in arguments or any(word in mutation.module for word in arguments)
    ]
    if "--list" in arguments:
        for number, mutation in enumerate(MUTATIONS):
            print(f"{number:3} {mutation.module:28} {mutation.old!r} -> {mutation.new!r}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        copy_tree(Path(folder))
        for family in sorted({_family(mutation) for _, mutation in chosen}):
            if is_red(Path(folder), [family]):
                raise RuntimeError(f"{family} must pass before it is asked to fail")
    survivors = 0
    for number, mutation in chosen:
        started = time.monotonic()
        survived = survives(mutation)
        survivors += survived
        verdict = "SURVIVED" if survived else "caught"
        print(
            f"{number:3} {verdict:8} {time.monotonic() - started:5.1f} s  {mutation.module}: "
            f"{mutation.old!r} -> {mutation.new!r}",
            flush=True,
        )
    print(f"{len(chosen) - survivors} of {len(chosen)} mutations caught")
    return survivors


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
