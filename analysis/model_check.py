"""A trained model of one's own: exact loss, gaps, the algorithm it implements, and the claims that apply to it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from plumbline.analysis.catalogue import FAMILIES, catalogue
from plumbline.analysis.engine.exact_json import canonical_json
from plumbline.theory import checks
from plumbline.theory.memorization import NgramTask
from plumbline.theory.reasoning import ReasoningTask
from plumbline.theory.regression import RegressionTask

if TYPE_CHECKING:
    from torch import Tensor, nn

    from plumbline.analysis.engine.model_report import ModelReport

TASKS = dict(zip(FAMILIES, (RegressionTask, NgramTask, ReasoningTask), strict=True))
Task = RegressionTask | NgramTask | ReasoningTask
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
        task: What the model is to be good at; a `RegressionTask`, `NgramTask` or `ReasoningTask` decides the family.
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
        >>> from plumbline.theory.regression import one_step_optimum
        >>> task = RegressionTask(3, 12, covariance=[[2, 1, 0], [1, 2, 0], [0, 0, 1]])
        >>> model = LinearTransformer.from_algorithm([one_step_optimum(task).preconditioner])
        >>> report = check_model(model, task)
        >>> report.finding("algorithm"), report.outcomes()["one-step-preconditioner"].value
        ('one step of gradient descent preconditioned by matrices', 'consistent')
    """
    if type(task) not in TASKS.values():
        names = ", ".join(kind.__name__ for kind in TASKS.values())
        raise ValueError(f"task must be a {names}, got {task!r}")
    margin = checks.real("margin", margin, above=0.0, at_most=1.0)
    seed = checks.integer("seed", seed, at_least=0)
    catalogue()  # the claims are judged by their names
    family = _family(task)
    return family.report(_module(module_or_state, task, family, model), task, margin=margin, seed=seed)


def task_file(task: Task, model: Mapping[str, Any] | None = None) -> str:
    """Return the text of a task file: the task, and what the names and shapes of weights leave open about their model.

    Args:
        task: The task.
        model: As `check_model` takes it.

    Example:
        >>> print(task_file(ReasoningTask(noise=0.2), {"name": "Reparam-Linear-FA"}))
        {
          "task": {
            "noise": 0.2,
            "outputs": 4,
            "sentence_length": 256,
            "triggers": 5,
            "type": "plumbline.theory.reasoning.task.ReasoningTask",
            "vocab_size": 60
          },
          "model": {
            "name": "Reparam-Linear-FA"
          }
        }
    """
    content: dict[str, Any] = {"task": json.loads(canonical_json(task))}
    if model:
        content["model"] = dict(model)
    return json.dumps(content, indent=2, ensure_ascii=False)


def read_task_file(path: str | Path) -> tuple[Task, dict[str, Any]]:
    """Return the task in a file and what it says about the model.

    Args:
        path: JSON as `task_file` writes it: ``{"task": {…}, "model": {…}}``, or the task alone. The type of a task may
            leave out its module, and fields that are left out have their defaults.

    Raises:
        ValueError: if the file is not there, is no JSON, or names another type or fields than a task has; and what the
            task itself refuses.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"task must be an existing file, got {str(path)!r}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"task must be a JSON file, got {str(path)!r}: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"task must be a JSON object, got {type(content).__name__} in {str(path)!r}")
    given = content if "type" in content else content.get("task")
    model = {} if "type" in content else content.get("model", {})
    if not isinstance(given, dict) or not isinstance(model, dict) or not {"task", "model"} >= set(content) - set(given):
        raise ValueError(
            f'task must be {{"task": {{…}}, "model": {{…}}}} or a task alone, got the keys {", ".join(content)} in '
            f"{str(path)!r}"
        )
    kinds = {kind.__name__: kind for kind in TASKS.values()}
    named = str(given.get("type", "")).rpartition(".")[2]
    kind = kinds[checks.one_of("the type of the task", named, kinds)]
    values = {name: value for name, value in given.items() if name != "type"}
    for name in values:
        checks.one_of(f"a field of {named}", name, [field.name for field in fields(kind)])
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]
    if absent := [name for name in needed if name not in values]:
        wanted, lost = " and ".join(needed), " and no ".join(absent)
        raise ValueError(f"a {named} must have {wanted}, got no {lost} in {str(path)!r}")
    return kind(**values), model


def _family(task: Task) -> ModuleType:
    """The module of the task's family that knows its models."""
    name = next(name for name, kind in TASKS.items() if type(task) is kind)
    return import_module(f"plumbline.analysis.{name}.model_check")


def _module(given: Any, task: Task, family: ModuleType, options: Mapping[str, Any] | None) -> nn.Module:
    """A float64 module of its own on the CPU, whatever was given."""
    from torch import nn

    from plumbline.analysis.engine.weights import finite, load_weights, state_dict

    if isinstance(given, nn.Module):
        name = type(given).__name__
        if name in family.WITHOUT_LOSS:
            raise ValueError(f"module must have an exact loss, got {name}: {family.WITHOUT_LOSS[name]}")
        if not isinstance(given, family.MODELS):
            names = ", ".join(kind.__name__ for kind in family.MODELS)
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
        if name not in family.OPTIONS:
            known = ", ".join(f"{key} ({meaning})" for key, meaning in family.OPTIONS.items()) or "nothing"
            raise ValueError(f"model must say only {known} for a {type(task).__name__}, got {name!r}")
    module: nn.Module = family.build(weights, task, options or {})
    return module.requires_grad_(False)
