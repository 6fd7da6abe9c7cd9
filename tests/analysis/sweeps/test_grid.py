"""Grids: what can be written for the values of a key, and what is refused with which words."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from plumbline.analysis.sweeps.grid import Key, checked_grid, keys_of, parse_grid, points


def build(
    *,
    dim: int = 5,
    rate: float = 0.1,
    steps: int | None = None,
    looped: bool = False,
    block: Literal["zero", "free"] = "zero",
    data: Literal["a", "b"] | None = None,
    noise: tuple[float, ...] = (0.2,),
    seed: int,
) -> None:
    """A function with a key of every kind."""


KEYS = keys_of(build, ["seed"])


def test_keys_are_read_from_the_signature():
    """Kinds, defaults, choices; the one that joins points; None where the budget decides."""
    assert list(KEYS) == ["dim", "rate", "steps", "looped", "block", "data", "noise"]
    assert KEYS["steps"] == Key("steps", int, None)
    assert KEYS["block"] == Key("block", str, "zero", ("zero", "free"))
    assert KEYS["data"] == Key("data", str, None, ("a", "b"))
    assert KEYS["noise"] == Key("noise", float, 0.2, joined=True)
    assert [str(KEYS[name]) for name in ("dim", "steps", "looped", "block")] == [
        "dim: int = 5",
        "steps: int",
        "looped: bool = false",
        "block: zero | free = zero",
    ]


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("dim=2,5,10", "dim", [2, 5, 10]),
        ("dim=5:50:15", "dim", [5, 20, 35, 50]),
        ("dim=5:49:15", "dim", [5, 20, 35]),
        ("dim=1:3", "dim", [1, 2, 3]),
        ("dim=3:1:-1", "dim", [3, 2, 1]),
        ("dim=1, 4:6 ,9", "dim", [1, 4, 5, 6, 9]),
        ("rate=0:1:0.1", "rate", [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ("rate=1e-3,1", "rate", [0.001, 1.0]),
        ("looped=true,False", "looped", [True, False]),
        ("block=free", "block", ["free"]),
        ("steps=none,5", "steps", [None, 5]),
    ],
)
def test_values_as_written(text, name, values):
    """Lists, ranges with both ends, and both together."""
    parsed = parse_grid([text], KEYS)

    assert parsed == {name: values}
    assert [type(value) for value in parsed[name]] == [type(value) for value in values] or name == "rate"


def test_a_key_given_twice_has_both():
    """Values add up, and each counts once."""
    grid = parse_grid(["dim=2,3", "dim=3,4"], KEYS)

    assert checked_grid(grid, KEYS)["dim"] == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dimm=2", r"grid key must be one of .*, got 'dimm'; did you mean 'dim'\?"),
        ("dim", "grid must be written as key=values, got 'dim'"),
        ("dim=", "grid must be written as key=values, got 'dim='"),
        ("dim=2.5", "dim must be an integer, got '2.5'"),
        ("dim=2,,3", "dim must be an integer, got ''"),
        ("rate=fast", "rate must be a number, got 'fast'"),
        ("looped=1", "looped must be true or false, got '1'"),
        ("dim=5:1", "dim must have ranges of 1 to 1000000 values, got '5:1'"),
        ("dim=1:5:0", "dim must have ranges of 1 to 1000000 values, got '1:5:0'"),
        ("rate=0:inf:1", "rate must have ranges of 1 to 1000000 values"),
        ("rate=0:1:1e-9", "rate must have ranges of 1 to 1000000 values"),
        ("steps=none:5", "steps must have ranges of the form"),
        ("dim=1:2:3:4", "dim must have ranges of the form"),
    ],
)
def test_bad_texts(text, message):
    """The key, what was written, and what is allowed."""
    with pytest.raises(ValueError, match=message):
        parse_grid([text], KEYS)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"blok": "free"}, "did you mean 'block'"),
        ({"block": "fre"}, "block must be one of 'zero', 'free', got 'fre'; did you mean 'free'"),
        ({"dim": 2.5}, "dim must be an integer, got 2.5"),
        ({"dim": []}, "dim must have at least one value, got none"),
        ({"rate": "fast"}, "rate must be a real number, got 'fast'"),
        ({"rate": float("nan")}, "rate must be finite"),
        ({"looped": 1}, "looped must be true or false, got 1"),
    ],
)
def test_bad_values(grid, message):
    """Values given from Python are checked as well."""
    with pytest.raises(ValueError, match=message):
        checked_grid(grid, KEYS)


def test_points_are_the_product_with_defaults():
    """Numbers, sequences, ranges and arrays; what is left out has its default."""
    grid = checked_grid({"dim": range(2, 4), "rate": np.array([0.1, 0.5]), "block": "free"}, KEYS)
    found = list(points(grid))

    assert [(point["dim"], point["rate"]) for point in found] == [(2, 0.1), (2, 0.5), (3, 0.1), (3, 0.5)]
    assert found[0] == {
        "dim": 2,
        "rate": 0.1,
        "steps": None,
        "looped": False,
        "block": "free",
        "data": None,
        "noise": 0.2,
    }
