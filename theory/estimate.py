"""A number that is not exact, with its error and the way it was obtained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """value ± error.

    Attributes:
        value: The number.
        error: Half the width of a certified bracket, or one standard error, as `method` says; 0 if exact.
        method: How value and error were obtained, in words.
    """

    value: float
    error: float
    method: str

    def __float__(self) -> float:
        return self.value
