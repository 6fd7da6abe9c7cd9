"""A trained model of one's own: exact loss, gaps, the algorithm it implements, and the claims that apply to it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.analysis.extras import required
from plumbline.analysis.subject.task_file import Task, family_of
from plumbline.theory import checks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from plumbline.analysis.subject.model_report import ModelReport
    from plumbline.analysis.subject.reader import Reader

DEFAULT_MARGIN = 0.01


def check_model(
    module_or_state: nn.Module | Mapping[str, Tensor] | str | Path,
    task: Task,
    *,
    model: Mapping[str, Any] | None = None,
    margin: float = DEFAULT_MARGIN,
    seed: int = 0,
) -> ModelReport:
    """Say what a given model is: its loss, how far from the optimum and from the Bayes risk, what it does, and why.

    Of memorization the optimum is searched and certified: seconds, a minute for 10⁴ contexts of 100 tokens.

    The loss is that of the whole population wherever it has an exact form, and says so; otherwise a mean with its
    standard error. The claims are those of the catalogue that are about a single model: with the number measured, the
    number predicted and a verdict on the model.

    Args:
        module_or_state: A module of `plumbline.models`, which is left as it is; or its state dict; or a file with
            one, see `load_weights`.
        task: What the model is to be good at; its type decides the family.
        model: For weights alone, what names and shapes leave open: ``{"activation": "softmax"}``, or ``{"layers": 4,
            "looped": True}`` in regression; ``{"name": "Reparam-Linear-FA"}`` in reasoning, always.
        margin: Largest relative distance from a predicted model that still counts as agreement; of a loss its square,
            in units of the way from the optimum to the trivial predictor (for a quadratic loss that is the same).
        seed: Of what has to be drawn.

    Raises:
        ValueError: naming the argument: weights that are not there, not finite, or do not fit (with what was expected
            and what came); a module of another kind; a task of another family or size.
        MissingExtra: if torch is not installed.

    Example:
        >>> from plumbline.models.regression import LinearTransformer
        >>> from plumbline.theory.regression import RegressionTask, one_step_optimum
        >>> task = RegressionTask(3, 12, covariance=[[2, 1, 0], [1, 2, 0], [0, 0, 1]])
        >>> model = LinearTransformer.from_algorithm([one_step_optimum(task).preconditioner])
        >>> report = check_model(model, task)
        >>> report.finding("algorithm"), report.outcomes()["one-step-preconditioner"].value
        ('one step of gradient descent preconditioned by matrices', 'consistent')
    """
    required("torch", "models")
    family = family_of(task)
    margin = checks.real("margin", margin, above=0.0, at_most=1.0)
    seed = checks.integer("seed", seed, at_least=0)
    reader = family.reader
    if reader is None:
        raise ValueError(
            f"task must be of a family that reads given models, which {family.name} does not, got {task!r}"
        )
    return reader.report(_module(module_or_state, task, reader, model), task, margin=margin, seed=seed)


def _module(given: Any, task: Task, reader: Reader, options: Mapping[str, Any] | None) -> nn.Module:
    """A float64 module of its own on the CPU, whatever was given."""
    from torch import nn

    from plumbline.models.weights import finite, load_weights, state_dict

    if isinstance(given, nn.Module):
        name = type(given).__name__
        if name in reader.without_loss:
            raise ValueError(f"module must have an exact loss, got {name}: {reader.without_loss[name]}")
        if not isinstance(given, reader.models):
            names = ", ".join(kind.__name__ for kind in reader.models)
            raise ValueError(
                f"module must be one of {names} for a {type(task).__name__}, got {name}: of another "
                "module give weights that fit one of these"
            )
        if options:
            raise ValueError(f"model must be left out beside a module, which says what it is, got {dict(options)}")
        finite(given.state_dict())
        return copy.deepcopy(given).double().cpu().requires_grad_(False)
    weights = load_weights(given) if isinstance(given, str | Path) else state_dict(given)
    for name in options or {}:
        if name not in reader.options:
            known = ", ".join(f"{key} ({meaning})" for key, meaning in reader.options.items()) or "nothing"
            raise ValueError(f"model must say only {known} for a {type(task).__name__}, got {name!r}")
    module: nn.Module = reader.build(weights, task, options or {})
    return module.requires_grad_(False)
