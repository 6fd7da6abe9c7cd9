"""What an optional extra of the package brings, imported where it is used."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from plumbline import DISTRIBUTION


class MissingExtra(ImportError):
    """Something needs a package that the base install leaves out; the message names the extra that brings it."""

    def __init__(self, module: str, extra: str):
        super().__init__(
            f"this needs {module}, which the base install leaves out: pip install '{DISTRIBUTION}[{extra}]'",
            name=module,
        )


def required(module: str, extra: str) -> Any:
    """Return a module of an optional extra.

    Raises:
        MissingExtra: if it is not installed.

    Example:
        >>> required("no_such_module", "cluster")
        Traceback (most recent call last):
        ...
        plumbline.analysis.extras.MissingExtra: this needs no_such_module, which the base install leaves out: \
pip install 'plumbline-theory[cluster]'
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name != module.split(".")[0]:
            raise
        raise MissingExtra(error.name, extra) from None


def present(module: str, extra: str) -> None:
    """Raise `MissingExtra` if a module is not installed, without importing it."""
    try:
        found = find_spec(module) is not None
    except ValueError:  # barred by an entry of None among the imported modules
        found = False
    if not found:
        raise MissingExtra(module, extra)
