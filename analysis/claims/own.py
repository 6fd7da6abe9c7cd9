"""Files of users: claims, and families, of one's own go through the same rooms as the catalogue."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from plumbline.analysis.claims.claim import Claim


def import_file(path: str | Path) -> ModuleType:
    """Import a Python file of a user.

    Its folder joins the import path, so that worker processes find the jobs it defines, and it may import its
    neighbours. A file that was imported before is not run again.

    Args:
        path: A file ``name.py``, with a name that Python can import.

    Raises:
        ValueError: if there is no such file, its name cannot be imported or is that of another module, or it is no
            valid Python; naming the path. What the file itself raises comes through.
    """
    file = Path(path).resolve()
    name = file.stem
    if not file.is_file() or file.suffix != ".py":
        raise ValueError(f"path must be an existing Python file, got {str(path)!r}")
    if not name.isidentifier():
        raise ValueError(f"path must have a name that Python can import (letters, digits, _), got {str(path)!r}")
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
        importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except SyntaxError as error:
        raise ValueError(f"path must hold valid Python, got {str(path)!r}, line {error.lineno}: {error.msg}") from None
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != file:
        raise ValueError(f"path must not have the name of another module ({found or 'built in'}), got {str(path)!r}")
    return module


def load_claims(path: str | Path) -> list[Claim]:
    """Import a Python file and return its claims, in order: those that stand in it, and those of its families.

    Args:
        path: As `import_file` takes it.

    Returns:
        The claims, made with the decorator `plumbline.claim` or that of a family.

    Raises:
        ValueError: as `import_file`, or if no claim stands in it. What the file itself raises comes through.
    """
    from plumbline.analysis.family import Family

    claims: dict[Claim, None] = {}
    for value in vars(import_file(path)).values():
        if isinstance(value, Claim):
            claims[value] = None
        elif isinstance(value, Family):
            claims |= dict.fromkeys(value.claims.values())
    if not claims:
        raise ValueError(f"path must hold at least one claim (made with @claim), got {str(path)!r}")
    return list(claims)
