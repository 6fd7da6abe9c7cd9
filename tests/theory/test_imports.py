"""What theory may import: proven in a fresh interpreter and on the source of every module."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SLOW = ("torch", "matplotlib", "scipy", "sympy", "mpmath", "dask")
"""Modules that `import theory` must not load; scipy and sympy only inside the functions that need them."""
ALLOWED = {"numpy", "scipy", "sympy", "mpmath", "plumbline.theory"}
"""Third-party and own packages that theory may import anywhere."""


def loaded_after(statement):
    """Names of the slow modules that a fresh interpreter has loaded after the statement."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}} & set({SLOW!r})))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout.split()


def package(name):
    """The top-level package of a name; of our own, the room."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "plumbline" else parts[0]


def imported_packages(source):
    """Packages imported anywhere in the source, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (package(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from {package(f"{node.module}.{alias.name}") for alias in node.names}


def imported_families(source):
    """Families of theory (its subpackages) imported anywhere in the source."""
    for node in ast.walk(ast.parse(source)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            parts = name.split(".")
            if parts[:2] == ["plumbline", "theory"] and len(parts) > 2 and (ROOT / "theory" / parts[2]).is_dir():
                yield parts[2]


SOURCES = sorted((ROOT / "theory").rglob("*.py"))


FAMILIES = sorted(path.parent.name for path in (ROOT / "theory").glob("*/__init__.py"))


def test_importing_theory_loads_nothing_slow():
    """A fresh interpreter has none of the slow modules after importing all of theory's public packages."""
    assert "regression" in FAMILIES
    assert loaded_after("import " + ", ".join(f"plumbline.theory.{family}" for family in FAMILIES)) == []


def test_the_check_can_fail():
    """The same check sees a slow module when one is loaded, and when a call loads it."""
    assert loaded_after("import plumbline.theory.regression, scipy.optimize") == ["scipy"]
    assert "mpmath" in loaded_after("import plumbline.theory.regression as t; t.multi_step_optimum(1, 2, 3)")


@pytest.mark.parametrize("family", FAMILIES)
def test_public_names_are_complete(family):
    """`__all__` of a family's package is sorted, importable, and all that its __init__ imports."""
    package = importlib.import_module(f"plumbline.theory.{family}")

    assert package.__all__ == sorted(package.__all__)
    tree = ast.parse(Path(package.__file__).read_text())
    imported = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == set(package.__all__)
    assert all(getattr(package, name).__doc__ for name in package.__all__)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_theory_stands_on_the_ground(path):
    """Only numpy, scipy, sympy, mpmath and theory itself, no models, no analysis; families do not import another."""
    source = path.read_text()
    packages = {name for name in imported_packages(source) if name not in sys.stdlib_module_names}
    assert packages <= ALLOWED
    relative = path.relative_to(ROOT / "theory")
    own = {relative.parts[0]} if len(relative.parts) > 1 else set()
    assert set(imported_families(source)) <= own


def test_the_static_check_can_fail():
    """The static checks see imports inside functions, and a family that imports another."""
    source = "def f():\n    import plumbline.models.regression\n    from plumbline.analysis import cli\n"
    assert set(imported_packages(source)) == {"plumbline.models", "plumbline.analysis"}
    assert list(imported_families("from plumbline.theory.regression.task import RegressionTask")) == ["regression"]
    assert list(imported_families("import plumbline.theory.regression")) == ["regression"]
    assert list(imported_families("from plumbline.theory import checks")) == []
