"""Validation of tensors: the messages of `plumbline.theory.checks` for what torch code is given."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from plumbline.theory import checks

DTYPES = (torch.float32, torch.float64)


def tensor(name: str, value: Any, shape: tuple[int | None, ...], *, leading: bool = False) -> Tensor:
    """Return ``value`` if it is a finite floating-point tensor of this shape, or raise ValueError.

    ``None`` in ``shape`` is any size of at least one; with ``leading`` any axes may come before. Inside
    ``torch.func.vmap`` values cannot steer Python, so a tensor with a run axis is checked for its shape only.
    """
    wanted = ("(..., " if leading else "(") + ", ".join("any" if n is None else str(n) for n in shape) + ")"
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor of shape {wanted}, got {type(value).__name__}")
    if value.dtype not in DTYPES:
        raise ValueError(f"{name} must be of dtype float32 or float64, got {value.dtype}")
    tail = value.shape[value.ndim - len(shape) :] if leading else value.shape
    fits = len(tail) == len(shape) and all(
        (got >= 1 if want is None else got == want) for got, want in zip(tail, shape, strict=True)
    )
    if not fits or value.numel() == 0:
        raise ValueError(f"{name} must have shape {wanted}, got shape {tuple(value.shape)}")
    try:
        # One pass without a temporary: a sum is finite only if every entry is.
        finite = math.isfinite(value.detach().sum())
    except RuntimeError:  # inside vmap
        return value
    if not finite and (bad := int((~value.isfinite()).sum())):
        raise ValueError(f"{name} must be finite, got {bad} entries that are not")
    return value


def constant(value: Any, like: Tensor) -> Tensor:
    """Return an array as a tensor of the dtype and device of ``like``."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def placement(generator: Any, dtype: Any, device: Any, *, optional: bool = False) -> tuple[torch.dtype, torch.device]:
    """Return (dtype, device) for random draws; without a device, the one the generator lives on."""
    checks.one_of("dtype", dtype, DTYPES)
    if not isinstance(generator, torch.Generator) and not (optional and generator is None):
        raise ValueError(f"generator must be a torch.Generator, got {generator!r}")
    if device is None:
        return dtype, torch.device("cpu") if generator is None else generator.device
    try:
        return dtype, torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must name a torch device, got {device!r}") from error
