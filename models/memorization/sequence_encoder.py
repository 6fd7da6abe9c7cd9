"""The sequence encoder: a free state for every context, the best that any model of its width can do."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plumbline.models.memorization.next_token_model import MAX_CONTEXTS, NextTokenModel
from plumbline.models.memorization.transformers import Uniform


class SequenceEncoder(NextTokenModel):
    r"""A free state for every context: logits are any (N^S, N) matrix of rank d or less.

    .. math:: f(t) = W E_t

    Every model with a d-dimensional unembedding and no output bias is one of these.

    Args:
        vocab_size: Number N of tokens, from 2 up.
        context_length: S ≥ 1; N^S at most 1e7.
        embed_dim: d ≥ 1.
        init_scale: All weights are uniform within ± init_scale / √d.
        generator: Source of the initial weights; ``None`` is torch's global one.
        dtype: float32 or float64.
        device: ``None`` is the generator's device.

    Attributes:
        encoding: Parameter E (N^S, d), contexts in lexicographic order.
        unembedding: Parameter W (N, d).

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Source:
        Dana, Pydi, Chevaleyre 2024 (2411.10115), Definition 1.

    Example:
        >>> SequenceEncoder(5, 2, 3).table_logits().shape
        torch.Size([25, 5])
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        embed_dim: int,
        *,
        init_scale: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(vocab_size, context_length, embed_dim)
        contexts = self.vocab_size**self.context_length
        if contexts > MAX_CONTEXTS:
            raise ValueError(f"vocab_size^context_length must be at most {MAX_CONTEXTS}, got {contexts}")
        uniform = Uniform(init_scale, generator, dtype, device)
        self.encoding: nn.Parameter = uniform(contexts, self.embed_dim)
        self.unembedding = uniform(self.vocab_size, self.embed_dim)

    def extra_repr(self) -> str:
        return f"vocab_size={self.vocab_size}, context_length={self.context_length}, embed_dim={self.embed_dim}"

    def states(self, tokens: Tensor) -> Tensor:
        """The states (batch, d) of validated tokens (batch, S)."""
        index = torch.zeros_like(tokens[:, 0])
        for position in range(self.context_length):
            index = index * self.vocab_size + tokens[:, position]
        return self.encoding[index]

    def table_states(self) -> Tensor:
        """The states of all contexts, feature-major: (d, N^S)."""
        return self.encoding.mT
