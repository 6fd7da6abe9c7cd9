"""Mutations of the formulas, and what makes one; ``python -m tests.mutations`` runs them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutation:
    """Replace ``old``, which occurs exactly once in the module, by ``new``.

    Attributes:
        module: Path of the module, without the ending: ``theory/regression/task``.
        first: The test module to run first; it lies at the same place below tests/.
    """

    module: str
    first: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Change the file below ``root``."""
        path = root / f"{self.module}.py"
        source = path.read_text()
        if source.count(self.old) != 1:
            raise ValueError(f"{self.old!r} must occur once in {self.module}, got {source.count(self.old)} times")
        path.write_text(source.replace(self.old, self.new))


def of(module: str, first: str, *changes: tuple[str, str]) -> list[Mutation]:
    """Mutations of one module."""
    return [Mutation(module, first, old, new) for old, new in changes]
