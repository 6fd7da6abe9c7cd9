"""The network of one hidden layer that is evaluated in parts."""

import pytest
import torch
from torch.nn.functional import gelu, relu

from plumbline.models.perceptron import perceptron


@pytest.mark.parametrize(("name", "activation"), [("gelu", gelu), ("relu", relu)])
@pytest.mark.parametrize("states_too", [True, False])
def test_the_perceptron_in_parts_is_the_perceptron(name, activation, states_too):
    """Four parts of 150 states, two runs: values, gradients and second derivatives of the plain program."""
    source = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 150), (2, 3000, 3), (2, 3000), (2, 4, 3000))
    states, *weights = (torch.randn(*shape, generator=source, dtype=torch.float64) for shape in shapes)
    wanted = [tensor.requires_grad_() for tensor in ([states, *weights] if states_too else weights)]
    weight = torch.randn(2, 4, 150, generator=source, dtype=torch.float64)

    def in_parts(states, inner, bias, outer):
        return torch.vmap(lambda *tensors: perceptron(*tensors, name))(states, inner, bias, outer)

    def plain(states, inner, bias, outer):
        return outer @ activation(inner @ states + bias.unsqueeze(-1))

    ends = []
    for program in (in_parts, plain):
        total = program(states, *weights)
        # Written by hand; where derivatives of it are wanted, the plain program takes its place.
        by_hand = torch.autograd.grad((total * weight).sum(), wanted, retain_graph=True)
        first = torch.autograd.grad((total * weight).sum(), wanted, create_graph=True)
        second = torch.autograd.grad(sum((part**2).sum() for part in first), wanted)
        ends.append([total, *by_hand, *first, *second])
    for one, other in zip(*ends, strict=True):
        # Sums of 3,000 terms.
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_gradients_for_many_weights_at_once():
    """The backward pass of a backward pass is vectorised, as for Hessian-vector products."""
    source = torch.Generator().manual_seed(1)
    states, inner, bias, outer = (
        torch.randn(*shape, generator=source, dtype=torch.float64) for shape in ((3, 7), (5, 3), (5,), (2, 5))
    )
    inner.requires_grad_()
    total = perceptron(states, inner, bias, outer, "relu")
    directions = torch.randn(4, 2, 7, generator=source, dtype=torch.float64)
    (together,) = torch.autograd.grad(total, inner, directions, is_grads_batched=True, retain_graph=True)
    for direction, row in zip(directions, together, strict=True):
        (alone,) = torch.autograd.grad(total, inner, direction, retain_graph=True)
        torch.testing.assert_close(row, alone)
