"""The two sides of a comparison, as they are named: a run's checkpoint or its base, or a file that `assay score` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assay.errors import BadInput
from assay.plugins import nearest
from assay.report.score_file import read_score_file
from assay.results.lens import Lens
from assay.types import Cell


@dataclass(frozen=True, slots=True)
class _Side:
    """A run's name and what stands behind its @, or the cells of a file."""

    named: str
    run: str = ""
    iteration: str = ""
    cells: tuple[Cell, ...] | None = None


def sides(old: str, new: str, workspace: Path) -> tuple[list[Cell], list[Cell]]:
    """The cells of both sides. A metric that is called alike in both was judged, if at all, by one judge and measure.

    Each side is RUN@ITERATION, RUN@base, a run's name (its last iteration, else its base), FILE or FILE#MODEL. Raises
    `BadInput` for a name that is none of these, `WorkspaceError` where a run is named and there are no results.
    """
    files = _file(old), _file(new)
    if files[0] is not None and files[1] is not None:
        return list(files[0].cells or ()), list(files[1].cells or ())
    with Lens(workspace) as lens:
        before, after = (file or _run(lens, name) for file, name in zip(files, (old, new), strict=True))
        return _cells(lens, before, after.run), _cells(lens, after, before.run)


def _file(side: str) -> _Side | None:
    file, named, model = side, "", ""
    if not Path(side).is_file():
        file, named, model = side.rpartition("#")
    if not Path(file).is_file():
        return None
    return _Side(side, cells=tuple(read_score_file(Path(file), model if named else None)))


def _run(lens: Lens, side: str) -> _Side:
    known = {each.run for each in lens.run_suites()}
    run, at, iteration = side.rpartition("@")
    if not at or side in known:
        run, iteration = side, ""
    if run.strip() not in known:
        raise BadInput(f"{side}: neither a file nor a run in {lens.workspace}; {nearest(run.strip(), known)}")
    return _Side(side, run.strip(), iteration.strip())


def _cells(lens: Lens, side: _Side, beside: str) -> list[Cell]:
    if side.cells is not None:
        return list(side.cells)
    cells = [cell for each in lens.run_suites(side.run) for cell in lens.cells(each.run, each.suite, beside or None)]
    iterations = sorted({cell.iteration for cell in cells if cell.digest})
    iteration = side.iteration
    if not iteration:
        iteration = str(iterations[-1]) if iterations else "base"
    if iteration == "base":
        return [cell for cell in cells if not cell.digest]
    if not iteration.isdecimal() or int(iteration) not in iterations:
        known = ", ".join(["base", *map(str, iterations)])
        raise BadInput(f"{side.named}: there is no such checkpoint; known: {known}")
    return [cell for cell in cells if cell.digest and cell.iteration == int(iteration)]
