"""Settings shared by all tests."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

# No deadline: the first example of a property pays for imports and caches, and a shared machine is slow at times.
# In continuous integration every run draws the same examples; elsewhere each run explores new ones.
settings.register_profile("plumbline", deadline=None, print_blob=True, derandomize="CI" in os.environ)
# For the mutation runner, which asks only whether a test fails: no time for shrinking, no memory of earlier runs.
settings.register_profile(
    "mutations", deadline=None, database=None, derandomize=True, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("plumbline")

# Tests interrupt themselves and their children; what a shell starts in the background would not hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """One torch thread: the matrices are small, and the workers of pytest-xdist have the other cores."""
    try:
        import torch
    except ModuleNotFoundError:  # the tests of theory run without it
        return
    torch.set_num_threads(1)


@pytest.fixture
def own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files that a test imports as a user's, and families that they register, are gone afterwards."""
    from plumbline.analysis import family

    family.families()  # registered for good
    monkeypatch.setattr(family, "_FAMILIES", dict(family._FAMILIES))
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.path)
    yield
    folders = {Path(folder) for folder in set(sys.path) - known}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).parent in folders:
            del sys.modules[name]
