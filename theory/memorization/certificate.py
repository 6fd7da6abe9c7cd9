"""A lower bound that is proved, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LowerBound:
    """A number below the divergence of every logit matrix of the given rank.

    Attributes:
        value: The bound in nats, an allowance for rounding subtracted.
        method: "exact", "cells", "token blocks", "Eckart-Young", or "trivial" for 0.
        rigorous: Whether it is proved for this table; a bound from a search that may have missed the minimum is not.
    """

    value: float
    method: str
    rigorous: bool = True
