"""What is measured on an ensemble along its training: losses on test sentences, probabilities, layers, scales."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from plumbline.models.ensemble import Ensemble
from plumbline.models.reasoning.losses import cross_entropy
from plumbline.models.reasoning.one_layer import Logits
from plumbline.models.reasoning.sentences import sample_sentences
from plumbline.theory.reasoning.task import ReasoningTask


class Meter:
    """Measures an ensemble as it is, as `train` takes its observer: tensors (runs, ...) by name.

    ``scales`` (runs, Q) of reparameterised models, ``key_query_size``, ``value_size`` and ``feed_forward_weight_size``
    (the largest |entry|) of others; with test sentences also

    - ``population``, ``unseen``: the loss on sentences with trained and with unseen outputs, the label's coin
      integrated out;
    - ``unseen_output``: the smallest -log P(y) over the unseen-output sentences;
    - ``probabilities`` (runs, 2): the mean P(y) and P(τ) on sentences with trained outputs;
    - ``layers`` (runs, 4): the mean attention logit of y and the largest one, the mean feed-forward logit of τ and the
      largest one;
    - ``roles`` (runs, 2): the share of sentences where each layer's largest logit is that of y, and of τ;
    - ``logit_sums``: the largest |sum of all logits| over the unseen-output sentences.

    Args:
        task: What test sentences are drawn from.
        noise: The noise of each run.
        size: Number of test sentences of either kind.
        draws: Source of the test sentences.
    """

    def __init__(self, task: ReasoningTask, noise: list[float], size: int, draws: torch.Generator) -> None:
        self.task, self.noise = task, noise
        self.trained = sample_sentences(task, size, generator=draws) if size else None
        self.unseen = (
            sample_sentences(task, size, unseen=True, generator=draws) if size and task.unseen_tokens else None
        )

    @torch.no_grad()
    def __call__(self, ensemble: Ensemble, step: int, update: Tensor | None) -> dict[str, Tensor]:
        """What is measured now, in float64; nothing of it moves with the parameters."""
        found = {}
        for name, tensor in ensemble.parameters().items():
            if name == "scale":
                found["scales"] = tensor
            else:
                found[f"{name}_size"] = tensor.abs().flatten(1).amax(1)
        if self.trained is not None:
            logits = ensemble.call("lookup_logits", self.trained.tokens)
            outputs = self.trained.outputs
            found["population"] = self._losses(logits.total, outputs)
            found["probabilities"] = self._probabilities(logits.total, outputs)
            found |= self._layers(logits, outputs)
        if self.unseen is not None:
            total = ensemble.call("lookup_logits", self.unseen.tokens).total
            outputs = self.unseen.outputs
            found["unseen"] = self._losses(total, outputs)
            found["unseen_output"] = (-_picked(total.log_softmax(2), outputs)).amin(1)
            found["logit_sums"] = total.sum(2).abs().amax(1)
        return {name: values.detach().to(torch.float64, copy=True) for name, values in found.items()}

    def _losses(self, total: Tensor, outputs: Tensor) -> Tensor:
        """The losses (R,) of logits (R, T, N), the label's coin integrated out."""
        labels = torch.stack([outputs, torch.full_like(outputs, self.task.noise_token)], dim=1)
        if not self.task.noise:
            return torch.stack([cross_entropy(logits, outputs) for logits in total])
        shares = [torch.tensor([1 - noise, noise], dtype=total.dtype) / len(outputs) for noise in self.noise]
        return torch.stack(
            [cross_entropy(logits, labels, w.expand(len(outputs), 2)) for logits, w in zip(total, shares, strict=True)]
        )

    def _probabilities(self, total: Tensor, outputs: Tensor) -> Tensor:
        law = total.softmax(2)
        return torch.stack([_picked(law, outputs).mean(1), law[:, :, self.task.noise_token].mean(1)], dim=1)

    def _layers(self, logits: Logits, outputs: Tensor) -> dict[str, Tensor]:
        right = _picked(logits.attention, outputs)
        noise = logits.feed_forward[:, :, self.task.noise_token]
        largest = logits.attention.amax(2), logits.feed_forward.amax(2)
        agree = [(right >= largest[0]).double().mean(1), (noise >= largest[1]).double().mean(1)]
        return {
            "layers": torch.stack([t.mean(1) for t in (right, largest[0], noise, largest[1])], dim=1),
            "roles": torch.stack(agree, dim=1),
        }


def _picked(values: Tensor, tokens: Tensor) -> Any:
    """The entry of each sentence's token (R, T) of (R, T, N)."""
    return values.gather(2, tokens.view(1, -1, 1).expand(len(values), -1, 1)).squeeze(2)
