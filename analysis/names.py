"""Names that are not there."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not there: the nearest matches, or all names where none is near.

    Example:
        >>> unknown("claim", "multi-step-los", ["multi-step-loss", "rate-constant"])
        "unknown claim 'multi-step-los'; did you mean multi-step-loss?"
    """
    names = list(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return f"unknown {what} {name!r}; {hint}"
