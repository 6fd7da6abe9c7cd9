"""Cross-entropy that keeps its relative precision when the prediction is almost certain."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the cross-entropy of logits (batch, N), a scalar tensor.

    .. math:: \sum_{ij} w_{ij} \log(1 + e^{L_{ij}}), \quad L_{ij} = \log \sum_{v ≠ y_{ij}} e^{ξ_{iv}} - ξ_{i y_{ij}}

    It equals `torch.nn.functional.cross_entropy`, whose gradient at the label is p - 1, rounded: below 1e-16 (1e-7 in
    float32) nothing is left of it, and normalised gradient descent stalls or walks at random. Here loss and gradient
    keep their relative precision as long as the label is the likely one.

    Args:
        logits: (batch, N).
        labels: (batch,), or (batch, L) for L possible labels of each sentence.
        weights: Probability of each sentence and label, of the shape of ``labels``; ``None`` for equal ones.

    Source:
        Derived here.

    Example:
        >>> cross_entropy(torch.tensor([[50.0, 0.0, 0.0]]), torch.tensor([0]))
        tensor(3.8575e-22)
    """
    columns = labels if labels.ndim == 2 else labels.unsqueeze(1)
    picked = logits.gather(1, columns)
    everything = logits.unsqueeze(1).expand(-1, columns.shape[1], -1)
    others = everything.scatter(2, columns.unsqueeze(2), -torch.inf).logsumexp(2)
    losses = -logsigmoid(picked - others)
    return losses.mean() if weights is None else (losses * weights.reshape(columns.shape)).sum()


def label_count_loss(scale: Tensor, noise_logit: Tensor | None, slope: int, vocab_size: int, counts: Tensor) -> Tensor:
    r"""Return the mean cross-entropy of sentences in which one token has the logit λ and one, τ, may have γ + κ λ.

    .. math:: \sum_q \frac{n_q}{B} \log(1 + (N-1) e^{-λ_q}), \quad \text{with noise} \quad
              \log(1 + (N-2) / (e^λ + e^{γ + κλ})) + \frac{n_y}{B} \log(1 + e^{D}) + \frac{n_τ}{B} \log(1 + e^{-D})

    with D = γ + (κ-1) λ the logit of τ over that of the output token. In this form neither value nor slope is a
    difference of large numbers.

    Args:
        scale: λ, (Q,), with noise (1,).
        noise_logit: γ, a scalar tensor; ``None`` without noise.
        slope: κ, 0 or 1.
        vocab_size: N.
        counts: n_q, (Q,); with noise (n_y, n_τ), (2,).
    """
    counts = counts.to(scale.dtype)
    shares = counts / counts.sum()
    if noise_logit is None:
        return -(shares * logsigmoid(scale - math.log(vocab_size - 1))).sum()
    top = scale.sum()
    gap = noise_logit + (slope - 1) * top
    # log(e^λ + e^{γ+κλ}) = λ + log(1 + e^D): the slope of the first term alone is never rounded away.
    recalled = -logsigmoid(top - logsigmoid(-gap) - math.log(vocab_size - 2))
    return recalled - (shares * logsigmoid(torch.stack([-gap, gap]))).sum()
