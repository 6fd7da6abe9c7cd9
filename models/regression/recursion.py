"""The risk of a linear transformer with published weights given W, as a recursion over its layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plumbline.models.regression.small_matrices import layout
from plumbline.models.tensors import constant
from plumbline.theory.regression.task import RegressionTask


@dataclass(frozen=True)
class Frame:
    """Coordinates z = R^{-1} x, R R^T = Σ, in which the query is isotropic; ``None`` stands for the identity.

    Attributes:
        root: R.
        inverse: R^{-1}.
        weight: R^T Ψ R, the covariance of the weight vector in this frame.
        spread: σ²/n.
    """

    root: Tensor | None
    inverse: Tensor | None
    weight: Tensor | None
    spread: float

    def network(self, key_query: Tensor, value: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """K and B of the network that does in this frame what the given one does to x."""
        if self.root is None or self.inverse is None:
            return key_query, value
        value = None if value is None else self.inverse @ value @ self.root
        return self.root.mT @ key_query @ self.root, value


def frame(task: RegressionTask, like: Tensor) -> Frame:
    """The frame of a task, in dtype and on device of ``like``."""
    root, inverse, weight = (None if matrix is None else constant(matrix, like) for matrix in _frame(task))
    return Frame(root, inverse, weight, task.noise_variance / task.context_length)


@lru_cache(maxsize=64)
def _frame(task: RegressionTask) -> tuple[np.ndarray | None, ...]:
    sigma, psi, eye = task.second_moment, task.weight_covariance_matrix, np.eye(task.dim)
    root = np.linalg.cholesky(sigma)
    weight = root.T @ psi @ root
    plain = np.array_equal(sigma, eye)
    return (
        None if plain else root,
        None if plain else np.linalg.inv(root),
        None if np.array_equal(weight, eye) else weight,
    )


def conditional_risks(w: Tensor, frame: Frame, key_query: Tensor, value: Tensor | None, layers: int) -> Tensor:
    """Risk given each W.

    Args:
        w: W, (N, d, d).
        frame: The task's frame.
        key_query: K in this frame, (layers, heads, d, d), or (1, heads, d, d) for the same weights in every layer.
        value: B in this frame, likewise; ``None`` for B = 0.
        layers: Number of layers L.

    Returns:
        Tensor (N,), differentiable to any order in all its arguments.
    """
    kernel = layout(w.shape[-1])
    w = kernel.stack(w)
    if frame.inverse is not None:
        w = kernel.right(kernel.left(frame.inverse, w), frame.inverse.mT)
    learned, answer = _answers(kernel, w, key_query, value, layers)
    error = kernel.shared(torch.eye(w.shape[1], dtype=w.dtype, device=w.device)) + learned
    risk = kernel.inner(error, error if frame.weight is None else kernel.left(frame.weight, error))
    if frame.spread:
        risk = risk + frame.spread * kernel.inner(learned, answer)
    return risk


def _answers(kernel: Any, w: Tensor, key_query: Tensor, value: Tensor | None, layers: int) -> tuple[Tensor, Tensor]:
    r"""W D_L and D_L as stacks (D_1 with a single sample): the prediction is -r^T D_L x_q, r = (1/n) ∑ y_i x_i.

    From S_0 = I and D_0 = 0, with U_{lh} = S_l^T K_{lh} S_l,

    .. math:: D_{l+1} = D_l + (I + D_l W) ∑_h U_{lh}, \quad S_{l+1} = S_l + ∑_h B_{lh} S_l W U_{lh}.

    S_0 and D_1 = ∑_h K_{0h} are the same for all samples, and S_L is not needed, which spares their products.
    """
    keys = list(key_query.expand(layers, -1, -1, -1))
    first, summed = keys[0].sum(0), [k.sum(0) for k in keys]
    answer = kernel.shared(first)
    if layers == 1:
        return kernel.right(w, first), answer
    if value is None:
        for layer in range(1, layers):
            below = kernel.left(first, w) if layer == 1 else kernel.product(answer, w)
            answer = answer + kernel.shared(summed[layer]) + kernel.right(below, summed[layer])
        return kernel.product(w, answer), answer

    blocks = list(value.expand(layers, -1, -1, -1))
    moved = kernel.shared(torch.eye(len(first), dtype=w.dtype, device=w.device))
    moved = moved + _sum(kernel.left(b, kernel.right(w, k)) for b, k in zip(blocks[0], keys[0], strict=True))
    for layer in range(1, layers):
        turned = kernel.transpose(moved)
        if layer == layers - 1:
            update = kernel.product(turned, kernel.left(summed[layer], moved))
            step = kernel.product(w, update)
        else:
            updates = [kernel.product(turned, kernel.left(k, moved)) for k in keys[layer]]
            steps = [kernel.product(w, u) for u in updates]
            moved = moved + _sum(
                kernel.left(b, kernel.product(moved, y)) for b, y in zip(blocks[layer], steps, strict=True)
            )
            update, step = _sum(updates), _sum(steps)
        carried = kernel.left(first, step) if layer == 1 else kernel.product(answer, step)
        answer = answer + update + carried
    return kernel.product(w, answer), answer


def _sum(stacks: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, stacks)
