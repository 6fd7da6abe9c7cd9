"""Attention evaluated on every context at once: contexts share the keys, queries and values of their tokens.

Contexts are ordered lexicographically, the first token most significant, so that the contexts of length S are an
array with S axes of size N. States are kept feature-major, (features, N^S): the matrix products are then wide.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from plumbline.models.memorization.fused import attention_of_two


def token_attention(query: Tensor, inputs: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    r"""Return what the heads add at the last position, where queries, keys and values depend on one token each.

    .. math:: y(t) = \sum_h \sum_s a_{hs}(t)\, v_{hs}(t_s), \qquad a_{h·}(t) = softmax_s\, q_h(t_S)^T x_s(t_s)

    Of two positions the first has the weight σ(q·x_1 − q·x_2).

    Args:
        query: q_h = W_K^T W_Q x_S (heads, d, N), of each token at the last position.
        inputs: x_s for each of the S positions (d, N).
        values: For each of the S positions (N, m, heads).

    Returns:
        Tensor (m, N^S).
    """
    length, vocab_size = len(inputs), query.shape[-1]
    if length == 1:  # nothing to choose from
        return values[0].sum(2).mT
    if length == 2:
        return attention_of_two(query, list(inputs), list(values)).flatten(1)
    own = (inputs[-1] * query).sum(1)  # (heads, N): the last position meets its own token only
    others = [x.mT @ query for x in inputs[:-1]]  # (heads, N, N): by t_s and t_S
    shape = (len(query), *(vocab_size,) * length)
    scores = [_between(score, s, length).expand(shape) for s, score in enumerate(others)]
    scores.append(_between(own, length - 1, length).expand(shape))
    weights = torch.stack(scores).softmax(0)
    total = _mixture(weights[0], values[0], 0)
    for s in range(1, length):
        total = total + _mixture(weights[s], values[s], s)
    return total.flatten(1)


def prefix_attention(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Return the attended values, where keys and values at position r depend on the first r tokens.

    Under a causal mask that is all they can depend on: the contexts form a tree, and position r has N^r states.

    Args:
        query: (heads, e, N^s), of each context at its last position s.
        keys: For r = 1, …, s (heads, e, N^r).
        values: For r = 1, …, s (heads, f, N^r).

    Returns:
        Tensor (heads, f, N^s).
    """

    def extended(table: Tensor) -> tuple[Tensor, tuple[int, int]]:
        return table.unsqueeze(-1), (table.shape[-1], query.shape[-1] // table.shape[-1])

    scores = []
    for key in keys:
        prefix, split = extended(key)
        scores.append((query.unflatten(-1, split) * prefix).sum(1).flatten(1))
    weights = torch.stack(scores).softmax(0)
    total = torch.zeros((), dtype=query.dtype, device=query.device)
    for weight, value in zip(weights, values, strict=True):
        prefix, split = extended(value)
        total = total + (weight.unflatten(-1, split).unsqueeze(1) * prefix).flatten(2)
    return total


def _between(score: Tensor, position: int, length: int) -> Tensor:
    """Give a score (heads, N, …) the axes of a context, those of other tokens of size one."""
    if position == length - 1:
        return score.view(len(score), *(1,) * (length - 1), score.shape[-1])
    ones = (1,) * (length - 2 - position)
    return score.view(len(score), *(1,) * position, score.shape[1], *ones, score.shape[2])


def _mixture(weight: Tensor, value: Tensor, position: int) -> Tensor:
    """∑_h weight[h, t_1, …, t_S] value[t_s, :, h], (m, N, …, N): one matrix product for each token t_s."""
    by_token = weight.movedim(1 + position, 0)
    mixed = value @ by_token.flatten(2)
    return mixed.unflatten(2, by_token.shape[2:]).movedim(0, 1 + position)
