"""How an ensemble is trained, as a value: free of torch, so that jobs can be described without it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from plumbline.theory import checks

if TYPE_CHECKING:
    import torch

Normalization = Literal["tensor", "joint", "sign"]
NORMALIZATIONS = get_args(Normalization)
OPTIMIZERS = ("lbfgs", "adam", "sgd")
# Options that would have no effect with the optimizer named are refused rather than ignored.
FOREIGN_OPTIONS = {
    "lbfgs": ("momentum", "betas", "weight_decay", "clip", "clip_by", "normalize", "halve_every", "divergence"),
    "adam": ("momentum", "normalize"),
    "sgd": ("betas",),
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """How an ensemble is trained.

    Args:
        optimizer: ``"lbfgs"`` (run by run, strong Wolfe line search; for exact objectives), ``"adam"`` or
            ``"sgd"`` (all runs as one tensor program), as in `torch.optim`.
        steps: Largest number of optimizer steps of a run.
        learning_rate: Greater than 0. For L-BFGS the first trial step length, 1 if not given; the others must
            be given one. Several: of the runs in turn, so that run i has the one at i modulo their number.
        momentum: SGD only, in [0, 1).
        betas: Adam only, decay rates of its two moments, in [0, 1).
        weight_decay: Adam: decoupled, as in AdamW (with 0 the two are the same); SGD: added to the gradient.
        clip: Largest Frobenius norm of a gradient block; larger blocks are scaled down to it. ``None``: no clipping.
        clip_by: The blocks: ``"matrix"``, the last two axes of each parameter (each run, layer and head has its
            own norm; a parameter with fewer axes is one block per run), or ``"run"``, all parameters of a run.
        normalize: SGD only: gradients are scaled to length one before the step, ``"tensor"`` (each parameter of each
            run by its own norm), ``"joint"`` (all parameters of a run by one norm) or ``"sign"`` (entry by entry), see
            `normalized`. Such a run can converge only where its gradient is zero or, by its
            tolerance, small: with a tolerance of 0 it goes on as long as there is a gradient. ``None``: not scaled.
        halve_every: The learning rate is halved every so many steps; ``None``: constant.
        tolerance: A run is converged when its gradient norm is at most this multiple of its first one.
        divergence: Adam and SGD only: a run has diverged when its loss exceeds this multiple of its first loss
            (absolute value).
        record_every: The curve holds every so many steps, and the first and the last.

    Raises:
        ValueError: naming the parameter, its value and what is allowed; also for an option that the optimizer
            named would ignore.

    Example:
        >>> Training(optimizer="adam", steps=1000, learning_rate=0.01, clip=0.01).betas
        (0.9, 0.999)
    """

    optimizer: Literal["lbfgs", "adam", "sgd"]
    steps: int
    learning_rate: float | tuple[float, ...] = None  # type: ignore[assignment]  # not so after __post_init__
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float | None = None
    clip_by: Literal["matrix", "run"] = "matrix"
    normalize: Normalization | None = None
    halve_every: int | None = None
    tolerance: float = 1e-8
    divergence: float = 1e6
    record_every: int = 10

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        checks.one_of("optimizer", self.optimizer, OPTIMIZERS)
        put("steps", checks.integer("steps", self.steps, at_least=1))
        rate = self.learning_rate
        if rate is None:
            if self.optimizer != "lbfgs":
                raise ValueError(f"learning_rate must be given for the optimizer {self.optimizer!r}, got None")
            rate = 1.0
        if isinstance(rate, tuple | list):
            if not rate:
                raise ValueError(f"learning_rate must be at least one number, got {rate!r}")
            put("learning_rate", tuple(checks.real("learning_rate", one, above=0.0) for one in rate))
        else:
            put("learning_rate", checks.real("learning_rate", rate, above=0.0))
        put("momentum", _below_one("momentum", self.momentum))
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas!r}")
        put("betas", tuple(_below_one("betas", beta) for beta in self.betas))
        put("weight_decay", checks.real("weight_decay", self.weight_decay, at_least=0.0))
        if self.clip is not None:
            put("clip", checks.real("clip", self.clip, above=0.0))
        checks.one_of("clip_by", self.clip_by, ("matrix", "run"))
        checks.one_of("normalize", self.normalize, (None, *NORMALIZATIONS))
        if self.normalize is not None and self.clip is not None:
            raise ValueError(f"clip must be left out where gradients are normalized, got {self.clip}")
        if self.halve_every is not None:
            put("halve_every", checks.integer("halve_every", self.halve_every, at_least=1))
        put("tolerance", _below_one("tolerance", self.tolerance))
        put("divergence", checks.real("divergence", self.divergence, above=1.0))
        put("record_every", checks.integer("record_every", self.record_every, at_least=1))
        defaults = {field.name: field.default for field in fields(self)}
        for name in FOREIGN_OPTIONS[self.optimizer]:
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{name} must be left out for {self.optimizer!r}, got {getattr(self, name)!r}")

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates of the runs in turn; one, where all have the same."""
        return self.learning_rate if isinstance(self.learning_rate, tuple) else (self.learning_rate,)

    def rate(self, run: int) -> float:
        """The learning rate of a run."""
        return self.rates[run % len(self.rates)]

    def start(self, run: int) -> int:
        """The number by which a run draws: runs that differ by nothing but their learning rate draw the same."""
        return run // len(self.rates)

    def draws(self, seed: int, run: int, step: int) -> torch.Generator:
        """The `generator` of a run at a step."""
        from plumbline.models.training.draws import generator

        return generator(seed, self.start(run), step)


def _below_one(name: str, value: Any) -> float:
    number = checks.real(name, value, at_least=0.0)
    if number >= 1.0:
        raise ValueError(f"{name} must be less than 1, got {number}")
    return number
