"""The linear transformer of in-context regression, at token level and by the exact shorter routes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from plumbline.models.regression.algorithm import Algorithm, read_full, read_sparse
from plumbline.models.regression.mean_risk import mean_risk
from plumbline.models.regression.population import full_population_risk, one_step_population_risk
from plumbline.models.regression.prompts import Prompts, tokens_of
from plumbline.models.regression.recursion import conditional_risks, frame
from plumbline.models.regression.small_matrices import layout
from plumbline.models.tensors import placement, tensor
from plumbline.theory import checks
from plumbline.theory.regression.task import RegressionTask, check_task


class LinearTransformer(nn.Module):
    r"""Layers of (linear) self-attention that answer a regression query from the examples in its prompt.

    With the tokens as columns, Z_0 = [[x_1 … x_n, x_q], [y_1 … y_n, 0]] and M = diag(I_n, 0),

    .. math:: Z_{l+1} = Z_l + \tfrac1n ∑_h P_{lh} Z_l M (Z_l^T Q_{lh} Z_l), \quad
              \text{prediction} = -[Z_L]_{d+1, n+1}.

    The published (sparse) weights are P = [[B, 0], [0, 1]] with the *value block* B and Q = [[K, 0], [0, 0]]. A layer
    with B = 0 and K = -A is one step of gradient descent with preconditioner A. The value block of the last layer
    has no influence on the prediction.

    With ``activation`` the attention is act(Z_l^T Q_{lh} Z_l), the query's row left out before the activation:
    ``"softmax"`` over the n examples, without the factor 1/n; ``"relu"`` entry by entry, with it.

    Args:
        layers: Number of layers L ≥ 1.
        heads: Number of heads in each layer, from 1 up.
        dim: Covariate dimension d ≥ 1.
        value_block: ``"free"``, or ``"zero"`` for B = 0: preconditioned gradient descent.
        activation: ``None`` (linear attention), ``"softmax"`` or ``"relu"``.
        looped: All layers share one set of weights; the layer axis of the parameters has size one.
        full: P and Q are any (d+1, d+1) matrices.
        init_scale: Standard deviation of the normal initial weights, 0 or more.
        generator: Source of the initial weights; ``None`` is torch's global one.
        dtype: float32 or float64.
        device: ``None`` is the generator's device.

    Attributes:
        key_query: Parameter (layers, heads, d, d), the K; the Q (layers, heads, d+1, d+1) if ``full``.
        value: Parameter of the same shape, the B, or the P; ``None`` if the value block is zero.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Source:
        Ahn et al. 2023 (2306.00297), equations (1)-(3); von Oswald et al. 2022 (2212.07677).

    Example:
        >>> from plumbline.models.regression import sample_prompts
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = LinearTransformer(3, 1, 5, generator=generator)
        >>> model(sample_prompts(RegressionTask(5, 20), 4, generator=generator)).shape
        torch.Size([4])
    """

    value: nn.Parameter | None

    def __init__(
        self,
        layers: int,
        heads: int,
        dim: int,
        *,
        value_block: Literal["free", "zero"] = "free",
        activation: Literal["softmax", "relu"] | None = None,
        looped: bool = False,
        full: bool = False,
        init_scale: float = 0.1,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.layers = checks.integer("layers", layers, at_least=1)
        self.heads = checks.integer("heads", heads, at_least=1)
        self.dim = checks.integer("dim", dim, at_least=1)
        self.value_block = checks.one_of("value_block", value_block, ("free", "zero"))
        self.activation = checks.one_of("activation", activation, (None, "softmax", "relu"))
        self.looped = checks.one_of("looped", looped, (False, True))
        self.full = checks.one_of("full", full, (False, True))
        if self.full and self.value_block == "zero":
            raise ValueError('value_block must be "free" with full weights, got "zero"')
        scale = checks.real("init_scale", init_scale, at_least=0.0)
        dtype, device = placement(generator, dtype, device, optional=True)

        size = self.dim + self.full
        shape = (1 if self.looped else self.layers, self.heads, size, size)

        def initial() -> nn.Parameter:
            if not scale:  # which must not use up the random numbers of who asks for none
                return nn.Parameter(torch.zeros(shape, dtype=dtype, device=device))
            return nn.Parameter(scale * torch.randn(shape, generator=generator, dtype=dtype, device=device))

        self.key_query = initial()
        if self.value_block == "free":
            self.value = initial()
        else:
            self.register_parameter("value", None)

    def extra_repr(self) -> str:
        return (
            f"layers={self.layers}, heads={self.heads}, dim={self.dim}, value_block={self.value_block!r}, "
            f"activation={self.activation!r}, looped={self.looped}, full={self.full}"
        )

    def forward(self, prompts: Prompts | Tensor) -> Tensor:
        """Return the predictions (batch,), token by token.

        Linear attention costs O(n d²) per prompt: P Z M Z^T Q is formed before it meets the tokens.

        Args:
            prompts: Prompts, or their tokens (batch, n+1, d+1).

        Raises:
            ValueError: if the tokens do not have that shape or are not finite.
        """
        tokens = tokens_of(prompts, self.dim)
        n = tokens.shape[1] - 1
        for layer in range(self.layers):
            p, q = self._matrices(layer)
            examples = tokens[:, :n]
            if self.activation is None:
                tokens = tokens + tokens @ _attended(p, examples.mT @ examples / n, q).mT
                continue
            keys, queries = examples.unsqueeze(1), tokens.unsqueeze(1)
            scores = keys @ q @ queries.mT
            attention = scores.softmax(-2) if self.activation == "softmax" else scores.relu() / n
            tokens = tokens + (attention.mT @ (keys @ p.mT)).sum(1)
        return -tokens[:, n, self.dim]

    def from_gram(self, gram: Tensor, query: Tensor) -> Tensor:
        r"""Return the predictions (batch,) from the Gram matrix of the examples: `forward`, at a cost free of n.

        .. math:: T_l = I + ∑_h P_{lh} G_l Q_{lh}, \quad G_{l+1} = T_l G_l T_l^T, \quad
                  \text{prediction} = -[T_{L-1} ⋯ T_0 (x_q, 0)]_{d+1}

        Args:
            gram: G_0 = (1/n) ∑ z_i z_i^T, (batch, d+1, d+1), see `gram`.
            query: x_q, (batch, d).

        Raises:
            ValueError: on other shapes, non-finite input, or an activation (its attention is not a function of G).

        Source:
            Derived here.
        """
        self._only_linear("from_gram")
        gram = tensor("gram", gram, (None, self.dim + 1, self.dim + 1))
        query = tensor("query", query, (len(gram), self.dim))
        kernel = layout(self.dim + 1)
        left, right, product = kernel.left, kernel.right, kernel.product
        g, state = kernel.stack(gram), kernel.stack(pad(query, (0, 1)).unsqueeze(-1))
        for layer in range(self.layers):
            heads = [*zip(*self._matrices(layer), strict=True)]
            if layer == self.layers - 1:  # what the examples become is not read any more
                state = state + sum(left(p, product(g, left(q, state))) for p, q in heads)
                break
            attended = torch.stack([right(left(p, g), q) for p, q in heads]).sum(0)
            state = state + product(attended, state)
            half = g + product(attended, g)
            g = half + product(half, kernel.transpose(attended))
        return -kernel.matrices(state)[:, self.dim, 0]

    def conditional_risk(self, wishart: Tensor, task: RegressionTask) -> Tensor:
        r"""Return the risk given W = (1/n) ∑ x_i x_i^T: query, weight vector and label noise integrated out exactly.

        From S_0 = I and D_0 = 0,

        .. math:: D_{l+1} = D_l + (I + D_l W) ∑_h S_l^T K_{lh} S_l, \quad
                  S_{l+1} = S_l + ∑_h B_{lh} S_l W S_l^T K_{lh} S_l, \\
                  \text{risk} = tr(Ψ C Σ C^T) + \tfrac{σ²}{n} tr(W D_L Σ D_L^T), \quad C = I + W D_L.

        Its mean over W is the population risk. Weights with ``full`` or an activation have no such form.

        Args:
            wishart: W, (..., d, d).
            task: The data distribution; its covariate law enters through Σ = E x x^T only.

        Returns:
            Tensor (...).

        Raises:
            ValueError: on another shape, non-finite input, a task of another dimension, ``full`` or an activation.

        Source:
            Derived here.

        Example:
            >>> import numpy as np
            >>> model = LinearTransformer.from_algorithm(np.eye(2)[None])
            >>> model.conditional_risk(torch.eye(2, dtype=torch.float64), RegressionTask(2, 9)).item()
            0.0
        """
        self._only_sparse("conditional_risk")
        d = self._of_dim(task).dim
        wishart = tensor("wishart", wishart, (d, d), leading=True)
        there = frame(task, wishart)
        weights = there.network(self.key_query, self.value)
        risks = conditional_risks(wishart.reshape(-1, d, d), there, *weights, self.layers)
        return risks.reshape(wishart.shape[:-2])

    def mean_risk(self, wisharts: Tensor, task: RegressionTask, weights: Tensor | None = None) -> Tensor:
        """Return the mean of `conditional_risk` over many W (a scalar tensor): the objective of training.

        Value and gradient come from one pass of little memory, faster than differentiating `conditional_risk`.
        Differentiable to any order in the parameters, but not in W and the weights.

        Args:
            wisharts: W, (N, d, d).
            task: The data distribution.
            weights: (N,), the weight of each W in the mean, adding up to 1; ``None`` for equal ones.

        Raises:
            ValueError: as `conditional_risk`, or if the weights have another shape or are not finite.
        """
        self._only_sparse("mean_risk")
        d = self._of_dim(task).dim
        wisharts = tensor("wisharts", wisharts, (None, d, d))
        if weights is not None:
            weights = tensor("weights", weights, (len(wisharts),))
        there = frame(task, wisharts)
        return mean_risk(wisharts, weights, there, *there.network(self.key_query, self.value), self.layers)

    def population_risk(self, task: RegressionTask) -> Tensor:
        """Return the exact risk of one layer on a task (a scalar tensor): any heads, sparse or full weights.

        Differentiable; valid for every covariate law, covariance, weight covariance and noise.

        Raises:
            ValueError: for several layers, an activation, or a task of another dimension.

        Source:
            Derived here, see `plumbline.models.regression.population`.

        Example:
            >>> import numpy as np
            >>> model = LinearTransformer.from_algorithm(10 / 13 * np.eye(5)[None])
            >>> round(model.population_risk(RegressionTask(5, 20)).item(), 12)
            1.153846153846
        """
        self._only_linear("population_risk")
        if self.layers > 1:
            raise ValueError(f"population_risk has a closed form for one layer only, got layers={self.layers}")
        self._of_dim(task)
        if self.full:
            assert self.value is not None
            return full_population_risk(self.value[0, :, -1], self.key_query[0], task)
        return one_step_population_risk(-self.key_query[0].sum(0), task)

    def as_algorithm(self, task: RegressionTask | None = None) -> Algorithm:
        """Read the weights back as the algorithm they implement, modulo the symmetries of the model.

        Args:
            task: Gives the covariance S in whose whitened frame step sizes and shrinkages are read; ``None`` is S = I.

        Raises:
            ValueError: with an activation, for full weights of several layers (which are no such algorithm), if the
                weights are not finite, or on a task of another dimension.

        Example:
            >>> import numpy as np
            >>> LinearTransformer.from_algorithm([2 * np.eye(3), np.eye(3)]).as_algorithm().step_sizes.tolist()
            [1.0, 2.0]
        """
        self._only_linear("as_algorithm")
        if task is not None:
            self._of_dim(task)

        def read(name: str, weights: Tensor) -> np.ndarray:
            array = checks.array(name, weights.detach().cpu(), weights.shape)
            return np.repeat(array, self.layers // len(array), axis=0)

        key_query = read("key_query", self.key_query)
        value = None if self.value is None else read("value", self.value)
        if not self.full:
            return read_sparse(key_query, value, task)
        if self.layers > 1:
            raise ValueError(f"as_algorithm reads full weights of one layer only, got layers={self.layers}")
        assert value is not None
        return read_full(key_query[0], value[0], task)

    @classmethod
    def from_algorithm(
        cls,
        preconditioners: Any,
        *,
        value_blocks: Any = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> LinearTransformer:
        """Build the transformer of one head that runs a given algorithm, see `Algorithm`.

        Args:
            preconditioners: A_l, array-like (layers, d, d).
            value_blocks: B_l, array-like (layers - 1, d, d); ``None`` for a zero value block.
            dtype: float32 or float64.
            device: Device of the parameters.

        Raises:
            ValueError: on other shapes or non-finite entries.

        Example:
            >>> import numpy as np
            >>> LinearTransformer.from_algorithm([np.eye(3), np.eye(3)], value_blocks=[0.5 * np.eye(3)])
            LinearTransformer(layers=2, heads=1, dim=3, value_block='free', activation=None, looped=False, full=False)
        """
        a = checks.array("preconditioners", preconditioners, (None, None, None))
        layers, d, _ = a.shape
        a = checks.array("preconditioners", a, (layers, d, d))
        value_block: Literal["free", "zero"] = "zero" if value_blocks is None else "free"
        model = cls(layers, 1, d, value_block=value_block, init_scale=0.0, dtype=dtype, device=device)
        with torch.no_grad():
            model.key_query[:, 0] = -torch.as_tensor(a)
            if model.value is not None and (layers > 1 or np.size(value_blocks)):
                value_blocks = checks.array("value_blocks", value_blocks, (layers - 1, d, d))
                model.value[:-1, 0] = torch.as_tensor(value_blocks)
        return model

    def _only_linear(self, method: str) -> None:
        if self.activation is not None:
            raise ValueError(f"{method} needs linear attention, got activation={self.activation!r}")

    def _only_sparse(self, method: str) -> None:
        self._only_linear(method)
        if self.full:
            raise ValueError(f"{method} needs the published (sparse) weights, got full=True")

    def _of_dim(self, task: Any) -> RegressionTask:
        if check_task(task).dim != self.dim:
            raise ValueError(f"task must have dim {self.dim} as the model, got {task.dim}")
        return task

    def _matrices(self, layer: int) -> tuple[Tensor, Tensor]:
        """P and Q of a layer, (heads, d+1, d+1)."""
        layer = 0 if self.looped else layer
        if self.full:
            assert self.value is not None
            return self.value[layer], self.key_query[layer]
        q = pad(self.key_query[layer], (0, 1, 0, 1))
        corner = torch.zeros_like(q[0])
        corner[-1, -1] = 1
        p = corner.expand_as(q) if self.value is None else pad(self.value[layer], (0, 1, 0, 1)) + corner
        return p, q


def _attended(p: Tensor, gram: Tensor, q: Tensor) -> Tensor:
    """∑_h P_h G Q_h for G (batch, d+1, d+1)."""
    return (p @ gram.unsqueeze(1) @ q).sum(1)
