"""What a family knows of models that are given to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from plumbline.analysis.subject.model_report import ModelReport


@dataclass(frozen=True, eq=False)
class Reader:
    """How a family takes a model, and what it says of it.

    Args:
        models: The classes of modules that it knows.
        build: From weights by name, the task, and options, to the module they are of.
        report: Called as ``report(module, task, margin=…, seed=…)``.
        options: What names and shapes of weights leave open: the options of ``build``, each in words.
        without_loss: Names of classes that have no exact loss, each with the reason.
    """

    models: tuple[type, ...]
    build: Callable[[Mapping[str, Tensor], Any, Mapping[str, Any]], nn.Module]
    report: Callable[..., ModelReport]
    options: Mapping[str, str] = field(default_factory=dict)
    without_loss: Mapping[str, str] = field(default_factory=dict)
