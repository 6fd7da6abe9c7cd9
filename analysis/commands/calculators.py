"""Every bound calculator at the shell: options made from its signature, its result as text or JSON."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import numpy as np
import typer
import typer.core
import typer.main

from plumbline.analysis.family import ENTRIES, families


class Calculator(NamedTuple):
    """A calculator and the name of its family."""

    family: str
    function: Callable[..., Any]


def calculators() -> dict[str, Calculator]:
    """All calculators by their name at the shell: dashes for underscores, after the family where two share a name.

    A name of the families that come with the package stays what it is, whatever other families are loaded.
    """
    ours = [family for family in families().values() if family.folder in ENTRIES]
    uses = Counter(name for family in ours for name in family.calculators)
    found: dict[str, Calculator] = {}
    for family in families().values():
        for name, function in family.calculators.items():
            taken = uses[name] > 1 if family in ours else name.replace("_", "-") in found
            own = f"{family.name}_{name}" if taken else name
            found[own.replace("_", "-")] = Calculator(family.name, function)
    return found


class _Commands(Mapping[str, Any]):
    """The calculators as commands by name, each made when it is asked for: a family may be loaded before."""

    def __getitem__(self, name: str) -> Any:
        found = calculators()[name]
        own = typer.Typer(add_completion=False)
        own.command(name, rich_help_panel=found.family)(command(found.function))
        return typer.main.get_command(own)

    def __iter__(self) -> Iterator[str]:
        return iter(calculators())

    def __len__(self) -> int:
        return len(calculators())


class BoundCommands(typer.core.TyperGroup):
    """The group of all calculators."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "commands": {}})
        self.commands = _Commands()  # type: ignore[assignment]


def command(function: Callable[..., Any]) -> Callable[..., None]:
    """A Typer command that calls the calculator, with one option for each of its parameters.

    A parameter that is a dataclass, a task for one, becomes the options of its fields. Vectors and matrices are written
    as JSON, a vector also as ``0.5,1.2``.
    """
    parameters = _options(function)
    hints = get_type_hints(function)
    own = inspect.signature(function).parameters
    groups = {name: group for name in own if (group := _dataclass_of(hints[name])) is not None}

    def run(**given: Any) -> None:
        as_json = given.pop("json")
        values = {name: _parsed(name, value) for name, value in given.items() if value is not None}
        try:
            arguments = {name: values[name] for name in own if name in values and name not in groups}
            for name, group in groups.items():
                fields = {p.name: values[p.name] for p in _options(group) if p.name in values}
                default = own[name].default
                arguments[name] = group(**fields) if default is inspect.Parameter.empty else replace(default, **fields)
            result = function(**arguments)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if as_json:
            typer.echo(json.dumps(plain(result)))
            return
        typer.echo(_text(result))
        if not hasattr(result, "method"):  # which says itself how far its numbers can be trusted
            typer.echo(_exactness(result), err=True)

    flag = inspect.Parameter(
        "json",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option("--json", help="Print JSON.")],
    )
    run.__signature__ = inspect.Signature([*parameters, flag])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*parameters, flag]}
    run.__doc__ = _summary(function)
    return run


def _options(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The options of a calculator; a parameter that is a dataclass is replaced by the options of its fields."""
    hints = get_type_hints(function if inspect.isfunction(function) else function.__init__)
    helps = _argument_help(function)
    result = []
    for name, parameter in inspect.signature(function).parameters.items():
        group = _dataclass_of(hints[name])
        if group is not None:
            result += _options(group)
            continue
        required = parameter.default is inspect.Parameter.empty
        kind, metavar = _shell_type(hints[name])
        flag = "--" + name.replace("_", "-")
        option = typer.Option(flag, help=helps.get(name, ""), show_default=False, metavar=metavar)
        result.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if required else (parameter.default if kind is bool else None),
                annotation=Annotated[kind if required or kind is bool else kind | None, option],
            )
        )
    return result


def _dataclass_of(hint: Any) -> Any:
    """The dataclass that a parameter of this type can be, alone or among others."""
    kinds = (hint, *get_args(hint))
    return next((kind for kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)), None)


def _shell_type(hint: Any) -> tuple[type, str | None]:
    """A flag for bool; text for everything else, so that the calculator's own message names what is wrong with it."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    if kinds == [bool]:
        return bool, None
    names = {(int,): "INTEGER", (float,): "NUMBER", (Any,): "JSON"}
    return str, names.get(tuple(kinds), "TEXT")


def _parsed(name: str, value: Any) -> Any:
    """Text that is JSON or a comma-separated list of numbers as such; other text as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        pass
    if "," in value:
        try:
            return [float(part) for part in value.split(",")]
        except ValueError:
            raise typer.BadParameter(
                f"{name} must be JSON or numbers separated by commas, got {value!r}",
                param_hint=f"--{name.replace('_', '-')}",
            ) from None
    return value


def _summary(function: Callable[..., Any]) -> str:
    """First sentence of the docstring."""
    return inspect.cleandoc(function.__doc__ or "").split("\n\n")[0]


def _argument_help(function: Callable[..., Any]) -> dict[str, str]:
    """The lines of the docstring's *Args* section by name."""
    text = inspect.cleandoc(function.__doc__ or "")
    section = re.search(r"^Args:\n((?: {4}.*\n|\n)+)", text + "\n", re.MULTILINE)
    entries = re.findall(r"^ {4}([\w, ]+): ((?:.*\n)(?: {8}.*\n)*)", section.group(1) if section else "", re.MULTILINE)
    return {name.strip(): " ".join(body.split()) for names, body in entries for name in names.split(",")}


def plain(value: Any) -> Any:
    """A result as JSON values; exact fractions as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, Fraction):
        return str(value)
    return value


def _exactness(value: Any) -> str:
    """How far the numbers of a result can be trusted."""
    if isinstance(value, int | Fraction) or not re.search(r"\d\.\d|\de", json.dumps(plain(value))):
        return "(exact)"
    return "(its formula in float64, rounding aside)"


def _text(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "\n".join(f"{field.name}: {_text(getattr(value, field.name))}" for field in dataclasses.fields(value))
    if isinstance(value, np.ndarray):
        return np.array2string(value, precision=12, suppress_small=False)
    if isinstance(value, Fraction) and value.denominator > 1:
        return f"{value} = {float(value)!r}"
    return str(value)
