"""Plumbline: trained transformers held against the theorems about them.

Three rooms, `plumbline.theory` (closed forms; numpy, scipy, sympy), `plumbline.models` (PyTorch) and
`plumbline.analysis` (claims, verdicts, figures, command line). The public names of the last are names of this package
too, imported when they are first asked for: ``from plumbline import check, claim, Evidence``.

Example:
    >>> from plumbline.theory.regression import multi_step_optimum
    >>> round(multi_step_optimum(3, dim=5, context_length=20).loss, 6)
    0.133608
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plumbline.analysis import *  # noqa: F403  (their list stands there)

__version__ = "0.2.0.dev0"
DISTRIBUTION = "plumbline-theory"
"""What pip installs; on the public index the name of the import belongs to another project."""
ROOMS = ("theory", "models", "analysis")

# In a source tree the rooms stand beside this folder, in a wheel inside it.
if not (Path(__file__).parent / ROOMS[0]).is_dir():
    __path__.append(str(Path(__file__).parent.parent))  # noqa: F405  (Python's own)


def __getattr__(name: str) -> Any:
    if name in ROOMS:
        return import_module(f"plumbline.{name}")
    if not name.startswith("_") and name in (analysis := import_module("plumbline.analysis")).__all__:
        return getattr(analysis, name)
    raise AttributeError(f"module 'plumbline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *ROOMS, *import_module("plumbline.analysis").__all__})
