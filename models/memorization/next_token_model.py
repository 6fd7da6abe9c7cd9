"""What all models of a next-token law share: exact divergence and accuracy over all contexts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from plumbline.models.memorization.fused import cross_entropy
from plumbline.models.tensors import constant, tensor
from plumbline.theory import checks
from plumbline.theory.memorization.task import NgramTask, check_task

MAX_CONTEXTS = 10**7
"""Largest number of contexts of which all are evaluated at once."""


class NextTokenModel(nn.Module):
    r"""A model that reads S tokens and scores the N tokens that may follow, with unembedding W and no output bias.

    .. math:: f(t) = W z(t), \qquad z(t) ∈ R^d

    Subclasses give the states z of contexts (`states`) and of all contexts at once (`table_states`).

    Attributes:
        vocab_size: N.
        context_length: S.
        embed_dim: d.
        unembedding: Parameter W (N, d).
    """

    def __init__(self, vocab_size: int, context_length: int, embed_dim: int) -> None:
        super().__init__()
        self.vocab_size = checks.integer("vocab_size", vocab_size, at_least=2)
        self.context_length = checks.integer("context_length", context_length, at_least=1)
        self.embed_dim = checks.integer("embed_dim", embed_dim, at_least=1)
        self.unembedding: nn.Parameter

    def states(self, tokens: Tensor) -> Tensor:
        """The states (batch, d) of validated tokens (batch, S)."""
        raise NotImplementedError

    def table_states(self) -> Tensor:
        """The states of all contexts, feature-major: (d, N^S)."""
        raise NotImplementedError

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (batch, N) of the next token, context by context.

        Args:
            tokens: Integers 0, …, N − 1, (batch, S).

        Raises:
            ValueError: if the tokens do not have that shape, type or range.
        """
        return self.states(self._checked(tokens)) @ self.unembedding.mT

    def table_logits(self) -> Tensor:
        """Return the logits (N^S, N) of all contexts in lexicographic order: `forward`, at a much lower cost each."""
        return (self.unembedding @ self._table_states()).mT

    def cross_entropy(self, joint: Tensor) -> Tensor:
        r"""Return the exact cross-entropy in nats (a scalar tensor): the objective of training.

        .. math:: -\sum_t \sum_i J_{ti} \log softmax(f(t))_i

        It exceeds the divergence by the conditional entropy of the law, a constant.

        Args:
            joint: J = ρ_t P_ti (N^S, N), see `joint_law`; taken for a constant.

        Raises:
            ValueError: on another shape, another dtype than the parameters', or non-finite entries.

        Example:
            >>> from plumbline.theory.memorization import uniform_law
            >>> from plumbline.models.memorization import SequenceEncoder, joint_law
            >>> joint = joint_law(uniform_law(2, 1))
            >>> round(SequenceEncoder(2, 1, 1, init_scale=0.0).cross_entropy(joint).item(), 12)
            0.69314718056
        """
        joint = tensor("joint", joint, (self.vocab_size**self.context_length, self.vocab_size))
        if joint.dtype != self.unembedding.dtype:
            raise ValueError(f"joint must be of the parameters' dtype {self.unembedding.dtype}, got {joint.dtype}")
        return cross_entropy(self.unembedding, self._table_states(), joint.mT)

    def divergence(self, law: NgramTask | Tensor) -> Tensor:
        r"""Return the exact divergence of the model from a law in nats (a scalar tensor).

        .. math:: \sum_t ρ_t KL(P_t \| softmax f(t))

        Probabilities of 0 contribute 0, without an ε inside the logarithm.

        Args:
            law: A task, or its joint law as `cross_entropy` takes it.

        Raises:
            ValueError: on a task of other sizes, another shape or non-finite entries.
        """
        joint = self._joint(law)
        prior = joint.sum(1, keepdim=True)
        entropy = torch.xlogy(joint, joint).sum(1) - torch.xlogy(prior, prior).sum(1)
        return (entropy - (joint * self.table_logits().log_softmax(1)).sum(1)).sum()

    def accuracy(self, law: NgramTask | Tensor) -> Tensor:
        r"""Return the probability that the most likely token of the model is the next one (a scalar tensor).

        .. math:: \sum_t ρ_t P_t(\hat g(t)), \qquad \hat g(t) = argmax_i f(t)_i

        For a look-up table g that is ∑ ρ_t 1[ĝ(t) = g(t)]. Of several largest logits the first counts.

        Args:
            law: As for `divergence`.

        Raises:
            ValueError: as for `divergence`.
        """
        joint = self._joint(law)
        best = self.table_logits().argmax(1, keepdim=True)
        return joint.gather(1, best).sum()

    def _table_states(self) -> Tensor:
        contexts = self.vocab_size**self.context_length
        if contexts > MAX_CONTEXTS:
            raise ValueError(
                f"vocab_size^context_length must be at most {MAX_CONTEXTS} to evaluate all contexts, got {contexts}"
            )
        return self.table_states()

    def _joint(self, law: Any) -> Tensor:
        n, length = self.vocab_size, self.context_length
        if isinstance(law, Tensor):
            return tensor("law", law, (n**length, n))
        task = check_task(law)
        if (task.vocab_size, task.context_length) != (n, length):
            raise ValueError(
                f"law must have vocab_size {n} and context_length {length} as the model, "
                f"got {task.vocab_size} and {task.context_length}"
            )
        weight = self.unembedding
        return joint_law(task, dtype=weight.dtype, device=weight.device)

    def _checked(self, tokens: Any) -> Tensor:
        wanted = f"tokens must be integers of shape (batch, {self.context_length})"
        if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"{wanted}, got {tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__}")
        if tokens.ndim != 2 or tokens.shape[1] != self.context_length:
            raise ValueError(f"{wanted}, got shape {tuple(tokens.shape)}")
        try:
            low, high = (int(t) for t in torch.aminmax(tokens)) if tokens.numel() else (0, 0)
        except RuntimeError:  # inside vmap values cannot steer Python
            return tokens
        if low < 0 or high >= self.vocab_size:
            raise ValueError(f"tokens must be from 0 to {self.vocab_size - 1}, got {low if low < 0 else high}")
        return tokens


def joint_law(
    task: NgramTask, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Tensor:
    """Return J = ρ_t P_ti (N^S, N), the joint law of context and next token, for exact objectives.

    In memory the contexts lie on the last axis, as `NextTokenModel.cross_entropy` wants them.

    Args:
        task: The next-token law.
        dtype: float32 or float64.
        device: Device of the result.

    Raises:
        ValueError: if ``task`` is not an `NgramTask`.

    Example:
        >>> from plumbline.theory.memorization import lookup_table
        >>> joint_law(lookup_table(2, 1, labels=[1, 0])).tolist()
        [[0.0, 0.5], [0.5, 0.0]]
    """
    check_task(task)
    like = torch.empty((), dtype=dtype, device=device)
    return constant(np.ascontiguousarray((task.prior[:, None] * task.conditional).T), like).mT
