"""The error rates of verdicts: constants, so that a verdict is the same whatever else is asked or imported."""

from __future__ import annotations

from typing import Any

FALSE_REFUTATION = 1e-6
"""Largest probability that a case of a claim is refuted although it holds, in one look at a sample (`spend` for more).

A thousand cases then err at most once in a thousand runs.
"""
FALSE_CONFIRMATION = 1e-2
"""Largest probability that a statistical verdict calls a discrepancy of the margin CONSISTENT."""
LEVELS: dict[str, Any] = {"alpha_refute": FALSE_REFUTATION, "alpha_confirm": FALSE_CONFIRMATION}
"""Both, as the rules take them."""
