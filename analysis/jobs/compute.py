"""How torch computes: set for a job, and put back as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from plumbline.theory import checks


@dataclass(frozen=True)
class Compute:
    """How torch computes.

    Args:
        threads: Of one operation. Matrices of the sizes of theory gain nothing from a second one, and two processes
            whose threads wait for each other lose tenfold.

    Raises:
        ValueError: if ``threads`` is no positive integer.
    """

    threads: int = 1

    def __post_init__(self) -> None:
        checks.integer("threads", self.threads, at_least=1)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Compute so inside, and as before afterwards."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    @contextmanager
    def active_if_loaded(self) -> Iterator[None]:
        """The same, where this process has torch at all."""
        if "torch" in sys.modules:
            with self.active():
                yield
        else:
            yield
