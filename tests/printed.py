"""Whether a command prints what a page says."""

import math
import re

NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
# Sampled and trained numbers move with the version of torch and the processor; words do not.
RELATIVE, ABSOLUTE = 0.1, 0.02


def same(printed: str, expected: str) -> bool:
    """The same words, and numbers that are near; lines of tables and breaks do not count, `…` stands for anything."""
    printed, expected = _words(printed), _words(expected)
    parts = [f"({NUMBER.pattern})".join(map(re.escape, NUMBER.split(part))) for part in expected.split("…")]
    found = re.fullmatch(".*".join(parts), printed)
    return found is not None and all(
        math.isclose(float(got), float(want), rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        for got, want in zip(found.groups(), NUMBER.findall(expected), strict=True)
    )


def _words(text: str) -> str:
    """Without the drawing of tables, in one line with single spaces."""
    return " ".join(re.sub(r"[─-╿]+", " ", text).split())
