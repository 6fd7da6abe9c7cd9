"""What was published and does not hold as it stands: one entry of the ledger."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Erratum:
    """One entry of the ledger.

    Attributes:
        family: Whose.
        source: Paper and theorem, or file of the published code.
        published: What stands there.
        holds: What holds.
        command: What replays it.
    """

    family: str
    source: str
    published: str
    holds: str
    command: str
