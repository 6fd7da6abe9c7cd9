"""Noise-free prompts by what matters of them: the published squared loss without tokens, at a cost free of n."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from plumbline.models.regression.prompts import (
    Prompts,
    gram,
    sample_covariates,
    sample_weights,
    sample_wisharts,
    tokens_of,
)
from plumbline.models.regression.small_matrices import multiply_stacks
from plumbline.models.tensors import tensor
from plumbline.theory.regression.task import RegressionTask, check_task

# S_l is never formed up to this layer: it is applied to vectors, at a cost that triples with each layer.
VECTORS_ONLY = 2


class Instances(NamedTuple):
    """All that the loss of a batch of noise-free prompts depends on.

    Attributes:
        wisharts: W = (1/n) ∑ x_i x_i^T, (..., batch, d, d).
        weights: w, (..., batch, d).
        queries: x_q, (..., batch, d).
    """

    wisharts: Tensor
    weights: Tensor
    queries: Tensor


def sample_instances(
    task: RegressionTask,
    batch: int,
    *,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Instances:
    """Draw what matters of independent prompts, with the law that those of `sample_prompts` have.

    Gaussian covariates are never drawn: W comes from Bartlett's decomposition, see `sample_wisharts`.

    Args:
        task: The data distribution, without label noise.
        batch: Number of prompts, from 1 up.
        generator: Source of all randomness; the same state gives the same instances.
        dtype: float32 or float64.
        device: Device of the result; ``None`` is the generator's.

    Raises:
        ValueError: naming the parameter, its value and what is allowed; on a task with label noise.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> sample_instances(RegressionTask(5, 20), 3, generator=generator).wisharts.shape
        torch.Size([3, 5, 5])
    """
    if check_task(task).noise_variance:
        raise ValueError(f"task must have noise_variance 0 for instances, got {task.noise_variance}")
    wisharts = sample_wisharts(task, batch, generator=generator, dtype=dtype, device=device)
    weights = sample_weights(task, batch, generator=generator, like=wisharts)
    return Instances(wisharts, weights, sample_covariates(task, (batch,), generator, wisharts.dtype, wisharts.device))


def instances_of(prompts: Prompts) -> Instances:
    """Return what matters of given noise-free prompts.

    Args:
        prompts: Prompts (batch, n+1, d+1) with their weight vectors; labels are taken to be w·x_i.

    Raises:
        ValueError: if ``prompts`` are no `Prompts`, or a label differs from w·x_i by more than rounding.
    """
    if not isinstance(prompts, Prompts):
        raise ValueError(f"prompts must be Prompts with their weight vectors, got {type(prompts).__name__}")
    tokens = tokens_of(prompts)
    x, y = tokens[:, :-1, :-1], tokens[:, :-1, -1]
    off = (y - torch.einsum("bnd,bd->bn", x, prompts.weights)).abs().max() / y.abs().max().clamp(min=1e-300)
    if off > 1e4 * torch.finfo(tokens.dtype).eps:
        raise ValueError(f"prompts must be free of label noise, got labels that differ from w·x by {off:.3g} of them")
    d = x.shape[-1]
    return Instances(gram(tokens)[:, :d, :d], prompts.weights, tokens[:, -1, :-1])


def prediction_errors(
    instances: Instances, key_query: Tensor, value: Tensor | None, layers: int, *, own: bool = False
) -> Tensor:
    r"""Return prediction - w·x_q of each instance, with any number of run axes in front.

    From c_0 = w and S_0 = I, in the first layers with vectors in the place of matrices,

    .. math:: c_{l+1} = c_l + ∑_h S_l^T K_{lh}^T S_l W c_l, \quad
              S_{l+1} = S_l + ∑_h B_{lh} S_l W S_l^T K_{lh} S_l, \quad \text{error} = -c_L^T x_q.

    Its square averages to the published loss. Differentiable to any order in the weights.

    Args:
        instances: With axes (..., batch) in front.
        key_query: K, (..., layers, heads, d, d), or (..., 1, heads, d, d) for the same weights in every layer. With
            ``own`` every instance has weights of its own, (..., layers, heads, d, d, batch).
        value: B, likewise; ``None`` for B = 0.
        layers: Number of layers L.
        own: Whether every instance has weights of its own.

    Returns:
        Tensor (..., batch).

    Raises:
        ValueError: on shapes that do not fit or non-finite instances.

    Source:
        Derived here; the same numbers as `LinearTransformer.forward` on the prompts.
    """
    d = key_query.shape[-2]
    wisharts = tensor("wisharts", instances.wisharts, (None, d, d), leading=True)
    batch = wisharts.shape[-3]
    c = tensor("weights", instances.weights, (batch, d), leading=True).mT
    queries = tensor("queries", instances.queries, (batch, d), leading=True).mT
    w = wisharts.movedim(-3, -1).contiguous()
    layer_axis = -5 if own else -4
    if key_query.shape[layer_axis] not in (1, layers):
        raise ValueError(f"key_query must have {layers} layers or one for all, got shape {tuple(key_query.shape)}")

    def stacks(parameter: Tensor) -> list[list[Tensor]]:
        rows = [list(layer.unbind(layer_axis + 1)) for layer in parameter.unbind(layer_axis)]
        return rows * (layers // len(rows))

    keys = stacks(key_query)
    blocks = None if value is None else stacks(value)

    def by(matrix: Tensor, vector: Tensor) -> Tensor:
        return multiply_stacks(matrix, vector.unsqueeze(-2)).squeeze(-2) if own else matrix @ vector

    def turned(matrix: Tensor) -> Tensor:
        return matrix.transpose(-3, -2) if own else matrix.mT

    def by_w(vector: Tensor) -> Tensor:
        return multiply_stacks(w, vector.unsqueeze(-2)).squeeze(-2)

    formed: dict[int, Tensor] = {}

    def moved(layer: int, vector: Tensor) -> Tensor:
        """S_layer times the vector."""
        if blocks is None:
            return vector
        if layer in formed:
            return multiply_stacks(formed[layer], vector.unsqueeze(-2)).squeeze(-2)
        for below in range(layer):
            for_heads = [
                by(b, moved(below, by_w(moved_back(below, by(k, vector)))))
                for b, k in zip(blocks[below], keys[below], strict=True)
            ]
            vector = vector + sum(for_heads)
        return vector

    def moved_back(layer: int, vector: Tensor) -> Tensor:
        """S_layer^T times the vector."""
        if blocks is None:
            return vector
        if layer in formed:
            return multiply_stacks(formed[layer].transpose(-3, -2), vector.unsqueeze(-2)).squeeze(-2)
        for below in reversed(range(layer)):
            for_heads = [
                by(turned(k), moved(below, by_w(moved_back(below, by(turned(b), vector)))))
                for b, k in zip(blocks[below], keys[below], strict=True)
            ]
            vector = vector + sum(for_heads)
        return vector

    def columns(layer: int) -> Tensor:
        """S_layer as a stack: column by column of the identity, or one step on from the layer below."""
        if layer - 1 not in formed:
            unit = torch.eye(d, dtype=w.dtype, device=w.device)
            sides = [moved(layer, unit[:, i : i + 1].expand(*c.shape)) for i in range(d)]
            return torch.stack(sides, dim=-2)
        assert blocks is not None
        below = formed[layer - 1]
        parts = []
        for b, k in zip(blocks[layer - 1], keys[layer - 1], strict=True):
            own_b, own_k = (part if own else part.unsqueeze(-1) for part in (b, k))
            read = multiply_stacks(below.transpose(-3, -2), multiply_stacks(own_k, below))
            parts.append(multiply_stacks(own_b, multiply_stacks(below, multiply_stacks(w, read))))
        return below + sum(parts)

    for layer in range(layers):
        if blocks is not None and layer > VECTORS_ONLY:
            formed[layer] = columns(layer)
        read = turned(torch.stack(keys[layer]).sum(0))
        c = c + moved_back(layer, by(read, moved(layer, by_w(c))))
    return -(c * queries).sum(-2)
