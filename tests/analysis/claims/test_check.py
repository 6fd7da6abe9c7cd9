"""From claim to verdict, on claims with known truth that need no training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from plumbline.analysis import Budget, Evidence, Expectation, Family, Identity, Ordering, Outcome, Session, check, claim
from plumbline.analysis import family as family_module
from plumbline.analysis.claims.check import BadClaim
from plumbline.analysis.claims.witness import replay_command, write_witnesses


@dataclass(frozen=True)
class Draws:
    """Batch means of normal draws with a known mean."""

    mean: float
    seed: int

    def run(self):
        rng = np.random.default_rng(self.seed)
        return {"batch_means": self.mean + rng.normal(size=(64, 1000)).mean(axis=1)}


def register(truth: float, predicted: float, rival: float, **options):
    @claim(
        name="mean-of-draws",
        statement="The mean is what it is.",
        source="made up",
        rule=Expectation,
        status="derived here",
        rivals={"wrong": "another mean"},
        cases=lambda budget: {"only": truth},
        **options,
    )
    def mean_of_draws(case, budget, seed) -> Iterator:
        sampled = yield Draws(case, seed)
        return Evidence(
            rule=Expectation(0.05, scale=1.0, draws_per_batch=1000),
            measured=sampled["batch_means"],
            predicted=predicted,
            rivals=[rival],
        )

    return mean_of_draws


def test_true_claim_is_consistent_and_its_rival_refuted():
    """The same measurement decides both."""
    (result,) = check([register(1.0, 1.0, 1.5)])

    assert result.verdict.outcome is Outcome.CONSISTENT
    assert result.rivals["wrong"].outcome is Outcome.REFUTED


def test_wrong_claim_is_refuted_on_fresh_seeds_and_leaves_a_witness(tmp_path):
    """A deliberately wrong theorem comes out REFUTED, with a file that says how to replay it."""
    wrong = register(1.0, 1.5, 2.0)
    results = check([wrong], seed=3)
    (path,) = write_witnesses(results, tmp_path, budget=Budget.QUICK, seed=3).values()
    witness = json.loads(path.read_text())

    assert results[0].verdict.outcome is Outcome.REFUTED
    assert "confirmed on fresh seeds" in results[0].verdict.reason
    assert witness["replay"] == replay_command(wrong, budget=Budget.QUICK, seed=3)
    assert witness["refuted_cases"] == {"only": 1.0}


def test_claim_whose_rival_survives_is_inconclusive():
    """A rival within the margin is not refuted, so the measurement decides nothing."""
    (result,) = check([register(1.0, 1.0, 1.01)])

    assert result.verdict.outcome is Outcome.INCONCLUSIVE
    assert result.surviving_rivals == ["wrong"]
    assert "rival wrong" in result.verdict.reason


def test_refutation_that_fresh_seeds_do_not_confirm_is_inconclusive():
    """One unlucky draw is not reported as a refutation."""

    @claim(
        statement="Seeds do not matter.", source="made up", rule=Identity, status="derived here",
        rivals={"wrong": "two"}, cases=lambda budget: {"only": None},
    )  # fmt: skip
    def unlucky_first_seed(case, budget, seed):
        return Evidence(rule=Identity(1e-9), measured=[1.1 if seed == 0 else 1.0], predicted=[1.0], rivals=[[2.0]])

    (result,) = check([unlucky_first_seed])

    assert result.verdict.outcome is Outcome.INCONCLUSIVE
    assert "not on fresh seeds" in result.verdict.reason


def test_failing_condition_is_not_applicable_and_says_which():
    """Nothing is computed outside the conditions of a statement."""
    conditional = register(1.0, 1.0, 1.5, conditions={"the mean is negative": lambda case: case < 0})
    (result,) = check([conditional])

    assert result.verdict.outcome is Outcome.NOT_APPLICABLE
    assert result.verdict.reason == "condition fails: the mean is negative"


def test_error_inside_a_claim_is_reported_and_stops_no_other():
    """A claim that cannot be computed is INCONCLUSIVE with its traceback."""

    @claim(
        statement="Division by zero.", source="made up", rule=Identity, status="derived here",
        rivals={"wrong": "two"}, cases=lambda budget: {"only": None},
    )  # fmt: skip
    def broken(case, budget, seed):
        raise ZeroDivisionError("by design")

    results = check([broken, register(1.0, 1.0, 1.5)])

    assert [result.verdict.outcome for result in results] == [Outcome.INCONCLUSIVE, Outcome.CONSISTENT]
    assert "ZeroDivisionError: by design" in results[0].verdict.reason
    assert "by design" in results[0].error


def test_rivals_of_the_evidence_must_be_those_registered():
    """A forgotten rival is a defect of the claim, not a verdict."""

    @claim(
        statement="One.", source="made up", rule=Identity, status="derived here",
        rivals={"wrong": "two"}, cases=lambda budget: {"only": None},
    )  # fmt: skip
    def forgetful(case, budget, seed):
        return Evidence(rule=Identity(1e-9), measured=[1.0], predicted=[1.0], rivals=[])

    with pytest.raises(BadClaim, match="the rivals wrong, but returned Identity and 0 rivals"):
        check([forgetful])


def identity(name, cases=lambda budget: {"only": None}, conditions=None, **evidence):
    """A claim that one is one, with what is wrong with it."""
    given = {"rule": Identity(1e-9), "measured": [1.0], "predicted": [1.0], "rivals": [[2.0]], **evidence}

    @claim(
        statement="One.", source="", rule=Identity, status="derived here", rivals={"two": ""}, name=name,
        cases=cases, conditions=conditions,
    )  # fmt: skip
    def one_is_one(case, budget, seed):
        return Evidence(**given)

    return one_is_one


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cases": lambda budget: {}}, "claim bad must have at least one case at quick, got none"),
        ({"cases": lambda budget: 1 / 0}, "claim bad: its cases raised ZeroDivisionError"),
        ({"conditions": {"x": lambda case: case.x}}, "claim bad, case only: a condition raised AttributeError"),
        ({"measured": [1.0, 2.0]}, "claim bad, case only: its evidence cannot be judged: measured must have the shape"),
        ({"rivals_measured": [[1.0], [2.0]]}, "claim bad must measure at each of its 1 rivals, got 2"),
        ({"rivals": [[2.0], [3.0]]}, "claim bad is registered with the rule Identity and the rivals two"),
        ({"rule": Ordering(0.9)}, "but returned Ordering and 1 rivals"),
    ],
)
def test_a_defect_of_a_claim_names_it(wrong, message):
    """In one sentence, wherever in the claim it is."""
    with pytest.raises(BadClaim, match=message):
        check([identity("bad", **wrong)])


def test_what_is_no_evidence_is_refused_where_it_is_made():
    """Rivals by name, as they once were, would be predictions; a rule is made with its margin."""
    for wrong, message in (
        ({"rivals": {"two": [2.0]}}, "rivals must be a list in the order in which the claim names its rivals"),
        ({"rivals": 2.0}, "rivals must be a list"),
        ({"rule": Identity}, "rule must be made, with its margin"),
    ):
        (result,) = check([identity("bad", **wrong)])
        assert result.verdict.outcome is Outcome.INCONCLUSIVE
        assert message in result.verdict.reason


def test_arguments_of_check_are_named():
    """Any sequence of claims; a budget by its word; a seed."""
    one = identity("good")
    assert [result.verdict.passed for result in check(c for c in [one])] == [True]
    assert check([one], budget="standard")[0].verdict.passed
    for arguments, options, message in (
        (["rate-constant"], {}, "claims must be a sequence of claims, got 'rate-constant'"),
        ([one], {"budget": "quik"}, "budget must be one of .*; did you mean 'quick'"),
        ([one], {"seed": -1}, "seed must be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            check(arguments, **options)
    session = Session()
    session.close()
    with pytest.raises(ValueError, match="session must be open, got one that was closed"):
        check([one], session=session)


def test_case_of_a_witness_without_json_is_what_it_prints(tmp_path):
    """A case may be any object."""
    odd = identity("odd", cases=lambda budget: {"only": {1: 2}}, measured=[3.0])
    results = check([odd])
    (path,) = write_witnesses(results, tmp_path, budget=Budget.QUICK, seed=0).values()
    assert json.loads(path.read_text())["refuted_cases"] == {"only": "{1: 2}"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "hunch"}, "rule must be one of"),
        ({"status": "true"}, "status must be one of"),
        ({"rivals": {}}, "at least one wrong twin"),
        ({"status": "corrected"}, "published must say what was corrected"),
        ({"published": "more"}, "published must say what was corrected"),
    ],
)
def test_registration_refuses_what_cannot_be_judged(change, message):
    """Kind, status and rivals are checked when the claim is written."""
    options = {
        "statement": "", "source": "", "rule": Identity, "status": "derived here",
        "rivals": {"wrong": ""}, "cases": lambda budget: {}, **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        claim(**options)(print)


def test_names_are_taken_once():
    """Two claims of one name would hide each other: in a family, and in one check."""
    family = Family("test")
    options = {
        "statement": "", "source": "", "rule": Identity, "status": "derived here", "rivals": {"wrong": ""},
        "cases": lambda budget: {}, "name": "mean-of-draws",
    }  # fmt: skip
    family.claim(**options)(print)
    with pytest.raises(ValueError, match="'mean-of-draws', which is registered already"):
        family.claim(**options)(print)
    with pytest.raises(ValueError, match="names of their own, got mean-of-draws more than once"):
        check([register(1.0, 1.0, 1.5), register(1.0, 1.0, 1.5)])


def test_level_is_a_constant(monkeypatch):
    """A claim's level depends neither on what else is checked nor on what was imported."""
    first = register(1.0, 1.0, 1.5)

    @claim(
        statement="One.", source="made up", rule=Identity, status="derived here",
        rivals={"wrong": "two"}, cases=lambda budget: {"a": None, "b": None, "c": None},
    )  # fmt: skip
    def three_cases(case, budget, seed):
        return Evidence(rule=Identity(1e-9), measured=[1.0], predicted=[1.0], rivals=[[2.0]])

    (alone,) = check([first])
    together = check([first, three_cases])
    monkeypatch.setitem(family_module._FAMILIES, "more", Family("more"))
    (among_others,) = check([first])

    assert alone.verdict == together[0].verdict == among_others.verdict
    assert alone.verdict.alpha_refute == 1e-6
