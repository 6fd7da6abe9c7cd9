"""The trainer follows torch.optim, keeps its runs apart, and names the way each of them ends."""

import numpy as np
import pytest
import torch
from torch import nn

from plumbline.models.ensemble import Ensemble
from plumbline.models.normalized_gd import NormalizedGD
from plumbline.models.training import Training, trainer
from plumbline.models.training.draws import generator
from plumbline.models.training.trainer import train

# Trajectories that differ by the order of a few float64 sums per step, over some tens of contracting steps.
ROUNDING = 1e-11


class Network(nn.Module):
    """y = V (K x) + b with parameters shaped (layers, heads, d, d) and (d,), small enough for loops."""

    def __init__(self, seed: int, dim: int = 3, size: float = 0.5) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.maps = nn.Parameter(size * torch.randn(2, 2, dim, dim, generator=draws, dtype=torch.float64))
        self.bias = nn.Parameter(size * torch.randn(dim, generator=draws, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.maps:
            x = x @ layer.sum(0).T
        return x + self.bias

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((self(x) - y) ** 2).sum(-1).mean()


class Bowl(nn.Module):
    """offset + sum_i curvature_i (x_i - 1)^2 / 2."""

    def __init__(self, start, curvature=1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.as_tensor(start, dtype=torch.float64).clone())
        self.register_buffer("curvature", torch.as_tensor(curvature, dtype=torch.float64))
        self.offset = offset

    def forward(self) -> torch.Tensor:
        return self.offset + 0.5 * (self.curvature * (self.x - 1) ** 2).sum()


class Edge(nn.Module):
    """Losses of one number x that end where x leaves (0, 4), at x = 1, or in a kink there."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([start], dtype=torch.float64))

    def forward(self) -> torch.Tensor:
        return (self.x**-0.5 + 1e-3 * (4 - self.x) ** -0.5).sum()

    def downhill(self) -> torch.Tensor:
        return torch.where(self.x > 1, self.x, torch.nan).sum()

    def kink(self) -> torch.Tensor:
        return 1 + (self.x - 1).abs().sum()


def forward(ensemble: Ensemble, step: int) -> torch.Tensor:
    return ensemble.call("forward")


def data(seed: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(20, 3, generator=draws, dtype=torch.float64)
    return x, x @ torch.tensor([[1.0, 0.2, 0.0], [0.0, 0.5, 0.1], [0.3, 0.0, 0.8]], dtype=torch.float64) + 0.3


X, Y = data()


def fixed(ensemble: Ensemble, step: int) -> torch.Tensor:
    """The exact objective of the tests: the mean over twenty fixed examples."""
    return ensemble.call("loss", X, Y)


def sampled(ensemble: Ensemble, step: int) -> torch.Tensor:
    """Fresh examples for every run and step, drawn by the run's own number."""
    x = torch.stack(
        [torch.randn(8, 3, generator=generator(3, run, step), dtype=torch.float64) for run in ensemble.runs]
    )
    return ensemble.call("loss", x, 2 * x, in_dims=(0, 0))


FIRST_ORDER = {
    "adam": {"optimizer": "adam", "learning_rate": 0.02, "betas": (0.9, 0.95)},
    "decay": {"optimizer": "adam", "learning_rate": 0.02, "weight_decay": 0.1},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.05},
}


def plain(name: str, module: nn.Module) -> torch.optim.Optimizer:
    return {
        "adam": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.9, 0.95)),
        "decay": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.05),
    }[name](module.parameters())


def clip_by_loops(module: Network, clip: float, by: str) -> None:
    """Scale gradients block by block, as one would write it down."""
    assert module.maps.grad is not None
    assert module.bias.grad is not None
    if by == "run":
        norm = sum(float((p.grad**2).sum()) for p in module.parameters()) ** 0.5
        for parameter in module.parameters():
            parameter.grad *= min(1.0, clip / norm)
        return
    for layer in range(2):
        for head in range(2):
            norm = float((module.maps.grad[layer, head] ** 2).sum() ** 0.5)
            module.maps.grad[layer, head] *= min(1.0, clip / norm)
    module.bias.grad *= min(1.0, clip / float((module.bias.grad**2).sum() ** 0.5))


def follow(module: Network, optimizer: torch.optim.Optimizer, steps: int, between=None, after=None) -> list[float]:
    """The reference: a plain training loop over one module."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = module.loss(X, Y)
        losses.append(loss.item())
        loss.backward()
        if between is not None:
            between(module)
        optimizer.step()
        if after is not None:
            after()
    return [*losses, module.loss(X, Y).item()]


def assert_same(trained, run: int, module: nn.Module, tolerance: float = ROUNDING) -> None:
    for name, parameter in module.named_parameters():
        np.testing.assert_allclose(
            trained.parameters[name][run], parameter.detach().numpy(), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_first_order_methods_are_those_of_torch(name):
    """Each run of an ensemble takes the steps of torch.optim on its module, and the curve its losses."""
    trained = train(
        Ensemble([Network(seed) for seed in range(3)]), fixed, Training(steps=40, record_every=1, **FIRST_ORDER[name])
    )
    assert trained.outcomes == ("budget",) * 3
    assert trained.steps.tolist() == [40] * 3
    for run in range(3):
        module = Network(run)
        losses = follow(module, plain(name, module), 40)
        assert_same(trained, run, module)
        np.testing.assert_allclose(trained.curve.losses[:, run], losses, rtol=ROUNDING)
        np.testing.assert_allclose(trained.losses[run], losses[-1], rtol=ROUNDING)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam", "halve_every": 7, "clip": 0.5},
        {"optimizer": "adam", "weight_decay": 0.1},
        {"optimizer": "sgd", "momentum": 0.9, "halve_every": 7},
        {"optimizer": "sgd", "weight_decay": 0.1, "normalize": "tensor"},
        {"optimizer": "lbfgs", "steps": 3},
    ],
)
def test_each_run_has_the_rate_at_its_number(options):
    """Of three rates in turn, runs 2 to 6 have the last, the first, the second and so on: each as if it were alone."""
    rates, numbers = (0.02, 0.05, 0.01), range(2, 7)
    options = {"steps": 20, "tolerance": 0.0, **options}

    def squares(ensemble, step):
        return ensemble.call("loss", X, Y)

    together = Ensemble([Network(run) for run in numbers], runs=numbers)
    ends = train(together, squares, Training(learning_rate=rates, **options))
    for place, run in enumerate(numbers):
        alone = Ensemble([Network(run)], runs=[run])
        end = train(alone, squares, Training(learning_rate=rates[run % 3], **options))
        torch.testing.assert_close(together.vector[place], alone.vector[0], rtol=ROUNDING, atol=ROUNDING)
        assert ends.losses[place] == pytest.approx(end.losses[0], rel=ROUNDING)
        other = Ensemble([Network(run)], runs=[run])
        train(other, squares, Training(learning_rate=rates[(run + 1) % 3], **options))
        assert not torch.allclose(together.vector[place], other.vector[0], rtol=1e-3)


def test_rates_of_a_training():
    """One for all or one in turn; runs that differ in it alone have one number to draw by."""
    one, three = (Training(optimizer="sgd", steps=1, learning_rate=rate) for rate in (0.1, [0.1, 0.2, 0.3]))
    assert (one.rates, three.rates) == ((0.1,), (0.1, 0.2, 0.3))
    assert [one.start(run) for run in range(4)] == [0, 1, 2, 3]
    assert [three.start(run) for run in range(7)] == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("normalize", ["tensor", "joint", "sign"])
def test_normalized_steps_are_those_of_the_optimizer(normalize):
    """Each run of an ensemble takes the steps of NormalizedGD on its module, and moves as far as it should."""
    training = Training(optimizer="sgd", learning_rate=0.02, steps=25, normalize=normalize, record_every=1)
    trained = train(Ensemble([Network(seed) for seed in range(3)]), fixed, training, snapshots=True)
    for run in range(3):
        module = Network(run)
        losses = follow(module, NormalizedGD(module.parameters(), lr=0.02, normalize=normalize), 25)
        # Near a minimum the direction of a small gradient carries the rounding of the loss's terms.
        assert_same(trained, run, module, tolerance=1e-9)
        np.testing.assert_allclose(trained.curve.losses[:, run], losses, rtol=1e-9)
        steps = [np.diff(trained.curve.parameters[name][:, run], axis=0).reshape(25, -1) for name in ("maps", "bias")]
        lengths = [np.linalg.norm(step, axis=1) for step in steps]
        if normalize == "tensor":
            np.testing.assert_allclose(lengths, 0.02, rtol=ROUNDING)
        if normalize == "joint":
            np.testing.assert_allclose(np.hypot(*lengths), 0.02, rtol=ROUNDING)


def test_a_run_without_a_gradient_in_one_parameter_goes_on():
    """A parameter whose gradient is zero stays where it is while the others take steps of full length."""
    two = Ensemble([Bowl([3.0, 5.0], [1.0, 0.0]), Bowl([3.0, 5.0], [1e-12, 1e-12])])
    training = Training(optimizer="sgd", learning_rate=0.5, steps=2, normalize="sign", tolerance=0.0)
    trained = train(two, forward, training)
    np.testing.assert_allclose(trained.parameters["x"], [[2.0, 5.0], [2.0, 4.0]], rtol=ROUNDING)


def check_clipping(by: str) -> None:
    clip = {"matrix": 0.05, "run": 0.1}[by]
    training = Training(optimizer="sgd", learning_rate=0.3, steps=25, clip=clip, clip_by=by)
    trained = train(Ensemble([Network(seed) for seed in range(3)]), fixed, training)
    for run in range(3):
        module = Network(run)
        follow(
            module, torch.optim.SGD(module.parameters(), lr=0.3), 25, lambda network: clip_by_loops(network, clip, by)
        )
        assert_same(trained, run, module)


@pytest.mark.parametrize("by", ["matrix", "run"])
def test_clipping_acts_block_by_block(by):
    """Clipping equals explicit loops over runs, layers, heads, and single vectors; or over whole runs."""
    check_clipping(by)


@pytest.mark.parametrize("by", ["matrix", "run"])
def test_the_clipping_test_can_fail(by, monkeypatch):
    """Without clipping, and with the other kind of blocks, the test above fails."""
    monkeypatch.setattr(trainer, "_clip", lambda ensemble, gradient, norms, training: None)
    with pytest.raises(AssertionError):
        check_clipping(by)
    monkeypatch.undo()
    clip = trainer._clip

    def other(ensemble, gradient, norms, training):
        wrong = Training(
            optimizer="sgd",
            learning_rate=1.0,
            steps=1,
            clip=training.clip,
            clip_by="run" if by == "matrix" else "matrix",
        )
        clip(ensemble, gradient, norms, wrong)

    monkeypatch.setattr(trainer, "_clip", other)
    with pytest.raises(AssertionError):
        check_clipping(by)


def test_small_gradients_and_scalars_are_clipped_as_they_should():
    """A gradient below the bound, or zero, is left bit for bit; a parameter that is one number per run is a block."""

    class Slopes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrices = nn.Parameter(torch.zeros(3, 2, 2))
            self.number = nn.Parameter(torch.tensor(0.0))

    slopes = torch.tensor([[[0.6, 0.0], [0.0, 0.7]], [[0.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [4.0, 0.0]]]).double()
    numbers = torch.tensor([-2.0, 0.5]).double()

    def linear(ensemble: Ensemble, step: int) -> torch.Tensor:
        parameters = ensemble.parameters()
        return (parameters["matrices"] * slopes).sum((1, 2, 3)) + parameters["number"] * numbers

    training = Training(optimizer="sgd", learning_rate=1.0, steps=1, clip=1.0)
    trained = train(Ensemble([Slopes(), Slopes()]), linear, training)
    assert np.array_equal(-trained.parameters["matrices"][0, :2], slopes[:2].numpy())
    np.testing.assert_allclose(-trained.parameters["matrices"][1, 2], [[0.6, 0.0], [0.8, 0.0]], rtol=ROUNDING)
    assert (-trained.parameters["number"]).tolist() == [-1.0, 0.5]


def test_learning_rate_is_halved_on_schedule():
    """halve_every is torch's StepLR with factor one half; without it the result is another."""
    trained = train(
        Ensemble([Network(0)]), fixed, Training(optimizer="adam", learning_rate=0.05, steps=40, halve_every=7)
    )
    module = Network(0)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    follow(module, optimizer, 40, after=torch.optim.lr_scheduler.StepLR(optimizer, 7, gamma=0.5).step)
    assert_same(trained, 0, module)
    constant = train(Ensemble([Network(0)]), fixed, Training(optimizer="adam", learning_rate=0.05, steps=40))
    assert np.abs(constant.parameters["maps"] - trained.parameters["maps"]).max() > 1e-3


def test_lbfgs_is_that_of_torch():
    """Before rounding matters, the iterates are those of torch.optim.LBFGS with strong Wolfe line search."""
    module = Network(1)
    optimizer = torch.optim.LBFGS(
        module.parameters(),
        lr=0.7,
        max_iter=12,
        max_eval=1000,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        loss = module.loss(X, Y)
        loss.backward()
        return loss

    # The first trial step is the same only where the l1 norm of the gradient is at least one.
    closure()
    assert sum(parameter.grad.abs().sum() for parameter in module.parameters()) > 1
    optimizer.step(closure)
    trained = train(Ensemble([Network(1)]), fixed, Training(optimizer="lbfgs", learning_rate=0.7, steps=12))
    assert trained.outcomes == ("budget",)
    # Line searches amplify rounding by the curvature ratios of the problem.
    assert_same(trained, 0, module, tolerance=1e-7)


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3])
def test_lbfgs_converges_on_an_ill_conditioned_quadratic(offset):
    """Condition number 1e4: converged, loss at the minimum to rounding, also on top of a large constant."""
    curvature = np.logspace(0, -4, 12)
    starts = np.random.default_rng(0).normal(size=(3, 12))
    trained = train(
        Ensemble([Bowl(start, curvature, offset) for start in starts]), forward, Training(optimizer="lbfgs", steps=400)
    )
    assert trained.outcomes == ("converged",) * 3
    assert trained.converged.all()
    assert trained.relative_gradient_norms.max() <= 1e-8
    # A gradient g leaves a loss of at most |g|^2 / (2 * 1e-4) above the minimum.
    excess = trained.gradient_norms.max() ** 2 / 2e-4 + 4 * np.finfo(float).eps * offset
    assert np.all(np.abs(trained.losses - offset) <= excess)


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_lbfgs_ends_by_itself(offset):
    """Without a tolerance a run ends where float64 ends, well before the budget, with a gradient as small."""
    start = np.random.default_rng(2).normal(size=10)
    training = Training(optimizer="lbfgs", steps=500, tolerance=0.0)
    trained = train(Ensemble([Bowl(start, np.logspace(0, -2, 10), offset)]), forward, training)
    assert trained.outcomes == ("converged",)
    assert trained.steps[0] < 200
    # The gradient does not contain the constant: it goes on falling when the loss is flat to rounding.
    assert trained.relative_gradient_norms[0] < 1e-9


@pytest.mark.parametrize(("kink", "outcome"), [(3e-7, "converged"), (1e-5, "stalled")])
def test_lbfgs_tells_converged_from_stalled_by_the_gradient(kink, outcome):
    """No further progress at a relative gradient below 1e-6 is convergence, above it is not."""

    def bent(ensemble: Ensemble, step: int) -> torch.Tensor:
        x = ensemble.parameters()["x"][:, 0]
        return 0.5 * x**2 + kink * (x - kink / 3).abs()

    trained = train(Ensemble([Bowl([1.0])]), bent, Training(optimizer="lbfgs", steps=500))
    assert trained.outcomes == (outcome,)
    assert kink / 2 < trained.relative_gradient_norms[0] < 2 * kink


@pytest.mark.parametrize("factor", [1e-20, 1.0, 1e20])
def test_lbfgs_does_not_depend_on_the_unit_of_the_loss(factor):
    """Loss times a constant: the same minimum, in as many steps up to a few."""
    curvature = factor * np.logspace(0, -3, 8)
    start = np.random.default_rng(1).normal(size=8)
    trained = train(Ensemble([Bowl(start, curvature)]), forward, Training(optimizer="lbfgs", steps=200))
    assert trained.outcomes == ("converged",)
    assert trained.steps[0] < 60
    # Relative gradient 1e-8 at condition number 1e3.
    np.testing.assert_allclose(trained.parameters["x"], 1.0, atol=1e-4)


ALL = {**FIRST_ORDER, "lbfgs": {"optimizer": "lbfgs"}}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("objective", [fixed, sampled])
def test_a_run_in_an_ensemble_is_the_run_alone(name, objective):
    """Same number, same start: the same trajectory in an ensemble of four, in another order, and alone."""
    training = (
        Training(steps=20, record_every=1, clip=0.5, **ALL[name])
        if name != "lbfgs"
        else Training(steps=20, record_every=1, **ALL[name])
    )
    together = train(Ensemble([Network(seed) for seed in range(4)]), objective, training, snapshots=True)
    shuffled = train(Ensemble([Network(seed) for seed in (2, 0)], runs=(2, 0)), objective, training)
    for run in (1, 3):
        alone = train(Ensemble([Network(run)], runs=(run,)), objective, training, snapshots=True)
        assert alone.outcomes[0] == together.outcomes[run]
        rows = len(alone.curve.steps)
        for key, snapshot in alone.curve.parameters.items():
            got = together.curve.parameters[key][:rows, run]
            if name == "lbfgs":
                # Run by run the same program is executed, so the same bits come out.
                assert np.array_equal(snapshot[:, 0], got)
            else:
                # Batched products of other sizes may be summed in another order by the kernels.
                np.testing.assert_allclose(snapshot[:, 0], got, rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(shuffled.losses, together.losses[[2, 0]], rtol=ROUNDING)


def test_generators_depend_on_nothing_but_their_numbers():
    """The same numbers give the same draws whatever was drawn before; neighbours give others."""
    first = torch.rand(4, generator=generator(1, 2, 3))
    torch.rand(100)
    assert torch.equal(first, torch.rand(4, generator=generator(1, 2, 3)))
    keys = [(seed, run, step) for seed in range(8) for run in range(8) for step in range(8)]
    draws = torch.stack([torch.rand(2, generator=generator(*key), dtype=torch.float64) for key in keys])
    assert len({float(draw) for draw in draws[:, 0]}) == len(keys)
    # 1024 uniform numbers: the mean of the squares of neighbours' correlations stays within 5 standard errors.
    centred = (draws - 0.5) * 12**0.5
    assert abs(float(centred.mean())) < 5 / 1024**0.5
    assert abs(float((centred[1:, 0] * centred[:-1, 0]).mean())) < 5 / 511**0.5


def test_a_sampled_run_can_be_taken_up_again():
    """Draws at a step do not depend on the steps before: SGD without memory, stopped and continued, is the same."""
    rest = 7

    def later(ensemble: Ensemble, step: int) -> torch.Tensor:
        return sampled(ensemble, step + rest)

    whole, parts = Ensemble([Network(seed) for seed in range(2)]), Ensemble([Network(seed) for seed in range(2)])
    train(whole, sampled, Training(optimizer="sgd", learning_rate=0.02, steps=20))
    train(parts, sampled, Training(optimizer="sgd", learning_rate=0.02, steps=rest))
    train(parts, later, Training(optimizer="sgd", learning_rate=0.02, steps=20 - rest))
    for name, parameter in whole.parameters().items():
        assert torch.equal(parameter, parts.parameters()[name])


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_broken_runs_are_isolated(name):
    """A run that ceases to be a number and one that grows without bound end so named; their neighbours keep
    every bit of the trajectory they have beside healthy companions."""

    places = []

    def poisoned(ensemble: Ensemble, step: int) -> torch.Tensor:
        places.append(ensemble.parameters()["maps"].detach().clone())
        factors = [1.0, torch.nan if step >= 5 else 1.0, 1.0, 1e9 if step >= 8 else 1.0, 1.0]
        # A loss without bound whose gradient is as good as ever.
        terms = [0.0, 0.0, 0.0, 0.0, -torch.inf if step == 30 else 0.0]
        return fixed(ensemble, step) * torch.tensor(factors) + torch.tensor(terms)

    training = Training(steps=30, record_every=1, **FIRST_ORDER[name])
    healthy = train(Ensemble([Network(seed) for seed in range(5)]), fixed, training, snapshots=True)
    trained = train(Ensemble([Network(seed) for seed in range(5)]), poisoned, training, snapshots=True)
    assert trained.outcomes == ("budget", "nan", "budget", "diverged", "nan")
    assert trained.steps.tolist() == [30, 5, 30, 8, 30]
    well = [0, 2]
    assert np.array_equal(trained.curve.losses[:, well], healthy.curve.losses[:, well])
    for key, snapshot in trained.curve.parameters.items():
        assert np.array_equal(snapshot[:, well], healthy.curve.parameters[key][:, well])
    assert all(np.isfinite(values).all() for values in (trained.losses, trained.gradient_norms, trained.curve.losses))
    # The broken ones are back at the lowest loss they had, and rest there.
    for run, step in ((1, 5), (3, 8), (4, 30)):
        final = torch.from_numpy(trained.parameters["maps"][run])
        assert all(torch.equal(place[run], final) for place in places[step + 1 :])
        best = int(healthy.curve.losses[:step, run].argmin())
        assert trained.losses[run] == healthy.curve.losses[best, run]
        assert trained.gradient_norms[run] == healthy.curve.gradient_norms[best, run]
        assert np.array_equal(trained.parameters["maps"][run], healthy.curve.parameters["maps"][best, run])


def test_divergence_comes_out_by_itself():
    """SGD with a step size beyond 2 / curvature diverges; its neighbour converges and is left alone afterwards."""
    ensemble = Ensemble([Bowl([3.0], 1.0), Bowl([3.0], 30.0)])
    trained = train(ensemble, forward, Training(optimizer="sgd", learning_rate=0.1, steps=1000, record_every=100))
    assert trained.outcomes == ("converged", "diverged")
    # The first contracts by 0.9 a step: 1e-8 after 175 steps. The second grows fourfold in loss: 1e6 after 10.
    assert trained.steps.tolist() == [175, 10]
    assert trained.losses[1] == 60.0
    assert trained.parameters["x"][1] == 3.0
    assert trained.curve.steps.tolist() == [0, 100, 175]
    assert np.array_equal(ensemble.parameters()["x"].detach().numpy(), trained.parameters["x"])
    assert str(trained).startswith("2 runs: 1 converged, 1 diverged; lowest loss")


def test_a_converged_run_stays_where_it_converged():
    """Parameters, loss and gradient of a converged run belong to its last point, even if an earlier loss was lower."""

    def rising(ensemble: Ensemble, step: int) -> torch.Tensor:
        return ensemble.call("forward") + step

    trained = train(
        Ensemble([Bowl([3.0])]), rising, Training(optimizer="sgd", learning_rate=0.5, steps=90, tolerance=1e-3)
    )
    # The distance 2 is halved ten times before it is below a thousandth of itself.
    assert trained.outcomes == ("converged",)
    assert trained.steps.tolist() == [10]
    assert trained.parameters["x"][0, 0] == 1 + 2**-9
    assert trained.gradient_norms[0] == 2**-9
    assert trained.losses[0] == 10 + 2**-19


@pytest.mark.parametrize("name", ALL)
def test_starts_without_a_gradient_or_without_a_loss(name):
    """A stationary start is converged after no step; one whose loss is no number is "nan" after no step."""
    modules = [Bowl([1.0, 1.0]), Bowl([float("nan"), 1.0]), Bowl([2.0, 3.0])]
    trained = train(Ensemble(modules), forward, Training(steps=20, **ALL[name]))
    assert trained.outcomes[:2] == ("converged", "nan")
    assert trained.steps[:2].tolist() == [0, 0]
    assert trained.relative_gradient_norms[0] == 0.0
    assert np.isnan(trained.losses[1])
    assert np.isfinite(trained.losses[2])
    assert "nan" not in str(trained).split("lowest")[1]


def test_lbfgs_steps_back_from_where_the_loss_is_no_number():
    """Trial points outside the domain shorten the step; the minimum inside is found."""
    trained = train(Ensemble([Edge(0.05), Edge(3.9)]), forward, Training(optimizer="lbfgs", steps=200))
    assert trained.outcomes == ("converged", "converged")
    # Twice the derivative is 1e-3 (4-x)^(-3/2) - x^(-3/2), zero at x = 4 / 1.01; the curvature there is 2.4, and
    # the gradient at most 1e-8 of the first one, which is 45 at x = 0.05.
    np.testing.assert_allclose(trained.parameters["x"], 4 / 1.01, atol=2e-7)


@pytest.mark.parametrize(("method", "start", "outcome"), [("downhill", 2.0, "nan"), ("kink", 2.2, "stalled")])
def test_lbfgs_names_a_dead_end(method, start, outcome):
    """A descent that ends at the border of the numbers, or at a kink, is not called converged."""
    trained = train(
        Ensemble([Edge(start)]), lambda ensemble, step: ensemble.call(method), Training(optimizer="lbfgs", steps=2000)
    )
    assert trained.outcomes == (outcome,)
    assert trained.steps[0] < 2000
    assert trained.relative_gradient_norms[0] == 1.0
    # Down to the rounding of the loss, from above.
    np.testing.assert_allclose(trained.losses, 1.0, rtol=1e-6)


def test_lbfgs_evaluates_no_point_twice():
    """The objective is called for one run at a time, with its number and step 0, and never again where it was."""
    seen = []

    def watched(ensemble: Ensemble, step: int) -> torch.Tensor:
        point = torch.cat([p.detach().reshape(-1) for p in ensemble.parameters().values()])
        seen.append((ensemble.runs, step, tuple(point.tolist())))
        return fixed(ensemble, step)

    train(Ensemble([Network(0), Network(1)], runs=(4, 8)), watched, Training(optimizer="lbfgs", steps=15))
    assert {(runs, step) for runs, step, _ in seen} == {((4,), 0), ((8,), 0)}
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("name", ALL)
def test_the_curve_holds_the_recorded_steps(name):
    """Every so many steps, the first and the last; losses, gradient norms and snapshots belong together."""
    ensemble = Ensemble([Network(0), Network(1)])
    start = {key: parameter.detach().numpy().copy() for key, parameter in ensemble.parameters().items()}
    trained = train(ensemble, fixed, Training(steps=8, record_every=3, **ALL[name]), snapshots=True)
    curve = trained.curve
    assert curve.steps.tolist() == [0, 3, 6, 8]
    assert curve.losses.shape == curve.gradient_norms.shape == (4, 2)
    assert np.array_equal(curve.losses[-1], trained.losses)
    for key, snapshot in curve.parameters.items():
        assert np.array_equal(snapshot[0], start[key])
        assert np.array_equal(snapshot[-1], trained.parameters[key])
    for row in range(4):
        module = Network(0)
        with torch.no_grad():
            for key, parameter in module.named_parameters():
                parameter.copy_(torch.from_numpy(curve.parameters[key][row, 0]))
        loss = module.loss(X, Y)
        loss.backward()
        norm = sum(float((parameter.grad**2).sum()) for parameter in module.parameters()) ** 0.5
        np.testing.assert_allclose(curve.losses[row, 0], loss.item(), rtol=ROUNDING)
        np.testing.assert_allclose(curve.gradient_norms[row, 0], norm, rtol=ROUNDING)
    assert trained.relative_gradient_norms[1] == trained.gradient_norms[1] / curve.gradient_norms[0, 1]
    assert train(Ensemble([Network(0)]), fixed, Training(steps=1, **ALL[name])).curve.parameters == {}


def watch(ensemble: Ensemble, step: int, update: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """An observer: where the ensemble is, and where the step will take it."""
    here = ensemble.vector.detach().clone()
    return {"here": here, "update": torch.full_like(here, torch.nan) if update is None else update}


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_an_observer_sees_each_recorded_step_before_it_is_taken(name):
    """Parameters and update at recorded steps, once more at the end; the training itself is not changed."""
    options = {"steps": 8, "clip": 0.5, **FIRST_ORDER[name]}
    plain = train(
        Ensemble([Network(0), Network(1)]), sampled, Training(record_every=1, **options), snapshots=True
    ).curve
    vectors = np.concatenate([plain.parameters[key].reshape(9, 2, -1) for key in ("maps", "bias")], axis=2)
    for every, steps in ((1, list(range(9))), (3, [0, 3, 6, 8])):
        curve = train(
            Ensemble([Network(0), Network(1)]), sampled, Training(record_every=every, **options), observe=watch
        ).curve
        assert curve.steps.tolist() == steps
        np.testing.assert_array_equal(curve.losses, plain.losses[steps])
        np.testing.assert_array_equal(curve.observed["here"], vectors[steps])
        moves = vectors[[step + 1 for step in steps[:-1]]] - vectors[steps[:-1]]
        np.testing.assert_array_equal(curve.observed["update"][:-1], moves)
        assert np.isnan(curve.observed["update"][-1]).all()
    assert train(Ensemble([Network(0)]), fixed, Training(steps=1, **FIRST_ORDER[name])).curve.observed == {}


def test_an_observer_sees_a_run_that_has_ended_where_it_ended():
    """A run that converged at once, beside one that goes on: at its kept parameters, with NaN as its last update."""
    ensemble = Ensemble([Bowl([1.0, 1.0]), Bowl([5.0, 3.0])])
    training = Training(optimizer="sgd", learning_rate=0.1, steps=6, record_every=2)
    curve = train(ensemble, forward, training, observe=watch).curve
    assert (curve.observed["here"][:, 0] == 1).all()
    assert np.isnan(curve.observed["update"][:, 0]).all()
    assert (curve.observed["update"][:-1, 1] < 0).all()


@pytest.mark.parametrize(
    ("observe", "message"),
    [
        (lambda *_: {"size": torch.ones(3)}, r"observe must return arrays with 2 runs in front, got shape \(3,\)"),
        (
            lambda ensemble, step, update: {f"at {step}": torch.ones(2)},
            r"observe must return the same names each time, got \['at 1'\] after \['at 0'\]",
        ),
    ],
)
def test_bad_observers_are_refused(observe, message):
    """An observer returns the same names each time, one row per run."""
    with pytest.raises(ValueError, match=message):
        train(
            Ensemble([Network(0), Network(1)]),
            fixed,
            Training(steps=3, record_every=1, **ALL["adam"]),
            observe=observe,
        )


def test_lbfgs_takes_no_observer():
    """It evaluates trial points, not steps."""
    with pytest.raises(ValueError, match="observe must be left out for 'lbfgs'"):
        train(Ensemble([Network(0)]), fixed, Training(optimizer="lbfgs", steps=3), observe=watch)


@pytest.mark.parametrize("name", ALL)
def test_progress_rises_to_the_end(name):
    """Progress never falls and ends at the total."""
    calls = []
    train(
        Ensemble([Bowl([2.0, 0.0]), Bowl([5.0, 3.0])]),
        forward,
        Training(steps=40, record_every=5, **ALL[name]),
        progress=lambda done, total: calls.append((done, total)),
    )
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[0][0] == 0
    assert calls[-1][0] == calls[-1][1] == (80 if name == "lbfgs" else 40)


@pytest.mark.parametrize("name", ALL)
def test_an_interrupt_passes_at_once(name):
    """KeyboardInterrupt inside the objective leaves the trainer without another evaluation."""
    calls = []

    def interrupted(ensemble: Ensemble, step: int) -> torch.Tensor:
        calls.append(step)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return fixed(ensemble, step)

    with pytest.raises(KeyboardInterrupt):
        train(Ensemble([Network(0), Network(1)]), interrupted, Training(steps=50, **ALL[name]))
    assert len(calls) == 4


def test_parameters_the_loss_does_not_use_stay_where_they_are():
    """A parameter outside the loss has gradient zero and is not moved; matrices of any stride are trained."""
    trained = train(
        Ensemble([Network(0)]),
        lambda ensemble, step: (ensemble.parameters()["maps"].transpose(-1, -2) ** 2).sum((1, 2, 3, 4)),
        Training(optimizer="lbfgs", steps=30),
    )
    assert trained.outcomes == ("converged",)
    assert np.array_equal(trained.parameters["bias"][0], Network(0).bias.detach().numpy())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "adm"}, "optimizer must be one of .* did you mean 'adam'"),
        ({"optimizer": None}, "optimizer must be one of"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": 2.5}, "steps must be an integer, got 2.5"),
        ({"steps": True}, "steps must be an integer, got True"),
        ({"learning_rate": None}, "learning_rate must be given for the optimizer 'adam'"),
        ({"learning_rate": -0.1}, "learning_rate must be greater than 0.0, got -0.1"),
        ({"learning_rate": 0.0}, "learning_rate must be greater than 0.0"),
        ({"learning_rate": (0.1, -0.1)}, "learning_rate must be greater than 0.0, got -0.1"),
        ({"learning_rate": ()}, "learning_rate must be at least one number"),
        ({"learning_rate": float("nan")}, "learning_rate must be finite"),
        ({"learning_rate": "fast"}, "learning_rate must be a real number"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum must be less than 1, got 1.0"),
        ({"optimizer": "sgd", "momentum": -0.5}, "momentum must be at least 0.0"),
        ({"betas": (0.9,)}, "betas must be two numbers"),
        ({"betas": 0.9}, "betas must be two numbers"),
        ({"betas": (0.9, 1.0)}, "betas must be less than 1"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0.0"),
        ({"clip": 0.0}, "clip must be greater than 0.0"),
        ({"clip": float("inf")}, "clip must be finite"),
        ({"clip_by": "layer"}, "clip_by must be one of 'matrix', 'run', got 'layer'"),
        ({"halve_every": 0}, "halve_every must be at least 1"),
        ({"tolerance": -1e-8}, "tolerance must be at least 0.0"),
        ({"tolerance": 1.0}, "tolerance must be less than 1"),
        ({"divergence": 1.0}, "divergence must be greater than 1.0"),
        ({"record_every": 0}, "record_every must be at least 1"),
        ({"momentum": 0.9}, "momentum must be left out for 'adam', got 0.9"),
        ({"optimizer": "sgd", "betas": (0.5, 0.5)}, "betas must be left out for 'sgd'"),
        ({"normalize": "tensor"}, "normalize must be left out for 'adam', got 'tensor'"),
        ({"optimizer": "lbfgs", "normalize": "sign"}, "normalize must be left out for 'lbfgs'"),
        ({"optimizer": "sgd", "normalize": "run"}, "normalize must be one of None, 'tensor', 'joint', 'sign'"),
        ({"optimizer": "sgd", "normalize": "joint", "clip": 1.0}, "clip must be left out where gradients"),
        ({"optimizer": "lbfgs", "clip": 1.0}, "clip must be left out for 'lbfgs', got 1.0"),
        ({"optimizer": "lbfgs", "clip_by": "run"}, "clip_by must be left out for 'lbfgs'"),
        ({"optimizer": "lbfgs", "halve_every": 5}, "halve_every must be left out for 'lbfgs'"),
        ({"optimizer": "lbfgs", "weight_decay": 0.1}, "weight_decay must be left out for 'lbfgs'"),
        ({"optimizer": "lbfgs", "divergence": 10.0}, "divergence must be left out for 'lbfgs'"),
    ],
)
def test_bad_training_is_refused(fields, message):
    """Every bad field is a ValueError that names it, its value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        Training(**{"optimizer": "adam", "steps": 10, "learning_rate": 0.01, **fields})


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (
            lambda ensemble, step: fixed(ensemble, step).sum(),
            r"objective must return losses of shape \(\d,\), got \(\)",
        ),
        (lambda ensemble, step: 1.0, r"objective must return losses of shape \(\d,\), got float"),
        (lambda ensemble, step: torch.ones(len(ensemble)), "objective must return losses that depend on"),
    ],
)
def test_bad_objectives_are_refused(name, objective, message):
    """An objective that does not return one loss per run, or none that depends on the run, is refused."""
    with pytest.raises(ValueError, match=message):
        train(Ensemble([Network(0), Network(1)]), objective, Training(steps=5, **ALL[name]))


@pytest.mark.parametrize("numbers", [(-1, 0, 0), (0, 0.5, 0), (0, 0, True)])
def test_bad_generator_numbers_are_refused(numbers):
    """Seeds, runs and steps are whole numbers from 0 up."""
    with pytest.raises(ValueError, match="must be"):
        generator(*numbers)
