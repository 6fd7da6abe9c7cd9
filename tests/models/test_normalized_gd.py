"""Normalised gradient descent moves by the learning rate, whatever the size of the gradient."""

import math

import pytest
import torch
from torch import nn

from plumbline.models.normalized_gd import NormalizedGD, normalized

# A few float64 divisions and a square root.
ROUNDING = 1e-14


def tensors(seed: int = 0, size: float = 1.0) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [size * torch.randn(shape, generator=draws, dtype=torch.float64) for shape in ((3, 4), (5,), ())]


@pytest.mark.parametrize("size", [1.0, 1e-8, 1e-200, 1e200])
def test_every_norm_is_the_step(size):
    """Each tensor moves by exactly η along its gradient; jointly all of them; by sign every entry."""
    for normalize in ("tensor", "joint", "sign"):
        parameters = [nn.Parameter(start) for start in tensors(1)]
        gradients = tensors(2, size)
        optimizer = NormalizedGD(parameters, lr=0.25, normalize=normalize)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
        moved = [(start - p.detach()) / 0.25 for start, p in zip(tensors(1), parameters, strict=True)]
        unit = tensors(2)
        total = math.sqrt(sum(float((g**2).sum()) for g in unit))
        for step, g in zip(moved, unit, strict=True):
            want = {"tensor": g / (g**2).sum().sqrt(), "joint": g / total, "sign": g.sign()}[normalize]
            torch.testing.assert_close(step, want, rtol=0, atol=10 * ROUNDING)


def test_a_zero_gradient_stays_and_a_missing_one_too():
    """A tensor without slope does not move, alone or beside others."""
    still, moving, absent = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(3))
    still.grad, moving.grad = torch.zeros_like(still), torch.tensor([0.0, -7.0], dtype=torch.float64)
    for normalize in ("tensor", "joint", "sign"):
        NormalizedGD([still, moving, absent], lr=0.5, normalize=normalize).step()
    assert still.tolist() == [1, 1]
    assert absent.tolist() == [1, 1]
    assert moving.tolist() == [1, 2.5]
    NormalizedGD([absent], lr=0.5).step()


@pytest.mark.parametrize("normalize", ["tensor", "joint", "sign"])
def test_runs_are_apart(normalize):
    """With a run axis each run is normalised by itself and has its own learning rate."""
    rates = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    alone = [[nn.Parameter(t) for t in tensors(run)] for run in range(3)]
    together = [nn.Parameter(torch.stack([p[i].detach() for p in alone])) for i in range(3)]
    for run, parameters in enumerate(alone):
        for i, gradient in enumerate(tensors(run + 10, 10.0**-run)):
            parameters[i].grad = gradient
        NormalizedGD(parameters, lr=float(rates[run]), normalize=normalize).step()
    for i, parameter in enumerate(together):
        parameter.grad = torch.stack([tensors(run + 10, 10.0**-run)[i] for run in range(3)])
    NormalizedGD(together, lr=rates, normalize=normalize, runs=True).step()
    for run in range(3):
        for i in range(3):
            torch.testing.assert_close(together[i][run], alone[run][i], rtol=ROUNDING, atol=ROUNDING)


def test_a_closure_is_called():
    """As with every optimizer of torch, its loss is returned."""
    x = nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    optimizer = NormalizedGD([x], lr=1.0)

    def closure():
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9
    assert x.item() == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be greater than 0"),
        ({"lr": 0.1, "normalize": "norm"}, "normalize must be one of 'tensor', 'joint', 'sign', got 'norm'"),
        ({"lr": 0.1, "runs": 2}, "runs must be one of"),
        ({"lr": torch.ones(2)}, "lr must be one number without a run axis"),
        ({"lr": torch.tensor([1.0, -1.0]), "runs": True}, "lr must be greater than 0"),
        ({"lr": torch.ones(3), "runs": True}, "lr must have one entry per run"),
    ],
)
def test_bad_input_is_refused(options, message):
    """One sentence that names the parameter, its value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        NormalizedGD([nn.Parameter(torch.ones(2, 2))], **options)
    with pytest.raises(ValueError, match="normalize must be"):
        normalized([torch.ones(2)], "none")
