"""Reparameterised attention from a few integers of each sentence: its scores take three values only."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from plumbline.models.reasoning.lookup import activate
from plumbline.theory.reasoning.task import ReasoningTask


class Matches(NamedTuple):
    """The positions of a sentence by their score: -λ, 0 or λ.

    Attributes:
        triggers: (batch,), the last token.
        counts: (batch, 3, N), how often each token stands at a position with score -λ, 0, λ, as floats.
        after_trigger: (batch, 3), how many of those positions follow a token q = 0.
        doubled: (batch,), whether the token before the last is q = 0 (never on the law).
    """

    triggers: Tensor
    counts: Tensor
    after_trigger: Tensor
    doubled: Tensor

    def attend(self, scale: Tensor, attention: str) -> tuple[Tensor, Tensor]:
        """Return the attention-weighted sum of the token embeddings, (batch, N), and that of E~(0), (batch,)."""
        known = self.triggers < len(scale)
        scores = torch.where(known, scale.index_select(0, self.triggers.clamp(max=len(scale) - 1)), 0.0)
        scores = scores.unsqueeze(1) * torch.arange(-1, 2, dtype=scale.dtype, device=scale.device)
        weights = activate(scores, attention)
        if attention == "softmax":
            largest = scores.detach().amax(1, keepdim=True)
            weights = (scores - largest).exp()
            weights = weights / (weights * self.counts.sum(2)).sum(1, keepdim=True)
        return torch.einsum("bj,bjn->bn", weights, self.counts), (weights * self.after_trigger).sum(1)


def match_tokens(task: ReasoningTask, tokens: Tensor, dtype: torch.dtype) -> Matches:
    """The matches of any sentences (batch, H).

    A position scores λ where the token before it is the last token of the sentence, with noise less λ where its own
    token is τ; with noise the trigger is 0.
    """
    last, previous = tokens[:, -1], tokens[:, :-1]
    after = (previous == (0 if task.noise else last.unsqueeze(1))).to(dtype)
    nothing = after.new_zeros(len(tokens), task.vocab_size)
    everything = nothing.scatter_add(1, tokens, torch.ones_like(tokens, dtype=dtype))
    matched = nothing.scatter_add(1, tokens[:, 1:], after)
    opposed, after_trigger = torch.zeros_like(matched), after.new_zeros(len(tokens), 3)
    if task.noise:
        both = matched[:, -1:]
        after_trigger = pad(torch.cat([both, matched[:, :-1].sum(1, keepdim=True)], dim=1), (1, 0))
        opposed = pad(everything[:, -1:] - both, (task.noise_token, 0))
        matched = pad(matched[:, :-1], (0, 1))
    counts = torch.stack([opposed, everything - matched - opposed, matched], dim=1)
    return Matches(last, counts, after_trigger, previous[:, -1] == 0)


def match_counts(task: ReasoningTask, counts: Tensor, triggers: Tensor, outputs: Tensor, dtype: torch.dtype) -> Matches:
    """The matches of sentences of the law, from their token counts: only the output token has the score λ."""
    matched = one_hot(outputs, task.vocab_size)
    by_score = torch.stack([torch.zeros_like(matched), counts - matched, matched], dim=1).to(dtype)
    # With noise the tokens that follow q = 0 are τ, with score λ - λ, and the output token.
    after_trigger = torch.tensor([0, 1, 1], dtype=dtype, device=counts.device).expand(len(counts), 3)
    return Matches(triggers, by_score, after_trigger, torch.zeros_like(triggers, dtype=torch.bool))
