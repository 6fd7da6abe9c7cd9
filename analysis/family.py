"""A family: one line of work, with everything that is said, trained, swept and drawn of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, metadata
from importlib.util import find_spec
from inspect import signature
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

from plumbline.analysis.claims.claim import Claim, as_plan, make_claim
from plumbline.analysis.drawing.figure import Drawn, Figure
from plumbline.analysis.errata import Erratum
from plumbline.analysis.subject.reader import Reader
from plumbline.analysis.sweeps.experiment import Experiment, Unit, all_alike, make_experiment
from plumbline.analysis.verdict import Rule

Item = TypeVar("Item")
PARTS = ("claims", "figures", "experiments", "subject", "errata")
"""Modules below the folder of a family, each imported when it is asked for; one that is not there means none."""


@dataclass(eq=False)
class Family:
    """A family of theorems: its task, calculators, claims, figures, experiments, reader and errata.

    What a family registers on this object is all that the rest of the house knows of it; whatever it lacks it does
    without. Everything may be registered in one file, or in modules that are imported when they are asked for.

    Args:
        name: One word, as ``--family`` takes it.
        title: What it is about, in a few words.
        theory: The package whose public functions are its calculators, ``"plumbline.theory.regression"``.
        folder: The package whose modules `PARTS` register the rest, ``"plumbline.analysis.regression"``.
        task: The dataclass that fixes its data.
        example: A task to start from.
        example_model: What names and shapes leave open of a model on it.
        ingredients: Names of public functions that are no answers, and of no use at the shell.

    Example:
        >>> from plumbline.analysis import Identity
        >>> own = Family("own", title="mine")
        >>> @own.claim(statement="Two is even.", source="known", rule=Identity, status="derived here",
        ...            rivals={"three": "three"}, cases=lambda budget: {"2": 2})
        ... def two_is_even(case, budget, seed):
        ...     ...
        >>> list(own.claims)
        ['two-is-even']
    """

    name: str
    title: str = ""
    theory: str | None = None
    folder: str | None = None
    task: type | None = None
    example: Any = None
    example_model: Mapping[str, Any] = field(default_factory=dict)
    ingredients: Sequence[str] = ()
    failures: dict[str, str] = field(default_factory=dict, init=False)
    """Parts that could not be imported, each with its traceback."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"name must be one word of letters, digits and _, got {self.name!r}")
        self._claims: dict[str, Claim] = {}
        self._figures: dict[str, Figure] = {}
        self._experiments: dict[str, Experiment] = {}
        self._calculators: dict[str, Callable[..., Any]] = {}
        self._errata: list[Erratum] = []
        self._reader: Reader | None = None
        self._loaded: set[str] = set()

    def claim(
        self,
        *,
        statement: str,
        source: str,
        rule: type[Rule],
        status: str,
        rivals: Mapping[str, str],
        cases: Callable[[Any], Mapping[str, Any]],
        conditions: Mapping[str, Callable[[Any], bool]] | None = None,
        published: str = "",
        name: str | None = None,
    ) -> Callable[[Callable[..., Any]], Claim]:
        """Register the decorated function as a claim.

        The function takes (case, budget, seed) and returns `Evidence`. Where it needs trained models it yields jobs
        (one, a list, or a dict) and receives their results: it reads like the theorem, and the scheduler decides where
        the jobs run, shares them between claims, and keeps them.

        Args:
            statement: The theorem in one sentence.
            source: Paper, arXiv number, theorem; or "derived here".
            rule: The class of the rule that judges it, which says the kind of the statement and decides the statistic.
            status: One of `STATUSES`.
            rivals: Name and description of each wrong twin; at least one, unless every case fails a condition.
            cases: From budget to the cases by label.
            conditions: Sentences with predicates on the case; where one fails the verdict is NOT APPLICABLE.
            published: What was published instead, for claims with the status "corrected" and only these.
            name: Name at the command line; by default the function's, with dashes.

        Raises:
            ValueError: on an unknown rule or status, no rival, a correction that does not say of what, or a name that
                is taken.
        """

        def register(function: Callable[..., Any]) -> Claim:
            return self._put(
                self._claims,
                make_claim(
                    function, family=self.name, statement=statement, source=source, rule=rule, status=status,
                    rivals=rivals, cases=cases, conditions=conditions, published=published, name=name,
                ),
            )  # fmt: skip

        return register

    def figure(
        self,
        *,
        caption: str,
        published: str = "",
        claims: Mapping[Claim, Drawn] | None = None,
        name: str | None = None,
    ) -> Callable[[Callable[..., Any]], Figure]:
        """Register the decorated plan (budget, seed) -> `FigureData` as a figure; it yields jobs like a claim.

        Args:
            caption: What it shows, in one sentence.
            published: The published figure or notebook that it reproduces; empty where there is none.
            claims: The claims whose prediction and measurement it shows, the nearest first, each with the label of the
                case that is drawn: its verdict stands under the title. ``None`` where what is drawn is no case.
            name: Name at the command line; by default the function's, with dashes.

        Raises:
            ValueError: if the name is taken.
        """

        def register(function: Callable[..., Any]) -> Figure:
            own_name = name or function.__name__.replace("_", "-")
            return self._put(
                self._figures, Figure(own_name, self.name, caption, published, claims or {}, as_plan(function))
            )

        return register

    def experiment(
        self, *, job: type | None = None, fields: Sequence[str] = (), alike: Callable[..., Any] = all_alike
    ) -> Callable[[Callable[..., Unit]], Experiment]:
        """Register the decorated function as an experiment that `sweep` can sweep.

        The function takes keywords only: the keys of the grid, whose types and defaults are read from its signature,
        and ``runs``, ``seed`` and ``budget``. It returns the `Unit` of a grid point. Keys may be annotated
        ``tuple[kind, ...]``: several grid points that differ in nothing else then train together, ``runs`` times each.
        Each of these keys has the values of all of them, and run i of the ensemble is of the point i modulo their
        number.

        Args:
            job: A job of which some fields are keys too.
            fields: Their names; the function receives them as ``**fields``.
            alike: Called with the values of these keys at a point, by name: only points that share what it returns
                train together.

        Raises:
            ValueError: if the name is taken.
        """

        def register(function: Callable[..., Unit]) -> Experiment:
            return self._put(
                self._experiments, make_experiment(function, family=self.name, job=job, fields=fields, alike=alike)
            )

        return register

    def calculator(self, function: Callable[..., Item]) -> Callable[..., Item]:
        """Register a function as a calculator: `plumbline bound` has it.

        Raises:
            ValueError: if its name is taken, or a parameter has no type, of which options are made.
        """
        if function.__name__ in self._calculators:
            raise ValueError(f"name must be new, got {function.__name__!r}, which is registered already")
        untyped = [name for name in signature(function).parameters if name not in get_type_hints(function)]
        if untyped:
            raise ValueError(f"calculator {function.__name__} must have a type for {', '.join(untyped)}, got none")
        self._calculators[function.__name__] = function
        return function

    def reads(self, reader: Reader) -> Reader:
        """Register what is known of given models of this family.

        Raises:
            ValueError: if something is registered already.
        """
        if self._reader is not None:
            raise ValueError(f"reader must be the only one of the family {self.name}, got another")
        self._reader = reader
        return reader

    def erratum(self, source: str, published: str, holds: str, command: str) -> None:
        """Add an entry to the ledger, beside the claims with the status "corrected"; see `Erratum`."""
        self._errata.append(Erratum(self.name, source, published, holds, command))

    @property
    def claims(self) -> dict[str, Claim]:
        """By name, in the order of their registration."""
        self._load("claims")
        return dict(self._claims)

    @property
    def figures(self) -> dict[str, Figure]:
        """By name."""
        self._load("figures")
        return dict(self._figures)

    @property
    def experiments(self) -> dict[str, Experiment]:
        """Those that can be swept, by name."""
        self._load("experiments")
        return dict(self._experiments)

    @property
    def reader(self) -> Reader | None:
        """What is known of given models; ``None`` where nothing is."""
        self._load("subject")
        return self._reader

    @property
    def errata(self) -> list[Erratum]:
        """The corrected claims, and the notes."""
        self._load("errata")
        corrected = [
            Erratum(claim.family, claim.source, claim.published, claim.statement, f"plumbline check {claim.name}")
            for claim in self.claims.values()
            if claim.published
        ]
        return corrected + self._errata

    @property
    def calculators(self) -> dict[str, Callable[..., Any]]:
        """The public functions of its theory, by name, but for the ingredients, and those registered one by one."""
        package = None if self.theory is None else self._imported(self.theory)
        public = {}
        for name in getattr(package, "__all__", ()):
            try:
                public[name] = getattr(package, name)
            except AttributeError:
                self.failures[f"{self.theory}.{name}"] = "named in __all__, and not there"
        functions = {
            name: function
            for name, function in public.items()
            if callable(function) and not isinstance(function, type) and name not in self.ingredients
        }
        return {**functions, **self._calculators}

    def _put(self, registry: dict[str, Any], item: Any) -> Any:
        if item.name in registry:
            raise ValueError(f"name must be new, got {item.name!r}, which is registered already")
        registry[item.name] = item
        return item

    def _load(self, part: str) -> None:
        """Import the module of this part, once; what fails is kept, and the other parts and families go on."""
        if self.folder is None or part in self._loaded:
            return
        self._loaded.add(part)
        self._imported(f"{self.folder}.{part}", optional=True)

    def _imported(self, name: str, *, optional: bool = False) -> ModuleType | None:
        try:
            return None if optional and find_spec(name) is None else import_module(name)
        except (Exception, SystemExit):  # a family that is broken must not take the others with it
            self.failures[name] = traceback.format_exc()
            return None


def claim(**options: Any) -> Callable[[Callable[..., Any]], Claim]:
    """Make the decorated function a claim of nobody's family; options as in `Family.claim`."""
    return Family("own").claim(**options)


claim.__signature__ = signature(Family("own").claim)  # type: ignore[attr-defined]  # for editors and help()


_FAMILIES: dict[str, Family] = {}
_FAILURES: dict[str, str] = {}
ENTRIES = ("plumbline.analysis.regression", "plumbline.analysis.memorization", "plumbline.analysis.reasoning")
"""The families that come with the package: modules that register one."""
ENTRY_POINTS = "plumbline.families"
"""Where other packages name theirs."""


def register(family: Family) -> Family:
    """Make a family known to every command, to pytest and to the report.

    Raises:
        ValueError: if another family has this name, or its task.
    """
    if family.folder not in ENTRIES:  # ours first: what comes later gives way
        families()
    for other in _FAMILIES.values():
        if other is not family and other.name == family.name:
            raise ValueError(f"name must be new, got {family.name!r}, which is a family already")
        if other is not family and family.task is not None and other.task is family.task:
            raise ValueError(f"task must be new, got {family.task.__name__}, which is that of the family {other.name}")
    _FAMILIES[family.name] = family
    return family


def families() -> dict[str, Family]:
    """All families by name: those of the package, those of installed packages, and those registered since."""
    others = [point.value.partition(":")[0].strip() for point in metadata.entry_points(group=ENTRY_POINTS)]
    for module in [*ENTRIES, *others]:
        if module in _FAILURES:
            continue
        try:
            import_module(module)
        except (Exception, SystemExit):  # named by `broken`; the others go on
            _FAILURES[module] = traceback.format_exc()
    ours = {family.folder: family for family in _FAMILIES.values()}
    return {**{ours[folder].name: ours[folder] for folder in ENTRIES if folder in ours}, **_FAMILIES}


def broken() -> Iterator[tuple[str, str]]:
    """What could not be imported so far, of whole families and of their parts, each with its traceback."""
    yield from _FAILURES.items()
    for family in _FAMILIES.values():
        yield from family.failures.items()
