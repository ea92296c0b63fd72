"""`assay compare`: old, new, the paired difference, and which answers flipped."""

from __future__ import annotations

import json as js
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import takewhile
from pathlib import Path

from assay.cli.settings import ConfigFile, Json, Workspace, settings
from assay.errors import BadInput
from assay.report.comparison import Change, compare
from assay.report.figures import difference_figure, number_figure, share_figure
from assay.report.questions import is_made, questions
from assay.report.rows import shorten
from assay.report.sides import sides
from assay.results.journal import segments
from assay.results.lens import Lens
from assay.types import Cell

# Samples named in a cell of the table; --json has them all.
_NAMED = 8
# Characters that the column with their names has at least.
_FLIPS = 30


def compare_command(
    old: str,
    new: str,
    /,
    *,
    suite: str | None = None,
    json: Json = False,
    workspace: Workspace = None,
    config: ConfigFile = None,
) -> int:
    """Compare two checkpoints, runs or score files, sample by sample.

    Each side is RUN@CHECKPOINT from the workspace (an iteration, base, a label or a digest), a run's name (its last
    iteration, else its base), a run of `assay score` (RUN#MODEL), or a file that it wrote (FILE, FILE#MODEL).

    Parameters
    ----------
    old
        What to compare with.
    new
        What to compare.
    suite
        Only this suite.
    """
    where = settings(config, workspace).workspace
    before, after, unlike, rescored, notes = sides(old, new, where)
    for name, samples in unlike.items():
        _tell_left_out(name, samples, "not the same on both sides")
    for name, samples in rescored.items():
        _tell_left_out(name, samples, "scored by another scorer on each side, or with other parameters")
    for sentence in notes:
        print(f"assay: {sentence}", file=sys.stderr)
    changes = [c for c in compare(before, after) if suite is None or c.suite == suite]
    if not any(change.n for change in changes) and (notes or unlike or rescored):
        raise BadInput(f"{old} and {new} have nothing to pair")
    if not changes:
        raise BadInput(f"{old} and {new} have no suite in common" + (f" called {suite!r}" if suite else ""))
    if not any(change.n for change in changes):
        raise BadInput(f"{old} and {new} have no sample that both have a score for")
    if json:
        print(js.dumps([asdict(change) for change in changes], ensure_ascii=False, indent=2))
        return 0
    _print(_by_beginning(_by_question(changes, where), before), old, new)
    return 0


def _tell_left_out(suite: str, samples: Sequence[str], how: str) -> None:
    many = "1 question is" if len(samples) == 1 else f"{len(samples)} questions are"
    print(f"assay: {suite}: {many} {how}, and left out: {shorten(samples)}", file=sys.stderr)


def _by_question(changes: list[Change], workspace: Path) -> list[Change]:
    """The same, with questions that have no id of their own called by their beginning, as far as the journal knows them."""
    made = {(change.suite, name) for change in changes for name in change.gained + change.lost if is_made(name)}
    if not made or not segments(workspace):
        return changes
    with Lens(workspace) as lens:
        called = {
            suite: questions(lens, suite, sorted(n for of, n in made if of == suite))
            for suite in {of for of, _ in made}
        }

    def named(suite: str, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(called.get(suite, {}).get(name, name) for name in names)

    return [replace(c, gained=named(c.suite, c.gained), lost=named(c.suite, c.lost)) for c in changes]


def _by_beginning(changes: list[Change], cells: Sequence[Cell]) -> list[Change]:
    """The same for answers from files without ids, whose questions are called by the numbers of their lines."""
    told = {(cell.suite, cell.sample): cell.beginning for cell in cells if cell.beginning}
    alike = Counter((suite, beginning) for (suite, _), beginning in told.items())
    known = {
        (suite, name): f"{beginning} {name}" if alike[suite, beginning] > 1 else beginning
        for (suite, name), beginning in told.items()
    }

    def named(suite: str, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(known.get((suite, name), name) for name in names)

    return [replace(c, gained=named(c.suite, c.gained), lost=named(c.suite, c.lost)) for c in changes]


def _print(changes: list[Change], old: str, new: str) -> None:
    from assay.report.blocks import Column, blocks, console_on, print_all

    several = len({change.suite for change in changes}) > 1
    paired = [change for change in changes if change.n]
    groups = [f"{change.suite} · {change.group}" if several else change.group for change in paired]
    figures = zip(*(_figures(change) for change in paired), strict=True)
    labels = [Column("group", groups), Column("metric", [change.metric for change in paired])]
    columns = [Column("n", [_counted(change) for change in paired])]
    columns += [
        Column(title, cells) for title, cells in zip((*_titles(old, new), "difference", "p"), figures, strict=True)
    ]
    columns += [Column("flips", [_flips(change) for change in paired], _FLIPS)]
    console = console_on()
    print_all(console, blocks(labels, columns, console.width))
    left_out = _left_out(changes)
    if left_out:
        stand = "score stands" if left_out == 1 else "scores stand"
        print(f"\n{left_out} {stand} on one side only, in no number.")
    if any(change.repeats != 1 for change in paired):
        print("\nn counts questions: one that was asked several times counts once, with the mean of its scores.")
    print("\nIntervals are 95 %; p is two-sided and not corrected for the number of comparisons.")


def _titles(old: str, new: str) -> tuple[str, str]:
    """Both sides' names, without the folders that they have in common."""
    folders = zip(old.split("/")[:-1], new.split("/")[:-1], strict=False)
    common = sum(len(folder) + 1 for folder, _ in takewhile(lambda pair: pair[0] == pair[1], folders))
    return old[common:], new[common:]


def _counted(change: Change) -> str:
    """`50` questions, or `50×4` where each has four scores on each side."""
    return f"{change.n}×{change.repeats}" if change.repeats not in (None, 1) else str(change.n)


def _figures(change: Change) -> tuple[str, str, str, str]:
    """Old, new, the difference with its interval, and p."""
    if change.old is None or change.new is None or change.difference is None or change.p is None:
        return "–", "–", "–", "–"
    interval = (change.low, change.high) if change.low is not None and change.high is not None else None
    difference = difference_figure(
        change.difference, interval, "points" if change.boolean else "%" if change.geometric else ""
    )
    if change.lower_is_better:
        return f"{change.old:.4g}", f"{change.new:.4g}", difference, f"{change.p:.2g}"
    figure = share_figure if change.boolean else number_figure
    return figure(change.old, None), figure(change.new, None), difference, f"{change.p:.2g}"


def _flips(change: Change) -> str:
    if not change.boolean and (change.gained or change.lost):
        ways = ("better", "worse") if change.lower_is_better else ("up", "down")
        return f"{len(change.gained)} {ways[0]}, {len(change.lost)} {ways[1]}"
    parts = [f"▲ {_named(change.gained)}"] if change.gained else []
    parts += [f"▼ {_named(change.lost)}"] if change.lost else []
    return "\n".join(parts) or "none"


def _named(samples: Sequence[str]) -> str:
    more = f" and {len(samples) - _NAMED} more" if len(samples) > _NAMED else ""
    return ", ".join(samples[:_NAMED]) + more


def _left_out(changes: Sequence[Change]) -> int:
    """Scores without a partner: of all groups together where they are summed up, for each sample's group may differ."""
    whole = {(change.suite, change.metric) for change in changes if change.whole}
    return sum(c.unpaired for c in changes if c.whole or (c.suite, c.metric) not in whole)
