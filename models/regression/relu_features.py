"""The non-linear variant: features of the covariates by a ReLU network, learned before linear attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from plumbline.models.perceptron import perceptron
from plumbline.models.regression.linear_transformer import LinearTransformer
from plumbline.models.regression.prompts import Prompts, tokens_of
from plumbline.models.tensors import placement
from plumbline.theory import checks


class ReluFeatures(nn.Module):
    r"""A network of one hidden layer, :math:`φ(x) = C \, relu(A x + a) + c`, from d to d features.

    The weights begin as those of `torch.nn.Linear`: uniform in ±1/√(number of inputs).

    Args:
        dim: Covariate dimension d ≥ 1, and number of features.
        hidden: Number of hidden units, from 1 up.
        generator: Source of the initial weights; ``None`` is torch's global one.
        dtype: float32 or float64.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Example:
        >>> features = ReluFeatures(5, 30, generator=torch.Generator().manual_seed(0))
        >>> features(torch.zeros(2, 5, dtype=torch.float64)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        dim: int,
        hidden: int = 30,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.dim = checks.integer("dim", dim, at_least=1)
        self.hidden = checks.integer("hidden", hidden, at_least=1)
        dtype, device = placement(generator, dtype, None, optional=True)

        def initial(inputs: int, *shape: int) -> nn.Parameter:
            uniform = torch.rand(*shape, generator=generator, dtype=dtype, device=device)
            return nn.Parameter((2 * uniform - 1) / math.sqrt(inputs))

        self.inner = initial(self.dim, self.hidden, self.dim)
        self.inner_bias = initial(self.dim, self.hidden)
        self.outer = initial(self.hidden, self.dim, self.hidden)
        self.outer_bias = initial(self.hidden, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, hidden={self.hidden}"

    def forward(self, x: Tensor) -> Tensor:
        """φ of each row of x (..., d)."""
        rows = perceptron(x.flatten(0, -2).mT, self.inner, self.inner_bias, self.outer, "relu").mT + self.outer_bias
        return rows.unflatten(0, x.shape[:-1])


class FeatureTransformer(nn.Module):
    """A linear transformer that reads learned features of the covariates instead of the covariates.

    The features stand once before the first layer; P and Q of the attention are any (d+1, d+1) matrices.

    Args:
        layers: Number of layers L ≥ 1.
        dim: Covariate dimension d ≥ 1.
        hidden: Hidden units of the features, from 1 up.
        init_scale: Standard deviation of the attention's normal initial weights.
        generator: Source of all initial weights; ``None`` is torch's global one.
        dtype: float32 or float64.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Source:
        The non-linear experiment of Ahn et al. 2023 (2310.01082). The published forward pass overwrites the prompts
        it is given with their features; this one does not.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = FeatureTransformer(3, 5, generator=generator)
        >>> prompts = sample_feature_prompts(model.features, 4, 20, generator=generator)
        >>> model(prompts).shape
        torch.Size([4])
    """

    def __init__(
        self,
        layers: int,
        dim: int,
        *,
        hidden: int = 30,
        init_scale: float = 0.1,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.attention = LinearTransformer(
            layers, 1, dim, full=True, init_scale=init_scale, generator=generator, dtype=dtype
        )
        self.features = ReluFeatures(dim, hidden, generator=generator, dtype=dtype)

    def forward(self, prompts: Prompts | Tensor) -> Tensor:
        """Return the predictions (batch,).

        Args:
            prompts: Prompts, or their tokens (batch, n+1, d+1).

        Raises:
            ValueError: if the tokens do not have that shape or are not finite.
        """
        tokens = tokens_of(prompts, self.attention.dim)
        z = torch.cat([self.features(tokens[..., :-1]), tokens[..., -1:]], dim=-1)
        examples = z[:, :-1]
        return self.attention.from_gram(examples.mT @ examples / examples.shape[1], z[:, -1, :-1])

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The mean squared error, a scalar tensor."""
        return (self(tokens) - targets).square().mean()


def sample_feature_prompts(
    features: ReluFeatures, batch: int, context_length: int, *, generator: torch.Generator
) -> Prompts:
    r"""Draw prompts whose labels are linear in features of the covariates.

    .. math:: y_i = w^T φ(x_i), \quad x_i ∼ N(0, I), \quad w ∼ N(0, I)

    with one φ for all prompts and a new w for each.

    Args:
        features: φ; its gradient is not followed.
        batch: Number of prompts, from 1 up.
        context_length: n, from 1 up.
        generator: Source of all randomness; the same state gives the same prompts.

    Returns:
        `Prompts` whose tokens hold the covariates themselves, (batch, n+1, d+1), and whose weights are the w.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Source:
        The experiment of Ahn et al. 2023 (2310.01082). Its measurement of the smoothness draws a new φ for each seed
        and so evaluates on another task than it trained on; here φ is an argument, the same for both.
    """
    if not isinstance(features, ReluFeatures):
        raise ValueError(f"features must be ReluFeatures, got {type(features).__name__}")
    batch = checks.integer("batch", batch, at_least=1)
    n = checks.integer("context_length", context_length, at_least=1)
    dtype, device = placement(generator, features.inner.dtype, None)
    x = torch.randn(batch, n + 1, features.dim, generator=generator, dtype=dtype, device=device)
    w = torch.randn(batch, features.dim, generator=generator, dtype=dtype, device=device)
    with torch.no_grad():
        y = (features(x) @ w.unsqueeze(-1)).squeeze(-1)
    targets = y[:, n].clone()
    y[:, n] = 0
    return Prompts(torch.cat([x, y.unsqueeze(-1)], dim=-1), w, targets)
