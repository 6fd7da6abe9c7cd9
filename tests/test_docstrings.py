"""Every example in a docstring prints what it says."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil

import pytest


def modules(package):
    """Names of the package and all modules below it; none where the package or what it needs is not installed."""
    try:
        found = importlib.import_module(package)
    except ImportError:
        return []
    return [package, *(info.name for info in pkgutil.walk_packages(found.__path__, package + "."))]


@pytest.mark.parametrize(
    "name",
    [name for package in ("plumbline.theory", "plumbline.models", "plumbline.analysis") for name in modules(package)],
)
def test_examples_print_what_they_say(name):
    """All doctests of a module pass."""
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("family", [name for name in modules("plumbline.theory") if name.count(".") == 2])
def test_public_calculators_have_examples(family):
    """Every public function and task of a family's theory shows an example with a number."""
    package = importlib.import_module(family)
    for name in getattr(package, "__all__", ()):
        member = getattr(package, name)
        if inspect.isfunction(member) or name.endswith("Task"):
            assert doctest.DocTestFinder(recurse=False).find(member, name)[0].examples, name
