"""The two sides of a comparison, as they are named: a run's checkpoint or its base, or a file that `assay score` wrote."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from assay.errors import BadInput
from assay.plugins import nearest
from assay.report.pairing import paired
from assay.report.score_file import read_score_file
from assay.report.score_table import former_note
from assay.results.columns import Column, titles
from assay.results.lens import Lens
from assay.suites.asked import journaled_samples
from assay.types import Cell

# Of a digest, enough to tell checkpoints apart.
_DIGITS = 8

# A file's cells with their columns.
_Cells: TypeAlias = Sequence[tuple[Column, Cell]]
# From a suite and a scorer to its judges, as people know them, and their measures.
_Judges: TypeAlias = Mapping[tuple[str, str], Collection[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class _Side:
    """A run's name and what stands behind its @ or #, or a file's cells with their columns. answers: a run of `assay score`."""

    named: str
    run: str = ""
    part: str = ""
    answers: bool = False
    cells: _Cells | None = None


class Sides(NamedTuple):
    """Both sides' cells. unlike: by suite, ids of questions that are not the same on both, whose cells are left out.

    rescored: the same of those that only the suites' scorers tell apart. notes: a sentence for each suite that was judged on
    both sides, but not by one judge in one way; and what is in no cell since a file of answers has changed.
    """

    old: list[Cell]
    new: list[Cell]
    unlike: Mapping[str, Sequence[str]]
    rescored: Mapping[str, Sequence[str]]
    notes: Sequence[str]


def sides(old: str, new: str, workspace: Path) -> Sides:
    """The cells of both sides. A metric that is called alike in both was judged, if at all, by one judge and measure.

    Each side is RUN@CHECKPOINT (an iteration, "base", a label as tables show it, or the beginning of a digest), a label alone
    ("base" is that of the other side's run), a run's name (its last iteration, else its base), RUN#MODEL of a run of
    `assay score`, FILE or FILE#MODEL. Raises `BadInput` for a name that is none of these, or that fits several;
    `WorkspaceError` where a run is named and there are no results.
    """
    files = _file(old), _file(new)
    if files[0] is not None and files[1] is not None:
        return _of_answers(old, new, files[0].cells or (), files[1].cells or ())
    with Lens(workspace) as lens:
        before, after = files[0] or _run(lens, old, new), files[1] or _run(lens, new, old)
        former = list(filter(None, (former_note(lens, side.run) for side in (before, after) if side.answers)))
        given = [_answers(lens, side) for side in (before, after)]
        if given[0] is not None and given[1] is not None:
            found = _of_answers(old, new, given[0], given[1])
            return found._replace(notes=[*former, *found.notes])
        first, second = (
            _checkpoint(lens, side, beside.run) if cells is None else _titled(cells, [cells])
            for side, beside, cells in ((before, after, given[0]), (after, before, given[1]))
        )
        unlike, rescored = _unlike(lens, before.run, after.run)
        apart = _apart(old, new, *(_judges(lens.judges(side.run)) for side in (before, after)))
    _check_differ(old, new, first, second)
    left_out = {(suite, name) for each in (unlike, rescored) for suite, names in each.items() for name in names}
    first, second = ([cell for cell in side if (cell.suite, cell.sample) not in left_out] for side in (first, second))
    return Sides(first, second, unlike, rescored, [*former, *apart])


def _of_answers(old: str, new: str, before: _Cells, after: _Cells) -> Sides:
    """Two sides of answers that assay didn't ask for itself."""
    _check_differ(old, new, before, after)
    pairs = paired(*(_titled(cells, (before, after)) for cells in (before, after)))
    return Sides(*pairs, {}, _apart(old, new, *(_judges(_of(cells)) for cells in (before, after))))


def _check_differ(old: str, new: str, before: Sequence[object], after: Sequence[object]) -> None:
    if before and before == after:
        raise BadInput(f"{old} and {new} are the same answers; name two sides that differ")


def _titled(cells: _Cells, files: Sequence[_Cells]) -> list[Cell]:
    """A file's cells, with metrics called so that what is called alike in all of `files` is of one judge and measure."""
    called = titles((column for each in files for column, _ in each), ())
    return [replace(cell, metric=called[column]) if column.judge else cell for column, cell in cells]


def _of(cells: _Cells) -> set[tuple[str, str, str, str]]:
    return {(cell.suite, column.scorer, column.judge, column.measure) for column, cell in cells if column.judge}


def _judges(rows: Iterable[tuple[str, str, str, str]]) -> _Judges:
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for suite, scorer, judge, measure in rows:
        found.setdefault((suite, scorer), set()).add((judge, measure))
    return found


def _apart(old: str, new: str, before: _Judges, after: _Judges) -> list[str]:
    """A sentence for each suite whose scores are of different measures on the two sides."""
    found = []
    for (suite, scorer), first in before.items():
        second = after.get((suite, scorer), ())
        if not second or {measure for _, measure in first} & {measure for _, measure in second}:
            continue
        names = [" and ".join(sorted({judge for judge, _ in side})) for side in (first, second)]
        how = (
            f"by {names[0]} in {old} and by {names[1]} in {new}"
            if names[0] != names[1]
            else f"by {names[0]} on both sides, but not alike (another rubric, or other --votes)"
        )
        found.append(f"{suite} was judged {how}, so that its scores are no pairs; have one judge score both alike")
    return found


def _unlike(lens: Lens, old: str, new: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Ids under which two runs asked different questions, or expected different answers: their suites' versions differ.

    And ids of those that are alike, and whose own scorers differ.
    """
    versions = lens.suite_digests(old), lens.suite_digests(new)
    unlike: dict[str, list[str]] = {}
    rescored: dict[str, list[str]] = {}
    for suite in versions[0].keys() & versions[1].keys():
        before, after = (each[suite] for each in versions)
        if before == after:
            continue
        known = journaled_samples(lens, suite)
        for name in [name for digest, name in known if digest == before and (after, name) in known]:
            first, second = known[before, name], known[after, name]
            if not first.same(second):
                (rescored if first.same_question(second) else unlike).setdefault(suite, []).append(name)
    return unlike, rescored


def _file(side: str) -> _Side | None:
    file, named, model = side, "", ""
    if not Path(side).is_file():
        file, named, model = side.rpartition("#")
    if not Path(file).is_file():
        return None
    return _Side(side, cells=tuple(read_score_file(Path(file), model if named else None)))


def _run(lens: Lens, side: str, beside: str) -> _Side:
    known = {each.run for each in lens.run_suites()}
    scored = {run for run, _ in lens.answer_suites()}
    if side in known or side in scored:
        return _Side(side, side, answers=side not in known)
    run, _, part = (text.strip() for text in side.rpartition("@"))
    if run in known:
        return _Side(side, run, part)
    run, _, part = (text.strip() for text in side.rpartition("#"))
    if run in scored:
        return _Side(side, run, part, answers=True)
    if side == "base" != beside and _file(beside) is None and not (other := _run(lens, beside, "")).answers:
        return _Side(side, other.run, side)
    labelled = lens.query("select distinct checkpoint, run from cells where digest <> ''").rows
    runs = {run for label, run in labelled if label == side}
    if len(runs) == 1:
        return _Side(side, runs.pop(), side)
    names = known | scored | {label for label, _ in labelled}
    raise BadInput(
        f"{side}: neither a file nor a run or checkpoint in {lens.workspace}; {nearest(side.strip(), names)}"
    )


def _checkpoint(lens: Lens, side: _Side, beside: str) -> list[Cell]:
    cells = [cell for each in lens.run_suites(side.run) for cell in lens.cells(each.run, each.suite, beside or None)]
    # By digest, for two checkpoints may share an iteration or a label.
    checkpoints = {cell.digest: (cell.iteration, cell.checkpoint) for cell in cells if cell.digest}
    part = side.part
    if not part:
        part = str(max(iteration for iteration, _ in checkpoints.values())) if checkpoints else "base"
    if part == "base":
        return [cell for cell in cells if not cell.digest]
    found = [digest for digest, names in checkpoints.items() if part in (str(names[0]), names[1])]
    if not found and len(part) >= _DIGITS:
        found = [digest for digest in checkpoints if digest.startswith(part)]
    if len(found) == 1:
        return [cell for cell in cells if cell.digest == found[0]]
    ordered = sorted(checkpoints.items(), key=lambda item: item[1])
    if not found:
        known = ", ".join(["base", *dict.fromkeys(str(names[0]) for _, names in ordered)])
        raise BadInput(f"{side.named}: there is no such checkpoint; known: {known}")
    several = ", ".join(f"{names[1]!r} ({digest[:_DIGITS]})" for digest, names in ordered if digest in found)
    raise BadInput(
        f"{side.named} fits {len(found)} checkpoints: {several}; name one as {side.run}@LABEL or {side.run}@DIGEST"
    )


def _answers(lens: Lens, side: _Side) -> _Cells | None:
    """The cells of a file, or of a run of `assay score`; None for a run of checkpoints."""
    if not side.answers:
        return side.cells
    cells = lens.answer_cells(side.run)
    models = list(dict.fromkeys(cell.checkpoint for _, cell in cells))
    if not side.part and len(models) > 1:
        raise BadInput(f"{side.run} holds {len(models)} models; name one: {side.run}#{next(filter(None, models))}")
    if side.part and side.part not in models:
        raise BadInput(f"{side.run} holds no model {side.part!r}; {nearest(side.part, models)}")
    return [(column, cell) for column, cell in cells if side.part in ("", cell.checkpoint)]
