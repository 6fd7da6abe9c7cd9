"""The transformers of the published code: compressed attention of any depth, with or without an MLP."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from plumbline.models.memorization.attention_tables import prefix_attention, token_attention
from plumbline.models.memorization.next_token_model import NextTokenModel
from plumbline.models.memorization.transformers import Uniform, head_tables, mixed_values
from plumbline.models.perceptron import perceptron
from plumbline.theory import checks


class CompressedAttentionTransformer(NextTokenModel):
    r"""Layers of causal attention that all read and write through one compression to d_h dimensions.

    .. math:: r^0_s = e(t_s), \qquad z^l_s = C r^l_s + p_s, \qquad
              r^{l+1}_s = r^l_s + D \sum_h W_O^{lh} \sum_{s' ≤ s} a^{lh}_{ss'} W_V^{lh} z^l_{s'}, \\
              a^{lh}_{s·} = softmax_{s' ≤ s}\big( (W_Q^{lh} z^l_s)^T W_K^{lh} z^l_{s'} / \sqrt{d_h} \big), \qquad
              f(t) = W_U r^L_S

    It differs from `AttentionOnlyTransformer`: positions never enter the residual stream, are added again before
    every layer, and live in d_h dimensions; with d_h ≠ d the whole attention sees and writes a space of d_h
    dimensions, by a compression C and a decompression D common to all heads and layers (with d_h = d there are
    none); the softmax has the scale 1/√d_h. Unlike in the published code there is no parameter without influence,
    apart from those no last position depends on (with S = 1 queries and keys).

    Args:
        vocab_size: Number N of tokens, from 2 up.
        context_length: S ≥ 1.
        heads: Number H ≥ 0 of heads in each layer, each a full attention on d_h dimensions.
        head_dim: d_h ≥ 1.
        embed_dim: d ≥ 1.
        layers: L ≥ 1.
        init_scale: Multiplies the initial weights, which are uniform within ± 1 / √(size of their input), times
            √1.5 for queries, keys and values, as in the published code.
        generator: Source of the initial weights; ``None`` is torch's global one.
        dtype: float32 or float64.
        device: ``None`` is the generator's device.

    Attributes:
        embedding: Parameter e (N, d).
        position: Parameter p (S, d_h).
        compress, decompress: Parameters C (d_h, d) and D (d, d_h), or ``None`` where d_h = d.
        query, key, value, output: Parameters (layers, heads, d_h, d_h).
        unembedding: Parameter W_U (N, d).

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Source:
        The code published with Dana, Pydi, Chevaleyre 2024 (2411.10115), with one head per attention module.

    Example:
        >>> model = CompressedAttentionTransformer(5, 2, 3, 4, 6, layers=2)
        >>> model(torch.tensor([[0, 1], [4, 4]])).shape, model.table_logits().shape
        (torch.Size([2, 5]), torch.Size([25, 5]))
    """

    compress: nn.Parameter | None
    decompress: nn.Parameter | None

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        heads: int,
        head_dim: int,
        embed_dim: int,
        *,
        layers: int = 1,
        init_scale: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(vocab_size, context_length, embed_dim)
        self.heads = checks.integer("heads", heads, at_least=0)
        self.head_dim = checks.integer("head_dim", head_dim, at_least=1)
        self.layers = checks.integer("layers", layers, at_least=1)
        uniform = Uniform(init_scale, generator, dtype, device)
        d, e = self.embed_dim, self.head_dim
        shape = (self.layers, self.heads, e, e)
        self.embedding = uniform(self.vocab_size, d)
        self.position = uniform(self.context_length, e)
        for name, size in (("compress", (e, d)), ("decompress", (d, e))):
            self.register_parameter(name, None if d == e else uniform(*size))
        self.query, self.key, self.value = (uniform(*shape, gain=math.sqrt(1.5)) for _ in range(3))
        self.output = uniform(*shape)
        self.unembedding = uniform(self.vocab_size, d)

    def extra_repr(self) -> str:
        return (
            f"vocab_size={self.vocab_size}, context_length={self.context_length}, heads={self.heads}, "
            f"head_dim={self.head_dim}, embed_dim={self.embed_dim}, layers={self.layers}"
        )

    def states(self, tokens: Tensor) -> Tensor:
        """The states (batch, d) at the last position of validated tokens (batch, S)."""
        residual = self.embedding[tokens]
        for layer in range(self.layers):
            attended = self._attend(residual, layer)
            written = torch.einsum("bhse,hfe->bsf", attended, self.output[layer])
            if self.decompress is not None:
                written = written @ self.decompress.mT
            after = self._after_attention((residual + written).flatten(0, 1).mT, layer)
            residual = after.mT.unflatten(0, tokens.shape)
        return residual[:, -1]

    def attention_features(self, tokens: Tensor) -> Tensor:
        """Return Z (batch, d + H d_h) of one layer: the skip e(t_S) and what each head has attended to.

        The states are linear in Z, but with d_h < d the heads write d_h dimensions only.

        Args:
            tokens: Integers 0, …, N − 1, (batch, S).

        Raises:
            ValueError: for several layers, or if the tokens do not have that shape, type or range.
        """
        if self.layers > 1:
            raise ValueError(f"attention_features needs one layer, got layers={self.layers}")
        residual = self.embedding[self._checked(tokens)]
        return torch.cat([residual[:, -1], self._attend(residual, 0)[:, :, -1].flatten(1)], dim=1)

    def table_states(self) -> Tensor:
        """The states of all contexts, feature-major: (d, N^S).

        The first layer reads tokens; at position s the later ones read the N^s states of its prefixes.
        """
        n, last = self.vocab_size, self.context_length
        embedding = self.embedding.mT
        tables = self._read(embedding) + self.position.unsqueeze(-1)  # (S, d_h, N)
        query = [self.key[0].mT @ self._query(x, 0) for x in tables]
        values = mixed_values(self.output[0], self.value[0], tables)
        residual = []
        for s in range(1, last + 1) if self.layers > 1 else [last]:
            written = self._write(token_attention(query[s - 1], list(tables[:s]), values[:s]))
            after = written.unflatten(1, (-1, n)) + embedding.unsqueeze(1)
            residual.append(self._after_attention(after.flatten(1), 0))
        for layer in range(1, self.layers):
            inputs = [self._read(r) + p.unsqueeze(-1) for r, p in zip(residual, self.position, strict=True)]
            keys = [head_tables(self.key[layer], x) for x in inputs]
            values = [head_tables(self.value[layer], x) for x in inputs]
            output = self.output[layer].transpose(0, 1).flatten(1)
            for s in range(1, last + 1) if layer + 1 < self.layers else [last]:
                attended = prefix_attention(self._query(inputs[s - 1], layer), keys[:s], values[:s])
                written = self._write(output @ attended.flatten(0, 1))
                residual[s - 1] = self._after_attention(residual[s - 1] + written, layer)
        return residual[-1]

    def _attend(self, residual: Tensor, layer: int) -> Tensor:
        """The values (batch, heads, S, d_h) that the heads of a layer attend to from every position."""
        z = self._read(residual.mT).mT + self.position
        query, key, value = (
            torch.einsum("hed,bsd->bhse", weight[layer], z) for weight in (self.query, self.key, self.value)
        )
        scores = query @ key.mT / math.sqrt(self.head_dim)
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        return scores.masked_fill(future, -math.inf).softmax(-1) @ value

    def _query(self, inputs: Tensor, layer: int) -> Tensor:
        return head_tables(self.query[layer], inputs) / math.sqrt(self.head_dim)

    def _read(self, residual: Tensor) -> Tensor:
        """C r of feature-major states."""
        return residual if self.compress is None else self.compress @ residual

    def _write(self, attended: Tensor) -> Tensor:
        """D y of feature-major states."""
        return attended if self.decompress is None else self.decompress @ attended

    def _after_attention(self, residual: Tensor, layer: int) -> Tensor:
        """What else the layer does to feature-major states (d, …)."""
        return residual


class MLPTransformer(CompressedAttentionTransformer):
    r"""The published code's transformer with an MLP after the attention of each layer.

    .. math:: r ← r + W_2^l\, GELU(W_1^l r + b^l)

    Args:
        vocab_size: Number N of tokens, from 2 up.
        context_length: S ≥ 1.
        heads: Number H ≥ 0 of heads in each layer.
        head_dim: d_h ≥ 1.
        embed_dim: d ≥ 1.
        width: Number w ≥ 1 of hidden units in each layer.
        layers: L ≥ 1.
        init_scale: As for `CompressedAttentionTransformer`.
        generator: Source of the initial weights; ``None`` is torch's global one.
        dtype: float32 or float64.
        device: ``None`` is the generator's device.

    Attributes:
        inner: Parameter W_1 (layers, w, d).
        bias: Parameter b (layers, w).
        outer: Parameter W_2 (layers, d, w).

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Source:
        The code published with Dana, Pydi, Chevaleyre 2024 (2411.10115); W_2 has no bias there either.

    Example:
        >>> MLPTransformer(5, 2, 1, 4, 4, 16).table_logits().shape
        torch.Size([25, 5])
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        heads: int,
        head_dim: int,
        embed_dim: int,
        width: int,
        *,
        layers: int = 1,
        init_scale: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(
            vocab_size,
            context_length,
            heads,
            head_dim,
            embed_dim,
            layers=layers,
            init_scale=init_scale,
            generator=generator,
            dtype=dtype,
            device=device,
        )
        self.width = checks.integer("width", width, at_least=1)
        uniform = Uniform(init_scale, generator, dtype, device)
        self.inner = uniform(self.layers, self.width, self.embed_dim)
        self.bias = uniform(self.layers, self.width, gain=math.sqrt(self.width / self.embed_dim))
        self.outer = uniform(self.layers, self.embed_dim, self.width)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, width={self.width}"

    def _after_attention(self, residual: Tensor, layer: int) -> Tensor:
        return residual + perceptron(residual, self.inner[layer], self.bias[layer], self.outer[layer], "gelu")
