"""Prompts of in-context regression, their Gram matrices, and Wishart matrices drawn without any prompt."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from plumbline.models.regression.small_matrices import layout
from plumbline.models.tensors import constant, placement, tensor
from plumbline.theory import checks
from plumbline.theory.regression.task import RegressionTask, check_task

# Covariates are summed up in blocks of at most this many numbers (64 MiB in float64).
BLOCK = 2**23


class Prompts(NamedTuple):
    """A batch of prompts.

    Attributes:
        tokens: (batch, n+1, d+1): row i is the example (x_i, y_i), the last row the query (x_q, 0).
        weights: (batch, d), the weight vector w of each prompt.
        targets: (batch,), w·x_q, without label noise.
    """

    tokens: Tensor
    weights: Tensor
    targets: Tensor


def sample_prompts(
    task: RegressionTask,
    batch: int,
    *,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Prompts:
    """Draw independent prompts of a task, for every covariate law, covariance and noise.

    Args:
        task: The data distribution.
        batch: Number of prompts, from 1 up.
        generator: Source of all randomness; the same state gives the same prompts.
        dtype: float32 or float64.
        device: Device of the result; ``None`` is the generator's.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> sample_prompts(RegressionTask(5, 20), 3, generator=generator).tokens.shape
        torch.Size([3, 21, 6])
    """
    check_task(task)
    batch = checks.integer("batch", batch, at_least=1)
    dtype, device = placement(generator, dtype, device)
    n = task.context_length
    x = sample_covariates(task, (batch, n + 1), generator, dtype, device)
    w = sample_weights(task, batch, generator=generator, like=x)
    y = (x @ w.unsqueeze(-1)).squeeze(-1)
    targets = y[:, n].clone()
    y[:, n] = 0
    if task.noise_variance:
        noise = torch.randn(batch, n, generator=generator, dtype=dtype, device=device)
        y[:, :n] += math.sqrt(task.noise_variance) * noise
    return Prompts(torch.cat([x, y.unsqueeze(-1)], dim=-1), w, targets)


def sample_wisharts(
    task: RegressionTask,
    batch: int,
    *,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Draw W = (1/n) ∑ x_i x_i^T, all that a prompt's covariates matter for.

    .. math:: W = S^{1/2} T T^T S^{1/2} / n, \quad T_{ii}² ∼ χ²_{n-i+1}, \quad T_{ij} ∼ N(0, 1) \; (i > j)

    with T lower triangular: Bartlett's decomposition, for Gaussian covariates and n ≥ d, at a cost that does not
    depend on n. Otherwise the covariates are drawn and summed, in blocks.

    Args:
        task: The data distribution.
        batch: Number of matrices, from 1 up.
        generator: Source of all randomness.
        dtype: float32 or float64.
        device: Device of the result; ``None`` is the generator's.

    Returns:
        Tensor (batch, d, d). In memory the samples may lie on the last axis, as `LinearTransformer.conditional_risk`
        wants them.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Source:
        Bartlett 1933.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> sample_wisharts(RegressionTask(5, 10**6), 3, generator=generator).shape
        torch.Size([3, 5, 5])
    """
    check_task(task)
    batch = checks.integer("batch", batch, at_least=1)
    dtype, device = placement(generator, dtype, device)
    d, n = task.dim, task.context_length
    if task.covariate_law != "gaussian" or n < d:
        total = torch.zeros(batch, d, d, dtype=dtype, device=device)
        step = max(1, BLOCK // (batch * d))
        for start in range(0, n, step):
            x = sample_covariates(task, (batch, min(step, n - start)), generator, dtype, device)
            total += x.mT @ x
        return total / n
    degrees = torch.arange(n, n - d, -1, dtype=dtype, device=device)
    # χ²_k = 2 Gamma(k/2). The rejection sampler behind torch.distributions.Gamma is exact for every shape.
    diagonal = (2 * torch._standard_gamma((degrees / 2).expand(batch, d), generator=generator)).sqrt()
    lower = torch.zeros(d, d, batch, dtype=dtype, device=device)
    rows, columns = torch.tril_indices(d, d, -1, device=device)
    lower[rows, columns] = torch.randn(len(rows), batch, generator=generator, dtype=dtype, device=device)
    index = torch.arange(d, device=device)
    lower[index, index] = diagonal.mT
    kernel = layout(d)
    factor = kernel.stack(lower.permute(2, 0, 1))
    if task.covariance is not None:
        factor = kernel.left(torch.linalg.cholesky(constant(task.covariance_matrix, factor)), factor)
    return kernel.matrices(kernel.product(factor, kernel.transpose(factor)) / n)


def gram(prompts: Prompts | Tensor) -> Tensor:
    """Return G = (1/n) ∑ z_i z_i^T over the n examples z_i = (x_i, y_i) of each prompt.

    Args:
        prompts: Prompts, or their tokens (batch, n+1, d+1).

    Returns:
        Tensor (batch, d+1, d+1): blocks W, r = (1/n) ∑ y_i x_i and (1/n) ∑ y_i².

    Raises:
        ValueError: if the tokens do not have that shape or are not finite.
    """
    examples = tokens_of(prompts)[:, :-1]
    return examples.mT @ examples / examples.shape[1]


def tokens_of(prompts: Any, dim: int | None = None) -> Tensor:
    """Return the validated tokens (batch, n+1, dim+1) of prompts, n and dim from 1 up."""
    tokens = prompts.tokens if isinstance(prompts, Prompts) else prompts
    tokens = tensor("prompts", tokens, (None, None, None if dim is None else dim + 1))
    if tokens.shape[1] < 2 or tokens.shape[2] < 2:
        raise ValueError(
            f"prompts must hold at least one example, a query and one covariate, got tokens of shape "
            f"{tuple(tokens.shape)}"
        )
    return tokens


def sample_weights(task: RegressionTask, batch: int, *, generator: torch.Generator, like: Tensor) -> Tensor:
    """w ~ N(0, Ψ), (batch, d), in dtype and on device of ``like``."""
    root = torch.linalg.cholesky(constant(task.weight_covariance_matrix, like))
    return torch.randn(batch, task.dim, generator=generator, dtype=like.dtype, device=like.device) @ root.mT


def sample_covariates(
    task: RegressionTask,
    shape: tuple[int, ...],
    generator: torch.Generator,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """x = S^{1/2} z, (*shape, d). Any square root of S will do, since z is rotation invariant."""
    z = torch.randn(*shape, task.dim, generator=generator, dtype=dtype, device=device)
    if task.covariate_law != "gaussian":
        z /= torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    if task.covariate_law == "gamma":
        assert task.gamma_shape is not None
        shapes = torch.full((*shape, 1), task.gamma_shape, dtype=dtype, device=device)
        scale = math.sqrt(10 / task.gamma_shape)
        z *= (scale * torch._standard_gamma(shapes, generator=generator)).sqrt()
    if task.covariance is None:
        return z
    return z @ torch.linalg.cholesky(constant(task.covariance_matrix, z)).mT
