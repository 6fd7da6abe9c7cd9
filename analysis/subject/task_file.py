"""The task a model is to be good at, as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from plumbline.analysis.family import Family, families
from plumbline.analysis.jobs.exact_json import canonical_json
from plumbline.theory import checks

Task = Any
"""An instance of the task of a family."""


def _tasks() -> dict[type, Family]:
    """The family of each kind of task."""
    return {family.task: family for family in families().values() if family.task is not None}


def family_of(task: Task) -> Family:
    """The family of a task.

    Raises:
        ValueError: if it is the task of none.
    """
    known = _tasks()
    if type(task) not in known:
        names = ", ".join(kind.__name__ for kind in known)
        raise ValueError(f"task must be a {names}, got {task!r}")
    return known[type(task)]


def task_file(task: Task, model: Mapping[str, Any] | None = None) -> str:
    """Return the text of a task file: the task, and what the names and shapes of weights leave open about their model.

    Args:
        task: The task.
        model: As `check_model` takes it.

    Example:
        >>> from plumbline.theory.reasoning import ReasoningTask
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
    known = list(_tasks())
    kinds = {kind.__name__: kind for kind in reversed(known)}  # of two with one name the first
    full = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in known}
    written = str(given.get("type", ""))
    named = written.rpartition(".")[2]
    kind = full.get(written) or kinds[checks.one_of("the type of the task", named, kinds)]
    values = {name: value for name, value in given.items() if name != "type"}
    for name in values:
        checks.one_of(f"a field of {named}", name, [field.name for field in fields(kind)])
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]
    if absent := [name for name in needed if name not in values]:
        wanted, lost = " and ".join(needed), " and no ".join(absent)
        raise ValueError(f"a {named} must have {wanted}, got no {lost} in {str(path)!r}")
    return kind(**values), model
