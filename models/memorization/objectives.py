"""What is minimised on next-token laws: cross-entropies, exact over all contexts or of sampled sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from plumbline.models.ensemble import Ensemble
from plumbline.models.memorization.next_token_model import joint_law
from plumbline.models.memorization.sequences import empirical_law
from plumbline.theory.memorization.task import NgramTask


class CrossEntropy:
    """The cross-entropies of the runs of an ensemble of next-token models, as `train` minimises them.

    Args:
        law: One law for all runs, or a list with one for each.
        dtype: That of the parameters.
        samples: Sequences of a step from which it is estimated; 0 is the exact cross-entropy.
        draws: Called with the number of a run and a step, the source of its sequences.
    """

    def __init__(
        self,
        law: NgramTask | Sequence[NgramTask],
        *,
        dtype: torch.dtype,
        samples: int,
        draws: Callable[[int, int], torch.Generator],
    ) -> None:
        self.shared = isinstance(law, NgramTask)
        self.laws = [law] if isinstance(law, NgramTask) else list(law)
        self.dtype, self.samples, self.draws = dtype, samples, draws
        joints = [joint_law(law, dtype=dtype) for law in self.laws]
        self.joint = joints[0] if self.shared else _stacked(joints)

    def __call__(self, ensemble: Ensemble, step: int) -> Tensor:
        """The cross-entropies (R,)."""
        if not self.samples:
            return self.exact("cross_entropy", ensemble)
        drawn = [
            empirical_law(
                self.laws[run % len(self.laws)], self.samples, generator=self.draws(run, step), dtype=self.dtype
            )
            for run in ensemble.runs
        ]
        losses: Tensor = ensemble.call("cross_entropy", _stacked(drawn), in_dims=[0])
        return losses

    def exact(self, method: str, ensemble: Ensemble) -> Tensor:
        """What a method of the models returns for the law of its run, over all contexts: (R,)."""
        joint = self.joint
        if not self.shared and len(ensemble) < len(self.laws):  # L-BFGS looks at one run at a time
            joint = joint[list(ensemble.runs)]
        values: Tensor = ensemble.call(method, joint, in_dims=[None if self.shared else 0])
        return values


class CrossEntropyAndAccuracy(CrossEntropy):
    """The same, with the accuracies at the recorded steps."""

    def observe(self, ensemble: Ensemble, step: int, update: Tensor | None) -> dict[str, Tensor]:
        """The accuracies (R,) over all contexts."""
        return {"accuracies": self.exact("accuracy", ensemble)}


def _stacked(laws: list[Tensor]) -> Tensor:
    """Laws (R, N^S, N) of the runs; in memory the contexts stay on the last axis."""
    return torch.stack([law.mT for law in laws]).mT
