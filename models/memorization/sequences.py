"""Sequences of a next-token law, drawn without a loop over them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from plumbline.models.tensors import placement
from plumbline.theory import checks
from plumbline.theory.memorization.task import NgramTask, check_task


def sample_sequences(
    task: NgramTask,
    batch: int,
    length: int,
    *,
    generator: torch.Generator,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Draw independent sequences: the first S tokens from the prior of the task, each further one from its context.

    .. math:: (t_1, …, t_S) ∼ ρ, \qquad t_{k+1} ∼ P(· | t_{k-S+1}, …, t_k)

    A sequence shorter than S is the beginning of one of S tokens. Tokens are found in the cumulative tables by
    bisection, for all sequences at once; what has probability 0 is never drawn.

    Args:
        task: The next-token law; its prior is that of its window.
        batch: Number of sequences, from 1 up.
        length: Number of tokens in each, from 1 up.
        generator: Source of all randomness; the same state gives the same sequences.
        device: Device of the result; ``None`` is the generator's.

    Returns:
        Tensor of int64 (batch, length).

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Example:
        >>> from plumbline.theory.memorization import lookup_table
        >>> task = lookup_table(2, 1, labels=[1, 0])
        >>> sample_sequences(task, 1, 4, generator=torch.Generator().manual_seed(0)).tolist()
        [[1, 0, 1, 0]]
    """
    check_task(task)
    batch = checks.integer("batch", batch, at_least=1)
    length = checks.integer("length", length, at_least=1)
    _, device = placement(generator, torch.float64, device)
    n, order = task.vocab_size, task.context_length

    def uniform() -> Tensor:
        return torch.rand(batch, generator=generator, dtype=torch.float64, device=device)

    start = _cumulative(task.prior[None], device)
    context = _draw(start, torch.zeros(batch, dtype=torch.int64, device=device), uniform())
    tokens = torch.empty(max(length, order), batch, dtype=torch.int64, device=device)
    for position in range(order):
        tokens[position] = context // n ** (order - 1 - position) % n
    if length > order:
        table = _cumulative(task.conditional, device)
        for position in range(order, length):
            tokens[position] = _draw(table, context, uniform())
            context = context % n ** (order - 1) * n + tokens[position]
    return tokens[:length].mT.contiguous()


def empirical_law(task: NgramTask, batch: int, *, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Return the frequencies (N^S, N) of context and next token in a batch of sequences, laid out as `joint_law`.

    A cross-entropy with them is that of the batch.

    Args:
        task, batch, generator: As in `sample_sequences`.
        dtype: float32 or float64.
    """
    n, length = task.vocab_size, task.context_length
    tokens = sample_sequences(task, batch, length + 1, generator=generator)
    index = torch.zeros_like(tokens[:, 0])
    for position in range(length):
        index = index * n + tokens[:, position]
    counts = torch.bincount(tokens[:, -1] * n**length + index, minlength=n ** (length + 1))
    return (counts.reshape(n, n**length).to(dtype) / batch).mT


def _cumulative(rows: np.ndarray, device: torch.device) -> Tensor:
    """Cumulative sums of rows; from the last possible outcome on they are infinite, so that rounding adds no other."""
    sums = np.cumsum(rows, axis=1)
    sums[sums >= sums[:, -1:]] = np.inf
    return torch.as_tensor(sums, device=device)


def _draw(table: Tensor, row: Tensor, uniform: Tensor) -> Tensor:
    """The number of entries ≤ u in the given rows of a table with ascending rows, by bisection."""
    size = table.shape[1]
    entries, offset = table.reshape(-1), row * size
    found = torch.zeros_like(row)
    step = 1 << (size - 1).bit_length()
    while step:
        probe = found + step
        inside = probe <= size
        below = entries[offset + (probe - 1).clamp(max=size - 1)] <= uniform
        found = torch.where(inside & below, probe, found)
        step >>= 1
    return found
