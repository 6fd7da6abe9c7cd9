"""Canonical JSON tells values apart, and results come back exactly."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from plumbline.analysis.jobs.exact_json import canonical_json, decode_result, encode_result
from plumbline.theory.regression.task import RegressionTask
from tests.analysis.jobs.jobs_for_tests import Arrays, Holds, Square

# Few distinct leaves, so that two draws often meet or nearly meet: 1, 1.0, True and "1" must stay apart.
LEAVES = st.sampled_from([None, True, False, 0, 1, -1, 0.0, -0.0, 1.0, 0.1, 0.1 + 2**-56, math.inf, "", "1", "é"])
LEAVES |= st.integers() | st.floats() | st.text(max_size=3)
NAMES = st.text(max_size=3)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
DTYPES = st.sampled_from(["<f8", ">f8", "<f4", "<f2", "<i8", "|i1", "<u8", "|b1", "<U3"])


def identical(a: Any, b: Any) -> bool:
    """Equality that also sees types, the sign of zero and NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (a != a and b != b) or struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(identical(a[name], b[name]) for name in a)
    if isinstance(a, np.ndarray):
        # The number of bytes is that of the entries: NaNs are compared as such, zeros with their sign.
        return a.dtype == b.dtype and a.shape == b.shape and identical(a.tolist(), b.tolist())
    return a == b


@settings(max_examples=100)
@given(VALUES)
def test_canonical_json_round_trip(value: Any) -> None:
    """Reading the text gives the value again, types and all."""
    assert identical(json.loads(canonical_json(value)), value)


@settings(max_examples=100)
@given(VALUES, VALUES)
def test_canonical_json_tells_values_apart(a: Any, b: Any) -> None:
    """Two values have one text exactly where they are identical."""
    assert (canonical_json(a) == canonical_json(b)) == identical(a, b)


def test_canonical_json_of_the_order_of_keys() -> None:
    """The order in which a dict was filled does not matter."""
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})


def test_canonical_json_of_a_job() -> None:
    """A dataclass names its class; tuples and arrays are lists; numpy scalars are numbers."""
    task = RegressionTask(1, 2, covariance=((2.0,),))
    text = canonical_json(Holds((task, np.arange(2), np.float32(0.5), np.bool_(True), np.int64(7))))
    assert json.loads(text) == {
        "type": "tests.analysis.jobs.jobs_for_tests.Holds",
        "hand_out": False,
        "value": [
            {
                "type": "plumbline.theory.regression.task.RegressionTask",
                "dim": 1,
                "context_length": 2,
                "covariance": [[2.0]],
                "weight_covariance": None,
                "noise_variance": 0.0,
                "covariate_law": "gaussian",
                "gamma_shape": None,
            },
            [0, 1],
            0.5,
            True,
            7,
        ],
    }


def test_canonical_json_of_a_string_enum() -> None:
    """A string enumeration is its string."""

    class Side(StrEnum):
        LOWER = "lower"

    assert canonical_json(Side.LOWER) == '"lower"'


@dataclass(frozen=True)
class HasType:
    """Its field has the name that is reserved."""

    type: str = "anything"


@pytest.mark.parametrize(
    "value",
    [
        1j,
        {1, 2},
        Fraction(1, 2),
        object(),
        b"bytes",
        np.array([1j]),
        np.array([None]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.zeros(2, dtype=[("x", "f8")]),
        np.ma.masked_array([1.0, 2.0], mask=[True, False]),
        {1: "number as key"},
        {"type": "taken for a dataclass"},
        HasType(),
        HasType,
    ],
    ids=lambda value: type(value).__name__,
)
def test_canonical_json_refuses(value: Any) -> None:
    """What has no text of its own is refused, and the message says where it stood."""
    with pytest.raises(ValueError, match=r"^value\.inner\[1\] must (be|have|hold) "):
        canonical_json({"inner": [0, value]})


@settings(max_examples=100)
@given(
    st.dictionaries(
        NAMES,
        VALUES | DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0))),
        max_size=3,
    )
)
def test_results_round_trip(result: dict[str, Any]) -> None:
    """Every result comes back identical: floats to the bit, arrays with dtype and shape."""
    assert identical(decode_result(encode_result(result)), result)


def test_results_are_normalised() -> None:
    """Tuples become lists and numpy scalars numbers, once: encoding what came back gives the same text."""
    text = encode_result(Arrays(0).run())
    result = decode_result(text)
    assert result["pair"] == [1, 2.0]
    assert type(result["scalar"]) is float
    assert result["point"].shape == ()
    assert result["nested"]["list"][3]["array"].dtype == bool
    assert encode_result(result) == text


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([1.0], "result must be a dict, got list"),
        (None, "result must be a dict, got NoneType"),
        ({"a": {"root": 1j}}, r"result\.a\.root must be a number, .* got complex 1j"),
        ({"a": np.array([1j])}, r"result\.a must hold real numbers .* got ndarray of complex128"),
        ({"a": np.array([1], dtype=object)}, r"result\.a must hold real numbers .* got ndarray of object"),
        ({"a": Square(1, "")}, r"result\.a must be a number, .* got Square"),
        ({1: 0}, r"result must have string keys .* got the key 1"),
        ({"a": {"__array__": 0}}, r"result\.a must have string keys other than '__array__'"),
    ],
)
def test_results_refused(result: Any, message: str) -> None:
    """What could not be restored is refused, with its place."""
    with pytest.raises(ValueError, match=message):
        encode_result(result)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="no wider float on this machine")
def test_results_refuse_wider_floats() -> None:
    """A float of more than 64 bits would lose digits."""
    with pytest.raises(ValueError, match="at most 64 bits"):
        encode_result({"a": np.longdouble(1)})
