"""The rules of the house, held to the source: who may import whom, and what a room may name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from plumbline import DISTRIBUTION, FLOORS
from plumbline.analysis.family import ENTRIES

ROOT = Path(__file__).parents[1]
FAMILIES = [entry.rpartition(".")[2] for entry in ENTRIES]
SHARED = ("jobs", "verdict", "claims", "sweeps", "drawing", "subject", "report", "commands")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def module_name(path: Path) -> str:
    """The name by which a file of the package is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "plumbline" else ("plumbline", *parts))


SOURCES = {module_name(path): path for room in (*FLOORS, "plumbline") for path in sorted((ROOT / room).rglob("*.py"))}


OURS = [
    *SOURCES.values(),
    *(path for room in ("tests", "benchmarks", "examples") for path in (ROOT / room).rglob("*.py")),
]


def at_import(tree: ast.AST) -> Iterator[ast.stmt]:
    """The imports that run when the module is imported: not those of functions, nor for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield from at_import(node)


def imported(source: str, *, everywhere: bool = False) -> set[str]:
    """Names of modules that a source imports, members of packages among them."""
    tree = ast.parse(source)
    names = set()
    for node in ast.walk(tree) if everywhere else at_import(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_room_is_imported_by_its_bare_name(path):
    """`import theory` would be a second copy of every class, or somebody else's package."""
    assert not {name for name in imported(path.read_text(), everywhere=True) if name.split(".")[0] in FLOORS}


def test_the_check_of_names_can_fail():
    """It sees imports in functions and those of members."""
    assert imported("def f():\n    from theory import checks", everywhere=True) == {"theory", "theory.checks"}
    assert imported("def f():\n    import theory") == set()
    assert imported("if TYPE_CHECKING:\n    import theory\nelse:\n    import models") == {"models"} - {"models"}
    assert imported("class A:\n    import models") == {"models"}


@pytest.mark.parametrize("room", FLOORS)
def test_a_room_refuses_its_bare_name(room):
    """In the clone, where Python finds it: one sentence that names the new one."""
    command = [sys.executable, "-c", f"import {room}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: this folder is plumbline.{room}: write `from plumbline.{room} import …`; ")


def test_imports_form_no_circle():
    """Modules can be put in an order in which each imports earlier ones only."""
    graph = {name: imported(path.read_text()) & SOURCES.keys() - {name} for name, path in SOURCES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(SOURCES)


@pytest.mark.parametrize("room", SHARED)
def test_shared_rooms_name_no_family(room):
    """A family is one folder for each floor and one entry."""
    for path in (ROOT / "analysis" / room).rglob("*.py"):
        for name in imported(path.read_text(), everywhere=True):
            assert not set(name.split(".")) & set(FAMILIES), f"{path}: {name}"


@pytest.mark.parametrize("family", FAMILIES)
def test_families_never_import_one_another(family):
    """What two of them need moves to the floor's own level."""
    others = set(FAMILIES) - {family}
    for name, path in SOURCES.items():
        if f".{family}." in f"{name}.":
            assert not {one for one in imported(path.read_text(), everywhere=True) if set(one.split(".")) & others}, (
                name
            )


def test_nothing_looks_upstairs():
    """Theory knows theory; models know theory; nobody but the entrances imports the command line."""
    for name, path in SOURCES.items():
        names = imported(path.read_text(), everywhere=True)
        if name.startswith("plumbline.models"):
            assert not {one for one in names if one.startswith("plumbline.analysis")}, name
        if not name.startswith("plumbline.analysis.commands") and name != "plumbline.__main__":
            assert not {one for one in names if one.startswith("plumbline.analysis.commands")}, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_imports_on_pages_resolve(page):
    """Every name that a fenced block imports from us is there."""
    for block in re.findall(r"^```python.*?\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("plumbline", *FLOORS):
                exec(ast.unparse(node), {})  # as a reader would: a room is imported by its name too


@pytest.mark.parametrize("path", [*OURS, *PAGES, ROOT / "CHANGELOG.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_install_this_distribution(path):
    """On the public index the name of the import is another project: pip gets the name of the distribution."""
    found = re.findall(r"pip install[^\n]*?['\"\s](plumbline[\w-]*)", path.read_text(encoding="utf-8"))
    assert set(found) <= {DISTRIBUTION}


def test_what_describes_needs_neither_torch_nor_matplotlib():
    """Claims, figures, experiments and errata of all families, and the command line, in a fresh process."""
    code = (
        "import sys; sys.modules['torch'] = sys.modules['matplotlib'] = None\n"
        "import plumbline.analysis.commands.app\n"
        "from plumbline.analysis.family import broken, families\n"
        "print([(len(f.claims), len(f.figures), len(f.experiments), len(f.errata) > 0) for f in families().values()])\n"
        "print(list(broken()))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    counts, failed = result.stdout.splitlines()
    assert failed == "[]"
    assert all(claims and figures and swept and errata for claims, figures, swept, errata in ast.literal_eval(counts))
