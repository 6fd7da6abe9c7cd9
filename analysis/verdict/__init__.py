"""Verdicts: one rule for each kind of statement, and what it may conclude from measured numbers.

A rule is a frozen dataclass fixed before anything is measured; ``rule.judge(measured, predicted, ...)`` holds
a measurement against a prediction. A rival is judged by the same rule on the same measurement, with its own
prediction. The quantifier of the statement decides the rule: a failed training refutes no theorem about a
minimum, and no sample proves a bound.
"""

from plumbline.analysis.verdict.decision import spend
from plumbline.analysis.verdict.exact import BoundForAll, GlobalMinimum, Identity
from plumbline.analysis.verdict.exists import AtMost, BoundExists
from plumbline.analysis.verdict.ordering import Ordering
from plumbline.analysis.verdict.outcome import (
    Outcome,
    Rule,
    Verdict,
    combine,
    not_applicable,
    worst_case,
)
from plumbline.analysis.verdict.sampled import Convergence, Expectation, Rate
from plumbline.analysis.verdict.samples import Runs

RULES: tuple[type[Rule], ...] = (
    Identity,
    Expectation,
    GlobalMinimum,
    BoundForAll,
    BoundExists,
    Convergence,
    Rate,
    Ordering,
)
"""One for each kind of statement."""

__all__ = [
    "RULES",
    "AtMost",
    "BoundExists",
    "BoundForAll",
    "Convergence",
    "Expectation",
    "GlobalMinimum",
    "Identity",
    "Ordering",
    "Outcome",
    "Rate",
    "Rule",
    "Runs",
    "Verdict",
    "combine",
    "not_applicable",
    "spend",
    "worst_case",
]
