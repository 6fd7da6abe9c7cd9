"""Gradients and second derivatives of the loss of a linear transformer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from plumbline.models.regression.instances import Instances, prediction_errors, sample_instances
from plumbline.models.regression.linear_transformer import LinearTransformer
from plumbline.models.regression.recursion import conditional_risks, frame
from plumbline.models.tensors import tensor
from plumbline.theory.regression.task import RegressionTask, check_task

# A Hessian differentiates this many directions at once: the stacks of a chunk should fit the processor's cache.
CHUNK = 15
PIECE = 2000
"""Prompts whose gradients are taken at once."""


class Curvature:
    r"""A scalar loss near given parameters: its gradient, and its Hessian times vectors or whole.

    The K numbers of the parameters stand in a row in the order given, each row-major: the order of
    `Ensemble.vector` for the parameters of a module.

    Args:
        loss: A scalar tensor, differentiable twice in the parameters.
        parameters: The tensors it is a function of, with ``requires_grad``.

    Raises:
        ValueError: if the loss is no scalar or not a function of any parameter.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> Curvature(x[0] ** 2 * x[1], [x]).hessian().tolist()
        [[4.0, 2.0], [2.0, 0.0]]
    """

    def __init__(self, loss: Tensor, parameters: Iterable[Tensor]) -> None:
        self._leaves = list(parameters)
        if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
            got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"loss must be a scalar tensor that depends on the parameters, got {got}")
        parts = torch.autograd.grad(loss, self._leaves, create_graph=True, materialize_grads=True)
        self._gradient = torch.cat([part.reshape(-1) for part in parts])
        self.loss = float(loss.detach())
        """The loss."""

    @property
    def gradient(self) -> Tensor:
        """The gradient, (K,)."""
        return self._gradient.detach().clone()

    def hessian_products(self, vectors: Tensor) -> Tensor:
        """Return the Hessian times each of the vectors (V, K), as (V, K).

        Raises:
            ValueError: on another shape or non-finite vectors.
        """
        vectors = tensor("vectors", vectors, (None, len(self._gradient)))
        if not self._gradient.requires_grad:  # a linear loss
            return torch.zeros_like(vectors)
        rows = []
        for chunk in vectors.split(CHUNK):
            parts = torch.autograd.grad(
                self._gradient,
                self._leaves,
                chunk.to(self._gradient),
                retain_graph=True,
                is_grads_batched=True,
                materialize_grads=True,
            )
            rows.append(torch.cat([part.reshape(len(chunk), -1) for part in parts], dim=1))
        return torch.cat(rows)

    def hessian(self) -> Tensor:
        """Return the whole Hessian, (K, K), symmetric to rounding."""
        return self.hessian_products(torch.eye(len(self._gradient), dtype=self._gradient.dtype))

    def hessian_diagonal(self) -> Tensor:
        """Return the diagonal of the Hessian, (K,)."""
        return self.hessian().diagonal().clone()

    def directional(self, vector: Tensor) -> float:
        r"""Return the second derivative along a direction, :math:`v^T ∇² v / |v|²`.

        Args:
            vector: v, (K,), not zero.

        Raises:
            ValueError: on another shape, a vector that is zero or not finite.
        """
        vector = tensor("vector", vector, (len(self._gradient),))
        size = vector.norm()
        if not size > 0:
            raise ValueError("vector must not be zero, got zeros only")
        unit = vector / size
        return float(unit @ self.hessian_products(unit[None])[0])


def risk_curvature(
    model: LinearTransformer, wisharts: Tensor, task: RegressionTask, shares: Tensor | None = None
) -> Curvature:
    r"""Return the curvature of the mean conditional risk over given W, at the weights of a model.

    .. math:: R(θ) = ∑_W \text{share}_W\, E[(\text{prediction} - w^T x_q)² | W]

    is exact over weight vectors, queries and label noise, and sampled only over W. In its K = 2 L heads d² parameters,
    first all K of the key-query blocks, then all B, the rows and columns of the last layer's B are zero: that block
    has no influence.

    Args:
        model: The model, with published (sparse) weights and linear attention.
        wisharts: W, (N, d, d).
        task: The data distribution.
        shares: (N,), the weight of each W in the mean, adding up to 1; ``None`` for equal ones.

    Raises:
        ValueError: on other shapes, non-finite input, ``full`` weights, an activation, or a task of another dimension.

    Source:
        Derived here: by differentiating the conditional expectation of `LinearTransformer.conditional_risk`.

    Example:
        >>> from plumbline.models.regression import sample_wisharts
        >>> task = RegressionTask(2, 8)
        >>> wisharts = sample_wisharts(task, 50, generator=torch.Generator().manual_seed(0))
        >>> model = LinearTransformer(1, 1, 2, value_block="zero", init_scale=0.0)
        >>> risk_curvature(model, wisharts, task).hessian().shape
        torch.Size([4, 4])
    """
    _check_model(model)
    if check_task(task).dim != model.dim:
        raise ValueError(f"task must have dim {model.dim} as the model, got {task.dim}")
    wisharts = tensor("wisharts", wisharts, (None, model.dim, model.dim))
    if shares is not None:
        shares = tensor("shares", shares, (len(wisharts),))
    # Copies, so that the curvature stays that of these weights when an optimizer goes on.
    leaves = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    there = frame(task, wisharts)
    risks = conditional_risks(wisharts, there, *there.network(*_pair(leaves)), model.layers)
    return Curvature(risks.mean() if shares is None else risks @ shares, leaves)


def batch_gradients(model: LinearTransformer, instances: Instances) -> Tensor:
    r"""Return the gradients of the published loss on batches of prompts.

    .. math:: g_i = ∇_θ \tfrac1{B} ∑_{j ≤ B} (\text{prediction}_{ij} - w_{ij}^T x_{ij})²

    Args:
        model: The model, with published (sparse) weights and linear attention.
        instances: Of M batches of B noise-free prompts, axes (M, B) in front.

    Returns:
        Tensor (M, K), in the order of `risk_curvature`.

    Raises:
        ValueError: on other shapes, non-finite instances, ``full`` weights or an activation.
    """
    _check_model(model)
    _check_instances(instances, axes=2)
    leaves = [
        parameter.detach().expand(len(instances.wisharts), *parameter.shape).requires_grad_()
        for parameter in model.parameters()
    ]
    errors = prediction_errors(instances, *_pair(leaves), model.layers)
    parts = torch.autograd.grad(errors.square().mean(-1).sum(), leaves, materialize_grads=True)
    return torch.cat([part.reshape(len(part), -1) for part in parts], dim=1)


def sampled_gradients(
    model: LinearTransformer, task: RegressionTask, batches: int, batch: int, *, generator: torch.Generator
) -> Tensor:
    """Draw batches of noise-free prompts and return their `batch_gradients`, in pieces of at most `PIECE` prompts.

    Args:
        model: As in `batch_gradients`.
        task: The data distribution, without label noise.
        batches, batch: Number of batches M and of prompts in each B.
        generator: Source of all randomness.

    Returns:
        Tensor (M, K).
    """
    piece = min(batch, PIECE)
    while batch % piece:
        piece -= 1
    pieces = batches * (batch // piece)
    rows = []
    for start in range(0, pieces, max(1, PIECE // piece)):
        count = min(max(1, PIECE // piece), pieces - start)
        drawn = sample_instances(task, count * piece, generator=generator)
        stacked = Instances(*(part.reshape(count, piece, *part.shape[1:]) for part in drawn))
        rows.append(batch_gradients(model, stacked))
    return torch.cat(rows).reshape(batches, batch // piece, -1).mean(1)


def prompt_gradients(model: LinearTransformer, instances: Instances) -> Tensor:
    r"""Return the gradient of the squared error of every prompt, (batch, K): the law of the gradient noise.

    Args:
        model: The model, with published (sparse) weights and linear attention.
        instances: Of noise-free prompts, one axis (batch,) in front.

    Returns:
        Tensor (batch, K), in the order of `risk_curvature`.

    Raises:
        ValueError: as `batch_gradients`.
    """
    _check_model(model)
    _check_instances(instances, axes=1)
    batch = len(instances.wisharts)
    leaves = [
        parameter.detach().unsqueeze(-1).expand(*parameter.shape, batch).requires_grad_()
        for parameter in model.parameters()
    ]
    errors = prediction_errors(instances, *_pair(leaves), model.layers, own=True)
    parts = torch.autograd.grad(errors.square().sum(), leaves, materialize_grads=True)
    return torch.cat([part.reshape(-1, batch) for part in parts]).mT


def _pair(leaves: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    return leaves[0], leaves[1] if len(leaves) > 1 else None


def _check_model(model: LinearTransformer) -> None:
    if not isinstance(model, LinearTransformer):
        raise ValueError(f"model must be a LinearTransformer, got {type(model).__name__}")
    if model.full or model.activation is not None:
        raise ValueError(f"model must have the published (sparse) weights and linear attention, got {model!r}")


def _check_instances(instances: Instances, *, axes: int) -> None:
    if not isinstance(instances, Instances):
        raise ValueError(f"instances must be Instances, got {type(instances).__name__}")
    if instances.wisharts.ndim - 2 != axes:
        raise ValueError(
            f"instances must have {axes} axes in front, got wisharts of shape {tuple(instances.wisharts.shape)}"
        )
