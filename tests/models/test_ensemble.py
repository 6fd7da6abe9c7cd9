"""The ensemble computes for every run what its module computes, and keeps the runs apart."""

import copy

import pytest
import torch
from torch import nn

from plumbline.models.ensemble import Ensemble


class Layer(nn.Module):
    """A small module with a parameter, a frozen one, a buffer and methods of several forms."""

    def __init__(self, seed: int, dim: int = 3, slope: float = 1.0) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.slope = slope
        self.weight = nn.Parameter(torch.randn(2, dim, dim, generator=draws, dtype=torch.float64))
        self.shift = nn.Parameter(torch.randn(dim, generator=draws, dtype=torch.float64), requires_grad=False)
        self.register_buffer("scale", torch.rand(1, generator=draws, dtype=torch.float64))

    def extra_repr(self) -> str:
        return f"slope={self.slope}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.slope * self.scale * (x @ self.weight[0] @ self.weight[1] + self.shift)

    def loss(self, x: torch.Tensor, y: torch.Tensor, *, power: float = 2.0) -> torch.Tensor:
        return ((self(x) - y).abs() ** power).mean()

    def both(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self(x), self.weight.sum()


# float64 sums of a few dozen terms of size one, in another order.
ROUNDING = 1e-13


def layers(count: int = 4) -> list[Layer]:
    return [Layer(seed) for seed in range(count)]


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64)


def test_parameters_are_stacked_trainable_leaves():
    """Trainable parameters carry a leading run axis and are leaves; frozen ones and buffers are not listed."""
    modules = layers()
    parameters = Ensemble(modules).parameters()
    assert list(parameters) == ["weight"]
    assert parameters["weight"].shape == (4, 2, 3, 3)
    assert parameters["weight"].is_leaf
    assert parameters["weight"].requires_grad
    for run, module in enumerate(modules):
        assert torch.equal(parameters["weight"][run], module.weight)


def test_the_vector_is_the_parameters():
    """The vector holds every trainable number of a run once, in the memory of the named parameters."""
    ensemble = Ensemble([nn.Linear(3, 2) for _ in range(4)])
    assert ensemble.vector.shape == (4, 8)
    with torch.no_grad():
        ensemble.vector.copy_(torch.arange(32).view(4, 8))
    assert ensemble.parameters()["weight"][1].tolist() == [[8, 9, 10], [11, 12, 13]]
    assert ensemble.parameters()["bias"][1].tolist() == [14, 15]
    assert ensemble.select(3).vector.tolist() == [list(range(24, 32))]
    parts = ensemble.split(torch.zeros(5, 4, 8))
    assert parts["weight"].shape == (5, 4, 2, 3)
    assert parts["bias"].shape == (5, 4, 2)


def test_dtype_is_double_unless_asked_otherwise():
    """A float32 module becomes a float64 ensemble; another type is honoured."""
    assert Ensemble([nn.Linear(2, 2)]).parameters()["bias"].dtype == torch.float64
    single = Ensemble([nn.Linear(2, 2)], dtype=torch.float32)
    assert single.call("forward", torch.ones(1, 2)).dtype == torch.float32


def test_the_modules_given_are_left_alone():
    """Changing the ensemble does not change the modules it was made of."""
    modules = layers()
    before = copy.deepcopy(modules[1].weight)
    ensemble = Ensemble(modules)
    with torch.no_grad():
        ensemble.parameters()["weight"].zero_()
    assert torch.equal(modules[1].weight, before)


def test_call_equals_every_module():
    """Any method, shared or per-run arguments, keyword options and tuples give what each module gives alone."""
    modules, x = layers(), inputs(5, 3)
    ensemble = Ensemble(modules)
    per_run = inputs(5, 4, 3)
    shared = ensemble.call("forward", x)
    losses = ensemble.call("loss", per_run, x, in_dims=(1, None), power=4.0)
    first, second = ensemble.call("both", x)
    assert losses.shape == (4,)
    for run, module in enumerate(modules):
        torch.testing.assert_close(shared[run], module(x), rtol=ROUNDING, atol=ROUNDING)
        expected = module.loss(per_run[:, run], x, power=4.0)
        torch.testing.assert_close(losses[run], expected, rtol=ROUNDING, atol=0.0)
        torch.testing.assert_close(first[run], module(x), rtol=ROUNDING, atol=ROUNDING)
        torch.testing.assert_close(second[run], module.weight.sum(), rtol=ROUNDING, atol=ROUNDING)


def test_gradients_do_not_cross_runs():
    """The gradient of one run's loss with respect to another run's parameters is exactly zero."""
    ensemble = Ensemble(layers())
    losses = ensemble.call("loss", inputs(5, 3), inputs(5, 3))
    (gradient,) = torch.autograd.grad(losses[2], list(ensemble.parameters().values()))
    assert gradient[2].abs().min() > 0
    assert torch.count_nonzero(gradient[[0, 1, 3]]) == 0


def test_select_is_a_view_of_one_run():
    """A view computes the run to rounding, knows its number, and shares its memory both ways."""
    ensemble, x = Ensemble(layers(), runs=(7, 5, 6, 9)), inputs(5, 3)
    view = ensemble.select(2)
    assert view.runs == (6,)
    assert len(view) == 1
    torch.testing.assert_close(view.call("forward", x), ensemble.call("forward", x)[2:3], rtol=ROUNDING, atol=ROUNDING)
    per_run = inputs(1, 5, 3)
    torch.testing.assert_close(
        view.call("both", per_run, in_dims=(0,))[0], view.call("forward", per_run[0]), rtol=ROUNDING, atol=ROUNDING
    )
    assert view.parameters()["weight"].is_leaf
    with torch.no_grad():
        view.parameters()["weight"].fill_(0.5)
    assert torch.all(ensemble.parameters()["weight"][2] == 0.5)
    assert not torch.any(ensemble.parameters()["weight"][1] == 0.5)
    with torch.no_grad():
        ensemble.parameters()["weight"][2] = 0.25
    assert torch.all(view.parameters()["weight"] == 0.25)


def test_modules_return_the_present_values():
    """The modules handed back hold parameters, frozen parameters and buffers, and stand for themselves."""
    originals = layers()
    ensemble = Ensemble(originals)
    with torch.no_grad():
        ensemble.parameters()["weight"].add_(1.0)
    modules = ensemble.modules()
    for module, original in zip(modules, originals, strict=True):
        assert type(module) is Layer
        assert torch.equal(module.weight, original.weight + 1.0)
        assert torch.equal(module.shift, original.shift)
        assert torch.equal(module.scale, original.scale)
    with torch.no_grad():
        modules[0].weight.zero_()
    assert torch.count_nonzero(ensemble.parameters()["weight"][0]) > 0


def test_shared_parameters_stay_shared():
    """A parameter that a module uses under two names is one parameter of the ensemble."""

    def tied(seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        first, second = nn.Linear(3, 3), nn.Linear(3, 3)
        second.weight = first.weight
        return nn.Sequential(first, second).double()

    modules = [tied(seed) for seed in range(2)]
    ensemble = Ensemble(modules)
    assert len(ensemble.parameters()) == 3
    with torch.no_grad():
        ensemble.parameters()["0.weight"].mul_(2.0)
        for module in modules:
            module[0].weight.mul_(2.0)
    x = inputs(4, 3)
    for run, output in enumerate(ensemble.call("forward", x)):
        torch.testing.assert_close(output, modules[run](x), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ensemble([]), "modules must hold at least one module"),
        (lambda: Ensemble([Layer(0), Layer(1, dim=4)]), "modules must be alike, .* at index 1"),
        (lambda: Ensemble([Layer(0), nn.Linear(3, 3)]), "modules must be alike"),
        (lambda: Ensemble([Layer(0), Layer(1, slope=2.0)]), "modules must be alike, .*slope=2.0"),
        (lambda: Ensemble([nn.Identity()]), "modules must have a trainable parameter"),
        (lambda: Ensemble([Layer(0)], dtype=torch.int64), "dtype must be a real floating type, got torch.int64"),
        (lambda: Ensemble([Layer(0)], dtype=torch.complex128), "dtype must be a real floating type"),
        (lambda: Ensemble(layers(2), runs=(1, 1)), "runs must be 2 distinct numbers"),
        (lambda: Ensemble(layers(2), runs=(1,)), "runs must be 2 distinct numbers"),
        (lambda: Ensemble(layers(2), runs=(0, -1)), "runs must be at least 0, got -1"),
        (lambda: Ensemble(layers(2), runs=(0, 0.5)), "runs must be an integer, got 0.5"),
        (lambda: Ensemble(layers()).call("lost"), "method must be a method of Layer, got 'lost'"),
        (lambda: Ensemble(layers()).call("slope"), "method must be a method of Layer, got 'slope'"),
        (lambda: Ensemble(layers()).call("forward", inputs(3, 3), in_dims=(0, 0)), "in_dims must name one axis"),
        (lambda: Ensemble(layers()).call("forward", inputs(3, 3), in_dims=(0,)), "must have 4 runs on axis 0"),
        (lambda: Ensemble(layers()).call("forward", inputs(4, 3), in_dims=(2,)), "must have 4 runs on axis 2"),
        (lambda: Ensemble(layers()).call("forward", 1.0, in_dims=(0,)), "must have 4 runs on axis 0, got float"),
        (lambda: Ensemble(layers()).select(4), "position must be at most 3, got 4"),
        (lambda: Ensemble(layers()).select(-1), "position must be at least 0, got -1"),
    ],
)
def test_bad_input_is_refused(make, message):
    """What cannot be stacked, called or selected is a ValueError that names the parameter."""
    with pytest.raises(ValueError, match=message):
        make()
