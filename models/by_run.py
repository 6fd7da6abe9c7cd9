"""The base of passes that training spends its time in, whose gradients are written by hand, run after run.

Such passes carry a leading run axis. They go through the runs one by one in buffers that stay in the processor's
cache: a batch of runs written with one tensor program each step moves tens of megabytes through memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ByRun(torch.autograd.Function):
    """A function of tensors with a leading run axis; under vmap the vectorised axis joins it."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> Any:
        size = info.batch_size
        moved = (
            tensor.unsqueeze(0).expand(size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
            for tensor, axis in zip(tensors, in_dims, strict=True)
        )
        outputs = cls.apply(*(tensor.flatten(0, 1) for tensor in moved))
        return tuple(output.unflatten(0, (size, -1)) for output in outputs), (0,) * len(outputs)
