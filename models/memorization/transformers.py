"""The attention-only transformer of the paper: one layer, its last position predicts the next token."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from plumbline.models.memorization.attention_tables import token_attention
from plumbline.models.memorization.next_token_model import NextTokenModel
from plumbline.models.tensors import placement
from plumbline.theory import checks


class AttentionOnlyTransformer(NextTokenModel):
    r"""One layer of softmax attention on tokens with positions; the last position predicts the next token.

    .. math:: f(t) = W_U \Big( x_S + \sum_h W_O^h W_V^h \sum_s a_{hs}\, x_s \Big), \qquad
              x_s = e(t_s) + p_s, \qquad a_{h·} = softmax_s\big( (W_Q^h x_S)^T W_K^h x_s \big)

    No scale in the softmax, no bias, no normalisation. The position is part of the residual stream.
    A context length of 1 is allowed: attention then has nothing to choose from.

    Args:
        vocab_size: Number N of tokens, from 2 up.
        context_length: S ≥ 1.
        heads: Number H ≥ 0 of heads.
        head_dim: d_h ≥ 1. More than ``embed_dim`` adds nothing.
        embed_dim: d ≥ 1.
        init_scale: All weights are uniform within ± init_scale / √(size of their input).
        generator: Source of the initial weights; ``None`` is torch's global one.
        dtype: float32 or float64.
        device: ``None`` is the generator's device.

    Attributes:
        embedding: Parameter e (N, d).
        position: Parameter p (S, d).
        query, key, value: Parameters W_Q, W_K, W_V (heads, d_h, d).
        output: Parameter W_O (heads, d, d_h).
        unembedding: Parameter W_U (N, d).

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Source:
        Dana, Pydi, Chevaleyre 2024 (2411.10115), equations (1)-(2).

    Example:
        >>> model = AttentionOnlyTransformer(5, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> model(torch.tensor([[0, 1], [4, 4]])).shape, model.table_logits().shape
        (torch.Size([2, 5]), torch.Size([25, 5]))
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        heads: int,
        head_dim: int,
        embed_dim: int,
        *,
        init_scale: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(vocab_size, context_length, embed_dim)
        self.heads = checks.integer("heads", heads, at_least=0)
        self.head_dim = checks.integer("head_dim", head_dim, at_least=1)
        uniform = Uniform(init_scale, generator, dtype, device)
        h, e, d = self.heads, self.head_dim, self.embed_dim
        self.embedding = uniform(self.vocab_size, d)
        self.position = uniform(self.context_length, d)
        self.query, self.key, self.value = uniform(h, e, d), uniform(h, e, d), uniform(h, e, d)
        self.output = uniform(h, d, e)
        self.unembedding = uniform(self.vocab_size, d)

    def extra_repr(self) -> str:
        return (
            f"vocab_size={self.vocab_size}, context_length={self.context_length}, heads={self.heads}, "
            f"head_dim={self.head_dim}, embed_dim={self.embed_dim}"
        )

    def states(self, tokens: Tensor) -> Tensor:
        """The states (batch, d) at the last position of validated tokens (batch, S)."""
        last, attended = self._attend(tokens)
        return last + torch.einsum("bhe,hde->bd", attended, self.output)

    def attention_features(self, tokens: Tensor) -> Tensor:
        """Return Z (batch, d + H d_h): the skip x_S and what each head has attended to, W_V^h ∑_s a_hs x_s.

        The states are linear in Z. With frozen features a model stores arbitrary targets on T contexts if and only
        if their features have rank T.

        Args:
            tokens: Integers 0, …, N − 1, (batch, S).

        Raises:
            ValueError: if the tokens do not have that shape, type or range.
        """
        last, attended = self._attend(self._checked(tokens))
        return torch.cat([last, attended.flatten(1)], dim=1)

    def table_states(self) -> Tensor:
        """The states of all contexts, feature-major: (d, N^S)."""
        x = (self.embedding + self.position.unsqueeze(1)).mT  # (S, d, N)
        query = self.key.mT @ head_tables(self.query, x[-1])
        values = mixed_values(self.output, self.value, x)
        attended = token_attention(query, list(x), values).unflatten(1, (-1, self.vocab_size))
        return (attended + x[-1].unsqueeze(1)).flatten(1)

    def _attend(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The input (batch, d) at the last position and the values (batch, heads, d_h) that the heads attend to."""
        x = self.embedding[tokens] + self.position
        query = torch.einsum("hed,bd->bhe", self.query, x[:, -1])
        key = torch.einsum("hed,bsd->bhse", self.key, x)
        value = torch.einsum("hed,bsd->bhse", self.value, x)
        attention = torch.einsum("bhe,bhse->bhs", query, key).softmax(-1)
        return x[:, -1], torch.einsum("bhs,bhse->bhe", attention, value)


class Uniform:
    """Draws parameters uniformly within ± scale / √(size of the last axis)."""

    def __init__(
        self,
        scale: float,
        generator: torch.Generator | None,
        dtype: torch.dtype,
        device: torch.device | str | None,
    ) -> None:
        self.scale = checks.real("init_scale", scale, at_least=0.0)
        self.generator = generator
        self.dtype, self.device = placement(generator, dtype, device, optional=True)

    def __call__(self, *shape: int, gain: float = 1.0) -> nn.Parameter:
        if not self.scale:  # which must not use up the random numbers of who asks for none
            return nn.Parameter(torch.zeros(shape, dtype=self.dtype, device=self.device))
        draws = torch.rand(shape, generator=self.generator, dtype=self.dtype, device=self.device)
        return nn.Parameter((2 * draws - 1) * (gain * self.scale / math.sqrt(shape[-1])))


def head_tables(weight: Tensor, inputs: Tensor) -> Tensor:
    """W^h x for every head and every column x: (heads, e, columns)."""
    return (weight.flatten(0, 1) @ inputs).unflatten(0, weight.shape[:2])


def mixed_values(output: Tensor, value: Tensor, inputs: Tensor) -> list[Tensor]:
    """W_O^h W_V^h x for each position, as `token_attention` takes them: (N, m, heads) from inputs (S, d, N)."""
    product = (output @ value).permute(1, 0, 2)  # (m, heads, d)
    table = inputs.mT @ product.flatten(0, 1).mT  # (S, N, m heads)
    return list(table.unflatten(-1, product.shape[:2]))
