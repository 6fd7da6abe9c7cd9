"""The grid of a sweep: which keys an experiment has, what values are written for them, and their product."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from itertools import product
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from plumbline.theory import checks

Point = dict[str, Any]
MAX_VALUES = 10**6
"""Largest number of values of one key."""


@dataclass(frozen=True)
class Key:
    """One key of a grid.

    Args:
        name: Its name, that of a parameter of the experiment.
        kind: ``int``, ``float``, ``bool`` or ``str``.
        default: Its value where the grid does not name it; ``None``: the budget or the task decides.
        choices: The words allowed; empty where any value of the kind is.
        joined: Whether the values of several points train in one ensemble.
    """

    name: str
    kind: type
    default: Any
    choices: tuple[str, ...] = ()
    joined: bool = False

    def __str__(self) -> str:
        default = "" if self.default is None else f" = {_text(self.default)}"
        return f"{self.name}: {' | '.join(self.choices) or self.kind.__name__}{default}"

    def parse(self, text: str) -> list[Any]:
        """Return the values written as ``2,5,10``, ``5:50:5`` (both ends included), or both."""
        values: list[Any] = []
        for part in text.split(","):
            values += self._range(part) if ":" in part and self.kind in (int, float) else [self._single(part.strip())]
        return values

    def _single(self, text: str) -> Any:
        if self.default is None and text.lower() == "none":
            return None
        try:
            if self.kind is bool:
                return {"true": True, "false": False}[text.lower()]
            if self.kind is not str:
                return self.kind(text)
        except (KeyError, ValueError):
            raise ValueError(f"{self.name} must be {self._wanted()}, got {text!r}") from None
        return text

    def _range(self, text: str) -> list[Any]:
        parts = [self._single(part.strip()) for part in text.split(":")]
        if len(parts) not in (2, 3) or None in parts:
            raise ValueError(f"{self.name} must have ranges of the form start:stop or start:stop:step, got {text!r}")
        start, stop, step = (*parts, 1)[:3]
        # The last value may miss the end by rounding: 0:1:0.1 has eleven values.
        count = math.floor((stop - start) / step * (1 + 1e-9) + 1e-9) + 1 if step and math.isfinite(stop - start) else 0
        if not 1 <= count <= MAX_VALUES:
            raise ValueError(f"{self.name} must have ranges of 1 to {MAX_VALUES} values, got {text!r}")
        values = [start + step * place for place in range(count)]
        # Written in decimals, 0.1 + 2·0.1 is 0.3.
        return values if self.kind is int else [float(f"{value:.12g}") for value in values]

    def check(self, value: Any) -> Any:
        """Return a value given from Python as one of the kind.

        Raises:
            ValueError: if it is none, with the nearest word where there are choices.
        """
        if value is None and self.default is None:
            return None
        if self.choices:
            return checks.one_of(self.name, value, self.choices)
        if self.kind is int:
            return checks.integer(self.name, value)
        if self.kind is float:
            return checks.real(self.name, value)
        if not isinstance(value, self.kind):
            raise ValueError(f"{self.name} must be {self._wanted()}, got {value!r}")
        return value

    def _wanted(self) -> str:
        return {int: "an integer", float: "a number", bool: "true or false", str: "a word"}[self.kind]


def keys_of(function: Callable[..., Any], leave_out: Iterable[str]) -> dict[str, Key]:
    """The keyword parameters of a function or dataclass as keys.

    Their types may be ``int | None``, literals, and ``tuple[float, ...]`` for keys whose values train together.
    """
    hints = get_type_hints(function)
    return {
        name: _key(parameter, hints[name])
        for name, parameter in signature(function).parameters.items()
        if name not in leave_out and parameter.kind is not Parameter.VAR_KEYWORD and _simple(hints[name])
    }


def _simple(hint: Any) -> bool:
    """Whether values of this type can be written at the shell."""
    if get_origin(hint) is Literal:
        return True
    parts = [part for part in get_args(hint) if part not in (NoneType, Ellipsis)]
    return all(map(_simple, parts)) if parts else hint in (int, float, bool, str)


def _key(parameter: Parameter, hint: Any) -> Key:
    joined = get_origin(hint) is tuple
    hint = get_args(hint)[0] if joined else hint
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    if get_origin(hint) is Literal:
        return Key(parameter.name, str, parameter.default, tuple(kinds))
    if len(kinds) == 1 and get_origin(kinds[0]) is Literal:
        return Key(parameter.name, str, parameter.default, get_args(kinds[0]))
    return Key(parameter.name, kinds[0], parameter.default[0] if joined else parameter.default, joined=joined)


def parse_grid(texts: Iterable[str], keys: Mapping[str, Key]) -> dict[str, list[Any]]:
    """Return a grid from texts of the form ``key=values``.

    Args:
        texts: ``"dim=2,5,10"``, ``"context_length=5:50:5"``, ``"value_block=free"``; a key given twice has both.
        keys: The keys by name.

    Raises:
        ValueError: on another form, a key that is not there (with the nearest names), or a bad value.

    Example:
        >>> keys = {"dim": Key("dim", int, 5), "noise": Key("noise", float, 0.0)}
        >>> parse_grid(["dim=2,5:15:5", "noise=0:0.3:0.1"], keys)
        {'dim': [2, 5, 10, 15], 'noise': [0.0, 0.1, 0.2, 0.3]}
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, sign, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not values.strip():
            raise ValueError(f"grid must be written as key=values, got {text!r}")
        grid.setdefault(known_key(name, keys).name, []).extend(keys[name].parse(values))
    return grid


def known_key(name: str, keys: Mapping[str, Key]) -> Key:
    """The key of this name, or ValueError with the nearest names."""
    checks.one_of("grid key", name, keys)
    return keys[name]


def checked_grid(grid: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, list[Any]]:
    """The values of every key: those of the grid, each once, and the default of the others."""
    for name in grid:
        known_key(name, keys)
    result = {}
    for name, key in keys.items():
        given = grid.get(name, [key.default])
        if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray | Iterator | range):
            given = [given]
        result[name] = list(dict.fromkeys(key.check(value) for value in given))
        if not result[name]:
            raise ValueError(f"{name} must have at least one value, got none")
    return result


def points(grid: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
    """The product of the values, the last key changing fastest."""
    for values in product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
