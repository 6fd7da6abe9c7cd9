"""Settings shared by all tests."""

import os

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


def pytest_addoption(parser: pytest.Parser) -> None:
    """The budget of the claims; `pytest -m theory --theory-budget quick` takes a minute."""
    parser.addoption("--theory-budget", default="standard", choices=("quick", "standard", "paper"))


def pytest_configure(config: pytest.Config) -> None:
    """One torch thread: the matrices are small, and the workers of pytest-xdist have the other cores."""
    try:
        import torch
    except ModuleNotFoundError:  # the tests of theory run without it
        return
    torch.set_num_threads(1)
