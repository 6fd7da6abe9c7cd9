"""JSON without loss: one text for each job, and results that come back exactly as they were."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

_TYPE = "type"  # names the class of a dataclass in canonical JSON
_ARRAY = "__array__"  # marks an array in a result: [dtype, shape, entries]


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a job, a task or any nest of dataclasses, sequences, dicts and scalars.

    A dataclass becomes ``{"type": "module.Qualname", field: value, …}``, tuples and arrays become lists, keys
    are sorted, and floats are written by ``repr``, so that values have one text only where they are the same.

    Raises:
        ValueError: for anything without such a text: complex numbers, sets, other objects, keys that are no
            strings, and the name ``"type"`` for a field or a key.

    Example:
        >>> print(canonical_json({"seed": 1, "rates": (0.1, 1e-3)}))
        {"rates":[0.1,0.001],"seed":1}
    """
    return json.dumps(_plain(value, "value", for_key=True), sort_keys=True, separators=(",", ":"))


def encode_result(result: Any) -> str:
    """Return the JSON text of a job's result, from which `decode_result` restores it exactly.

    Floats are written by ``repr`` (NaN and infinities included); arrays keep dtype and shape; tuples come
    back as lists and numpy scalars as Python numbers.

    Args:
        result: A dict of numbers, strings, bools, None, numpy arrays, and lists and dicts of these.

    Raises:
        ValueError: for anything else, with the place where it was found.

    Example:
        >>> text = encode_result({"loss": np.float64(0.1), "matrix": np.eye(2)})
        >>> decode_result(text)["matrix"].trace().item()
        2.0
    """
    if not isinstance(result, dict):
        raise ValueError(f"result must be a dict, got {type(result).__name__}")
    return json.dumps(_plain(result, "result", for_key=False), separators=(",", ":"))


def decode_result(text: str) -> dict[str, Any]:
    """Return the result that `encode_result` wrote."""
    return json.loads(text, object_hook=_restore)


def _restore(entry: dict[str, Any]) -> Any:
    if _ARRAY not in entry:
        return entry
    dtype, shape, entries = entry[_ARRAY]
    return np.array(entries, dtype=dtype).reshape(shape)


def _plain(value: Any, where: str, *, for_key: bool) -> Any:
    """``value`` as what the json module writes without loss; ``where`` names the place in error messages."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return _plain_numpy(value, where, for_key=for_key)
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{where}[{i}]", for_key=for_key) for i, entry in enumerate(value)]
    named: dict[str, Any] = {}
    if for_key and is_dataclass(value) and not isinstance(value, type):
        items = {field.name: getattr(value, field.name) for field in fields(value)}
        named[_TYPE] = f"{type(value).__module__}.{type(value).__qualname__}"
    elif isinstance(value, dict):
        items = value
    else:
        what = "dataclass or numpy array" if for_key else "or numpy array"
        raise ValueError(
            f"{where} must be a number, string, bool, None, list, dict, {what}, got {type(value).__name__} {value!r}"
        )
    reserved = _TYPE if for_key else _ARRAY
    for name, entry in items.items():
        if not isinstance(name, str) or name == reserved:
            raise ValueError(f"{where} must have string keys other than {reserved!r}, got the key {name!r}")
        named[name] = _plain(entry, f"{where}.{name}", for_key=for_key)
    return named


def _plain_numpy(value: Any, where: str, *, for_key: bool) -> Any:
    # Wider floats do not fit the 53 bits of a JSON number, and a mask would be lost.
    exact = value.dtype.kind in "biuU" or (value.dtype.kind == "f" and value.dtype.itemsize <= 8)
    if not exact or isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            f"{where} must hold real numbers of at most 64 bits, bools or strings, "
            f"got {type(value).__name__} of {value.dtype}"
        )
    if for_key or isinstance(value, np.generic):
        return value.tolist()
    return {_ARRAY: [value.dtype.str, list(value.shape), value.ravel().tolist()]}
