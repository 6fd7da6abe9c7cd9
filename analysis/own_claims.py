"""Claims of users: a Python file of one's own goes through the same engine as the catalogue."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from plumbline.analysis.engine.claim import Claim


def load_claims(path: str | Path) -> list[Claim]:
    """Import a Python file and return the claims that stand in it, in order.

    Its folder joins the import path, so that worker processes find the jobs it defines, and it may import its
    neighbours. A file that was imported before is not run again.

    Args:
        path: A file ``name.py``, with a name that Python can import.

    Returns:
        The claims, made with the decorator `plumbline.analysis.claim`.

    Raises:
        ValueError: if there is no such file, its name cannot be imported or is that of another module, it is no valid
            Python, or no claim stands in it; naming the path. What the file itself raises comes through.
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
    claims = [value for value in vars(module).values() if isinstance(value, Claim)]
    if not claims:
        raise ValueError(f"path must hold at least one claim (made with @plumbline.analysis.claim), got {str(path)!r}")
    return claims
