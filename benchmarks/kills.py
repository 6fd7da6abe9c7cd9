"""What `kill -9` costs: `plumbline check` is killed at random moments, again and again, then left to finish.

    python benchmarks/kills.py                        # 50 kills, some ten minutes
    python benchmarks/kills.py --kills 5 --claims risk-at-another-length

Each time the whole process group dies, or the parent alone (its workers must then end by themselves). After each kill
the store is opened: it must be a sound database, every result that was in it must still be there unchanged, and none
twice. At the end the verdicts must be, byte for byte, those of a run that nobody disturbed. Exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

CLAIMS = [
    "one-step-covariate-laws",
    "one-step-noise-and-prior",
    "low-rank-optimum",
    "expected-accuracy",
    "rate-constant",
]
PROGRAM = "import sys; from plumbline.analysis.commands.app import main; sys.argv[0] = 'plumbline'; main()"
PATIENCE = 30.0
"""Seconds within which the workers of a killed parent have to be gone."""


def start(folder: Path, claims: list[str], name: str) -> subprocess.Popen[bytes]:
    """`plumbline check` in a process group of its own, with the store and verdicts of this name."""
    options = ["--store", f"{name}.sqlite", "--json", f"{name}.json", "--jobs", "2"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "check", *claims, *options], cwd=folder, start_new_session=True, **quiet
    )


def results(store: Path) -> dict[str, tuple[str, str]]:
    """Job and result by key of all that is kept, from a database that is sound."""
    if not store.exists():
        return {}
    with closing(sqlite3.connect(store)) as connection:
        problems = connection.execute("PRAGMA integrity_check").fetchall()
        if problems != [("ok",)]:
            raise SystemExit(f"the store is damaged: {problems}")
        if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'records'").fetchone()[0]:
            return {}
        rows = connection.execute("SELECT key, job, result FROM records WHERE status = 'done'").fetchall()
    if len({key for key, _, _ in rows}) < len(rows) or len({job for _, job, _ in rows}) < len(rows):
        raise SystemExit("a result is kept twice")
    return {key: (job, result) for key, job, result in rows}


def gone(group: int) -> bool:
    """Whether no process of the group is left within the time allowed."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def main() -> int:
    """Kill, look, kill again; return 1 if anything is lost or different at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--claims", nargs="+", default=CLAIMS)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.monotonic()
        start(folder, options.claims, "undisturbed").wait()
        whole = time.monotonic() - begun
        total = len(results(folder / "undisturbed.sqlite"))
        print(f"undisturbed: {total} results in {whole:.1f} s", flush=True)
        # Lives short enough that the work outlasts the kills: most of one goes into starting the program.
        kept: dict[str, tuple[str, str]] = {}
        kills, restarts, orphans, between = 0, 0, 0, []
        while kills < options.kills:
            process = start(folder, options.claims, "killed")
            time.sleep(chance.uniform(0.1, whole))
            if process.poll() is not None:  # it was done before: from nothing again
                for path in folder.glob("killed*"):
                    path.unlink()
                kept, restarts = {}, restarts + 1
                continue
            if chance.random() < 0.5:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            kills += 1
            orphans += not gone(process.pid)
            now = results(folder / "killed.sqlite")
            lost = [key for key, row in kept.items() if now.get(key) != row]
            if lost:
                raise SystemExit(f"kill {kills}: {len(lost)} results lost or changed")
            between.append(len(now) - len(kept))
            kept = now
        start(folder, options.claims, "killed").wait()
        same = (folder / "killed.json").read_bytes() == (folder / "undisturbed.json").read_bytes()
        print(
            f"{kills} kills, {restarts} times from nothing; new results between kills: {sum(between)}, none lost, "
            f"changed or kept twice, every store sound; groups with a process left after {PATIENCE:.0f} s: {orphans}"
        )
        print(f"verdicts at the end {'equal' if same else 'DIFFER FROM'} those of the undisturbed run, byte for byte")
    return int(not same or orphans > 0)


if __name__ == "__main__":
    sys.exit(main())
