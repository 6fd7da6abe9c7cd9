"""From figures to files: compute what they show, judge what they claim, draw and write."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plumbline.analysis.budget import Budget
from plumbline.analysis.claims.check import CaseResult, Cases, case_key, judge_cases
from plumbline.analysis.drawing.data import FigureData, Number
from plumbline.analysis.drawing.figure import Figure
from plumbline.analysis.drawing.tables import end_numbers, write_csv, write_numbers
from plumbline.analysis.extras import required
from plumbline.analysis.jobs.scheduler import drive
from plumbline.analysis.jobs.session import Session, own_or
from plumbline.theory import checks


class FigureError(RuntimeError):
    """Figures that could not be computed.

    Attributes:
        names: Theirs.
        made: The others, by name.
    """

    def __init__(self, failures: dict[str, str], made: dict[str, Made]) -> None:
        reasons = "\n".join(f"{name}: {reason}" for name, reason in failures.items())
        super().__init__(f"figures that could not be computed: {reasons}")
        self.names, self.made = list(failures), made


@dataclass(frozen=True, eq=False)
class Made:
    """What a figure shows, its numbers beside published ones, and the files it was written to."""

    data: FigureData
    numbers: list[Number]
    files: list[Path]


def make_figures(
    chosen: Sequence[Figure],
    folder: Path | str,
    *,
    budget: Budget = Budget.QUICK,
    seed: int = 0,
    format: str = "png",
    judged: Mapping[str, CaseResult] | None = None,
    session: Session | None = None,
) -> dict[str, Made]:
    """Compute and draw figures; each is written as an image and a CSV of everything it shows.

    Under the title stand the verdicts of the cases that are drawn, those of `check`. A figure that reproduces a
    published one writes its numbers to a second CSV.

    Args:
        chosen: Figures.
        folder: Where the files go; made if it is not there.
        budget, seed: As in `check`.
        format: Of the images: ``"png"``, ``"pdf"`` or ``"svg"``.
        judged: Results that are known already, by `case_key`.
        session: As in `check`.

    Returns:
        What was made by figure name.

    Raises:
        MissingExtra: if matplotlib is not installed.
        FigureError: if a figure could not be computed or drawn; the others are written first.
    """
    required("matplotlib", "models")
    for figure in chosen:
        if not isinstance(figure, Figure):
            raise ValueError(f"figures must be a sequence of figures, got {figure!r} in it")
    budget = Budget(checks.one_of("budget", budget, map(str, Budget)))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    results = dict(judged or {})
    cases: Cases = {case_key(*case): case for figure in chosen for case in figure.drawn_cases(budget)}
    with own_or(session) as session:
        finished = drive({figure.name: figure.plan(budget, seed) for figure in chosen}, session=session)
        wanted = {key: case for key, case in cases.items() if key not in results}
        results |= judge_cases(wanted, budget=budget, seed=seed, session=session)
    made: dict[str, Made] = {}
    failures: dict[str, str] = {}
    for figure in chosen:
        end = finished[figure.name]
        if end.error is not None:
            failures[figure.name] = end.error.traceback or end.error.message
            continue
        lines = [
            f"claim {claim.name}, case {label}: {results[case_key(claim, label)].verdict.outcome.upper()}"
            for claim, label in figure.drawn_cases(budget)
        ]
        try:
            made[figure.name] = _write(figure, replace(end.value, verdicts=lines), folder, format)
        except (OSError, MemoryError):  # these are not of the figure
            raise
        except Exception:  # after hours of training the others are to be drawn all the same
            failures[figure.name] = traceback.format_exc()
    if failures:
        raise FigureError(failures, made)
    return made


def _write(figure: Figure, data: FigureData, folder: Path, format: str) -> Made:
    """Write the image and the tables."""
    from plumbline.analysis.drawing.draw import draw

    image, table = folder / f"{figure.name}.{format}", folder / f"{figure.name}.csv"
    write_csv(data, table)
    draw(data, image)
    files = [image, table]
    numbers: list[Number] = []
    if figure.published:
        numbers = list(data.numbers) or end_numbers(data)
        files.append(folder / f"{figure.name}.numbers.csv")
        write_numbers(numbers, files[-1])
    return Made(data, numbers, files)
