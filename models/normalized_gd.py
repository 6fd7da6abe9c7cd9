"""Normalised gradient descent: steps of a length that does not depend on the size of the gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from plumbline.models.training.settings import NORMALIZATIONS, Normalization
from plumbline.theory import checks


def normalized(gradients: Sequence[Tensor], normalize: Normalization, *, runs: bool = False) -> list[Tensor]:
    r"""Return gradients scaled to length one; a zero gradient stays zero.

    .. math:: \text{tensor: } g_i / |g_i|, \quad \text{joint: } g_i / \sqrt{∑_j |g_j|²}, \quad \text{sign: } sign(g_i)

    Entries are divided by the largest before they are squared, so that a gradient of 1e-200 keeps its direction.

    Args:
        gradients: One tensor per parameter.
        normalize: ``"tensor"`` (each its own Euclidean norm), ``"joint"`` (one norm for all) or ``"sign"`` (entry
            by entry).
        runs: Whether the first axis of every tensor is a run axis; then each run has its own norms.

    Example:
        >>> normalized([torch.tensor([3.0, 4.0]), torch.tensor(-2e-30)], "tensor")
        [tensor([0.6000, 0.8000]), tensor(-1.)]
    """
    checks.one_of("normalize", normalize, NORMALIZATIONS)
    if normalize == "sign":
        return [gradient.sign() for gradient in gradients]
    rows = [gradient.reshape(len(gradient) if runs else 1, -1) for gradient in gradients]
    if normalize == "tensor":
        units = [_unit(row) for row in rows]
    else:
        units = list(_unit(torch.cat(rows, dim=1)).split([row.shape[1] for row in rows], dim=1))
    return [unit.reshape(gradient.shape) for unit, gradient in zip(units, gradients, strict=True)]


def _unit(rows: Tensor) -> Tensor:
    """Each row divided by its Euclidean norm, if that is not zero."""
    scaled = rows / _or_one(rows.abs().amax(dim=1, keepdim=True))
    return scaled / _or_one(torch.linalg.vector_norm(scaled, dim=1, keepdim=True))


def _or_one(sizes: Tensor) -> Tensor:
    return torch.where(sizes == 0, 1.0, sizes)


class NormalizedGD(torch.optim.Optimizer):
    r"""Gradient descent w ← w − η u with the normalised gradient u, see `normalized`.

    With ``"tensor"``, as in the experiments of in-context reasoning, every parameter tensor with a gradient other
    than zero moves by exactly η; ``"joint"`` moves all of them together by η; ``"sign"`` moves every entry by η.

    Use float64. In float32 the cross-entropy gradient of a trained model falls below the rounding of the
    probabilities once logits differ by about 17, and normalisation then makes steps of full length out of rounding.

    Args:
        params: Parameters, or parameter groups.
        lr: η > 0; with ``runs`` also a tensor (R,), one for each run.
        normalize: ``"tensor"``, ``"joint"`` (over the parameters of a group) or ``"sign"``.
        runs: Whether the first axis of every parameter is a run axis, as in `plumbline.models.ensemble.Ensemble`.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Source:
        Nguyen & Nguyen-Tang 2025 (2505.15009), whose code normalises tensor by tensor.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        >>> optimizer = NormalizedGD([weight], lr=0.5)
        >>> (weight * torch.tensor([3e-12, -4e-12])).sum().backward()
        >>> optimizer.step()
        >>> [round(number, 12) for number in weight.tolist()]
        [-0.3, 0.4]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor,
        *,
        normalize: Normalization = "tensor",
        runs: bool = False,
    ) -> None:
        checks.one_of("normalize", normalize, NORMALIZATIONS)
        checks.one_of("runs", runs, (False, True))
        if isinstance(lr, Tensor) and lr.ndim:
            if not runs:
                raise ValueError(f"lr must be one number without a run axis, got a tensor of shape {tuple(lr.shape)}")
            for rate in lr.reshape(-1).tolist():
                checks.real("lr", rate, above=0.0)
        else:
            checks.real("lr", float(lr), above=0.0)
        super().__init__(params, {"lr": lr, "normalize": normalize, "runs": runs})
        for group in self.param_groups:
            for parameter in group["params"]:
                size = group["lr"].shape if isinstance(group["lr"], Tensor) else ()
                if group["runs"] and (not parameter.ndim or size not in ((), parameter.shape[:1])):
                    raise ValueError(
                        f"lr must have one entry per run and parameters a run axis, got lr of shape {tuple(size)} "
                        f"and a parameter of shape {tuple(parameter.shape)}"
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; parameters without a gradient stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not moved:
                continue
            units = normalized([p.grad for p in moved], group["normalize"], runs=group["runs"])
            for parameter, unit in zip(moved, units, strict=True):
                rate = group["lr"]
                if isinstance(rate, Tensor) and rate.ndim:
                    rate = rate.to(unit).view(-1, *[1] * (unit.ndim - 1))
                parameter.sub_(rate * unit)
        return loss
