"""Attention over one-hot embeddings by lookup: scores are sums of two entries, values are added where tokens point."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from plumbline.theory.reasoning.layer import RELU_OFFSET


def activate(scores: Tensor, attention: str) -> Tensor:
    """Attention weights of scores (batch, H)."""
    if attention == "relu":
        return (scores + RELU_OFFSET).relu()
    return scores.softmax(1) if attention == "softmax" else scores


def attend(own: Tensor, shifted: Tensor, tokens: Tensor, attention: str) -> tuple[Tensor, Tensor]:
    r"""Return the attention-weighted sum of the embeddings, by its two halves, each (batch, N).

    .. math:: s_h = u_{z_h} + u~_{z_{h-1}}, \quad m_v = ∑_h a_h 1[z_h = v], \quad m~_v = ∑_{h≥1} a_h 1[z_{h-1} = v]

    Args:
        own: u, (batch, N), the score of each token, the half E of x_H^T W.
        shifted: u~, (batch, N), the score of each token before, its half E~.
        tokens: z, (batch, H).
        attention: ``"linear"``, ``"relu"`` or ``"softmax"``.
    """
    mixed, behind, _ = _Attend.apply(own, shifted, tokens, attention)
    return mixed, behind


def _gather(own: Tensor, shifted: Tensor, tokens: Tensor) -> Tensor:
    """u_{z_h} + u~_{z_{h-1}}, (batch, H)."""
    scores = own.gather(1, tokens)
    scores[:, 1:] += shifted.gather(1, tokens[:, :-1])
    return scores


def _scatter(weights: Tensor, tokens: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Sums of weights by token and by the token before, (batch, size); the adjoint of `_gather`."""
    nothing = weights.new_zeros(len(tokens), size)
    return nothing.scatter_add(1, tokens, weights), nothing.scatter_add(1, tokens[:, :-1], weights[:, 1:])


class _Attend(torch.autograd.Function):
    """`attend` and its weights. Its gradient by hand touches the (batch, H) arrays half as often as autograd would."""

    generate_vmap_rule = True

    @staticmethod
    def forward(own: Tensor, shifted: Tensor, tokens: Tensor, attention: str) -> tuple[Tensor, Tensor, Tensor]:
        weights = activate(_gather(own, shifted, tokens), attention)
        return *_scatter(weights, tokens, own.shape[1]), weights

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        own, _, tokens, attention = inputs
        ctx.save_for_backward(tokens, output[2])
        ctx.size, ctx.attention = own.shape[1], attention
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *by: Tensor | None) -> Any:
        tokens, weights = ctx.saved_tensors
        nothing = weights.new_zeros(len(tokens), ctx.size)
        by_mixed, by_behind, by_weights = by
        slopes = _gather(nothing if by_mixed is None else by_mixed, nothing if by_behind is None else by_behind, tokens)
        if by_weights is not None:
            slopes = slopes + by_weights
        if ctx.attention == "relu":
            slopes = slopes * (weights > 0)
        elif ctx.attention == "softmax":
            slopes = slopes * weights
            slopes = slopes - weights * slopes.sum(1, keepdim=True)
        return *_scatter(slopes, tokens, ctx.size), None, None
