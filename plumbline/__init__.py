"""Plumbline: trained transformers held against the theorems about them.

Three floors, `plumbline.theory` (closed forms; numpy, scipy, sympy), `plumbline.models` (PyTorch) and
`plumbline.analysis` (claims, verdicts, figures, command line). The public names of the last are names of this package
too, imported when they are first asked for: ``from plumbline import check, claim, Evidence``.

Example:
    >>> from plumbline.theory.regression import multi_step_optimum
    >>> round(multi_step_optimum(3, dim=5, context_length=20).loss, 6)
    0.133608
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING
from typing import Any as _Any

if TYPE_CHECKING:
    from plumbline.analysis import *  # noqa: F403  (their list stands there)

if __name__ != "plumbline":  # never a second copy: a source tree joins the folder that this one stands in
    raise ImportError("this package is plumbline")

__version__ = "0.2.0.dev0"
DISTRIBUTION = "plumbline-theory"
"""What pip installs; on the public index the name of the import belongs to another project."""
FLOORS = ("theory", "models", "analysis")

# In a source tree the floors stand beside this folder, in a wheel inside it.
if not (_Path(__file__).parent / FLOORS[0]).is_dir():
    __path__.append(str(_Path(__file__).parent.parent))  # noqa: F405  (Python's own)


def __getattr__(name: str) -> _Any:
    if name in FLOORS:
        return _import_module(f"plumbline.{name}")
    if name == "__all__":
        return _import_module("plumbline.analysis").__all__
    if not name.startswith("_") and name in (analysis := _import_module("plumbline.analysis")).__all__:
        return getattr(analysis, name)
    raise AttributeError(f"module 'plumbline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({"DISTRIBUTION", "__version__", *FLOORS, *_import_module("plumbline.analysis").__all__})
