"""Textbook predictors that answer the query of a prompt from its examples: batched, differentiable torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from plumbline.models.regression.prompts import Prompts, tokens_of
from plumbline.models.tensors import constant, tensor
from plumbline.theory import checks


def gradient_descent(prompts: Prompts | Tensor, step_sizes: Any) -> Tensor:
    r"""Answer w_L · x_q after L steps of gradient descent from w = 0 on the prompt's least-squares loss.

    .. math:: w ← w - η_l ∇f(w), \quad f(w) = \tfrac{1}{2n} |y - X w|²

    Args:
        prompts: Prompts, or their tokens (batch, n+1, d+1).
        step_sizes: η_0, …, η_{L-1}, a sequence or tensor (L,), L ≥ 1.

    Returns:
        Predictions (batch,).

    Raises:
        ValueError: on other shapes or non-finite input.

    Example:
        >>> tokens = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])  # y = 2 at x = 1, asked at x = 3
        >>> gradient_descent(tokens, [0.5, 0.5]).item()
        4.5
    """
    tokens = tokens_of(prompts)
    return preconditioned_gradient_descent(tokens, step_sizes, torch.eye(tokens.shape[-1] - 1))


def preconditioned_gradient_descent(prompts: Prompts | Tensor, step_sizes: Any, preconditioner: Any) -> Tensor:
    r"""Answer w_L · x_q after L steps w ← w - η_l A_l^T ∇f(w) from w = 0, f(w) = |y - X w|²/(2n).

    One step answers η r^T A x_q with r = (1/n) ∑ y_i x_i, which is where the transpose comes from; preconditioners are
    usually symmetric.

    Args:
        prompts: Prompts, or their tokens (batch, n+1, d+1).
        step_sizes: η_0, …, η_{L-1}, a sequence or tensor (L,), L ≥ 1.
        preconditioner: A (d, d) for all steps, or (L, d, d); array or tensor.

    Returns:
        Predictions (batch,).

    Raises:
        ValueError: on other shapes or non-finite input.
    """
    x, y, query = _split(prompts)
    steps = _numbers("step_sizes", step_sizes, (None,), x)
    d = x.shape[-1]
    each = np.ndim(preconditioner) == 3
    a = _numbers("preconditioner", preconditioner, (len(steps), d, d) if each else (d, d), x).expand(len(steps), d, d)
    w = torch.zeros_like(query)
    for layer, step in enumerate(steps):
        residual = (y - (x @ w.unsqueeze(-1)).squeeze(-1)).unsqueeze(-2)
        w = w + step * (residual @ x).squeeze(-2) / x.shape[1] @ a[layer]
    return (w * query).sum(-1)


def least_squares(prompts: Prompts | Tensor, *, metric: Any = None) -> Tensor:
    """Answer ŵ · x_q with the least-squares solution ŵ, the one of smallest norm where there are many (n < d).

    Args:
        prompts: Prompts, or their tokens (batch, n+1, d+1).
        metric: Σ symmetric positive definite (d, d): the norm is then w^T Σ w; ``None`` is the identity. It
            matters only where the examples do not determine w.

    Returns:
        Predictions (batch,).

    Raises:
        ValueError: on other shapes, non-finite input or an indefinite metric.
    """
    x, y, query = _whitened(prompts, metric)
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    # The usual rank decision: singular values below max(n, d) · eps of the largest are zero.
    rounding = max(x.shape[1:]) * torch.finfo(x.dtype).eps * s[:, :1]
    gain = torch.where(s > rounding, 1 / s, 0)
    return _filtered(u, gain, vh, y, query)


def ridge(prompts: Prompts | Tensor, penalty: float, *, metric: Any = None) -> Tensor:
    r"""Answer ŵ · x_q with the minimiser of |y - X w|²/(2n) + (λ/2) |w|².

    With λ = σ²/n, Ψ = Σ^{-1} and the norm w^T Σ w this is the Bayes predictor.

    Args:
        prompts: Prompts, or their tokens (batch, n+1, d+1).
        penalty: λ > 0.
        metric: Σ symmetric positive definite (d, d): the penalty is then (λ/2) w^T Σ w; ``None`` is the identity.

    Returns:
        Predictions (batch,).

    Raises:
        ValueError: on other shapes, non-finite input, a penalty that is not positive or an indefinite metric.

    Example:
        >>> tokens = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])  # y = 2 at x = 1, asked at x = 3
        >>> ridge(tokens, 1.0).item()
        3.0
    """
    penalty = checks.real("penalty", penalty, above=0.0)
    x, y, query = _whitened(prompts, metric)
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    return _filtered(u, s / (s**2 + x.shape[1] * penalty), vh, y, query)


def _split(prompts: Prompts | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x (batch, n, d), y (batch, n) and x_q (batch, d)."""
    tokens = tokens_of(prompts)
    return tokens[:, :-1, :-1], tokens[:, :-1, -1], tokens[:, -1, :-1]


def _whitened(prompts: Prompts | Tensor, metric: Any) -> tuple[Tensor, Tensor, Tensor]:
    """As `_split`, with R^{-1} x for x, R R^T = Σ: the plain norm is then that of Σ."""
    x, y, query = _split(prompts)
    if metric is None:
        return x, y, query
    d = x.shape[-1]
    root = torch.linalg.cholesky(constant(checks.positive_definite("metric", metric, d), x))

    def whiten(rows: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(root, rows.mT, upper=False).mT

    return whiten(x), y, whiten(query.unsqueeze(1)).squeeze(1)


def _filtered(u: Tensor, gain: Tensor, vh: Tensor, y: Tensor, query: Tensor) -> Tensor:
    """x_q^T V diag(gain) U^T y."""
    return torch.einsum("bi,bki,bk,bnk,bn->b", query, vh, gain, u, y)


def _numbers(name: str, value: Any, shape: tuple[int | None, ...], like: Tensor) -> Tensor:
    """An array-like or tensor of this shape, in dtype and on device of ``like``; tensors keep their gradient."""
    if isinstance(value, Tensor):
        return tensor(name, value.to(like), shape)
    return constant(checks.array(name, value, shape), like)
