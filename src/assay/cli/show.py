"""Tables on standard output, from the journal alone: what `watch` ends with and `report` prints."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from dataclasses import replace as replaced
from pathlib import Path

from msgspec.structs import replace

from assay.cli.reasons import print_reasons, print_spreads
from assay.errors import BadInput
from assay.plugins import nearest
from assay.report.decision import Decision, decide
from assay.report.questions import questions
from assay.report.reasons import Reasons
from assay.report.rows import Proofs, broke, rows
from assay.report.score_table import Tallies, answer_tables, former_note, print_tallies, tally_rows
from assay.report.spread import Spreads
from assay.results.lens import Lens, Missing, RunSuite
from assay.suites.suite import Suite
from assay.types import Cell


def show(
    workspace: Path,
    *,
    run: str | None = None,
    runs: Sequence[str] | None = None,
    suite: str | None = None,
    suites: Sequence[str] | None = None,
    as_json: bool = False,
    answers: bool = False,
) -> None:
    """Print every (run, suite) that fits, as tables or as one JSON list of rows; with `answers` also those from files.

    runs, suites: only these. Raises `BadInput` if a name fits none, `WorkspaceError` if there are no results.
    """
    with Lens(workspace) as lens:
        known = lens.run_suites()
        from_files = lens.answer_suites() if answers else []
        _check("run", run, {r.run for r in known} | {name for name, _ in from_files}, workspace)
        _check("suite", suite, {r.suite for r in known} | {name for _, name in from_files}, workspace)
        chosen = [r for r in known if (run is None or r.run == run) and (suite is None or r.suite == suite)]
        chosen = [r for r in chosen if (runs is None or r.run in runs) and (suites is None or r.suite in suites)]
        files = answer_tables(lens, run, suite) if answers else {}
        if as_json:
            found = [row for r in chosen for row in _rows(lens, r)]
            found += [row for name, tallies in files.items() for row in tally_rows(tallies, name)]
            print(json.dumps(found, ensure_ascii=False, indent=2))
        else:
            _tables(lens, chosen, files)
        reasons = Reasons()
        several = len(chosen) + len(files) > 1
        for each in chosen:
            label = f"{each.run}, {each.suite}" if several else each.suite
            reasons.add_journaled(label, _missing(lens, each))
        for name, tallies in files.items():
            for of in dict.fromkeys(suite for _, suite, _ in tallies):
                reasons.add_journaled(f"{name}, {of}" if several else of, lens.missing_from_files(name, of))
        print_reasons(reasons)
        for note in filter(None, (former_note(lens, name) for name in files)):
            print(f"assay: {note}", file=sys.stderr)


def _missing(lens: Lens, each: RunSuite) -> list[Missing]:
    missing = lens.missing(each.run, each.suite)
    called = questions(lens, each.suite, [one.sample for one in missing])
    return [replaced(one, sample=called.get(one.sample, one.sample)) for one in missing]


def _tables(lens: Lens, chosen: Sequence[RunSuite], files: Mapping[str, Tallies]) -> None:
    several = len(chosen) + len(files) > 1
    for number, each in enumerate(chosen):
        if number:
            print()
        if several:
            print(f"run {each.run}, suite {each.suite}")
        _table(lens, each)
        print_spreads(_spreads(lens, each.run, each.suite))
    for number, (name, tallies) in enumerate(files.items(), len(chosen)):
        if number:
            print()
        if several:
            print(f"run {name}, answers from files")
        print_tallies(tallies)
        spreads = Spreads()
        for of in dict.fromkeys(suite for _, suite, _ in tallies):
            _spreads(lens, name, of, spreads, from_files=True)
        print_spreads(spreads)


def _spreads(lens: Lens, run: str, suite: str, spreads: Spreads | None = None, *, from_files: bool = False) -> Spreads:
    spreads = spreads or Spreads()
    for row in lens.spreads(run, suite, from_files=from_files):
        spreads.add(*row)
    return spreads


def next_steps(workspace: Path, run: str, suites: Iterable[Suite]) -> None:
    """Say where the results lie and what to run next."""
    flag = workspace_flag(workspace)
    scorers = [spec.name for suite in suites for spec in suite.scorers.values()]
    looks = []
    if not scorers or any(name != "perplexity" for name in scorers):
        looks.append("select checkpoint, sample, response from probe_results where value = 0 order by iteration")
    if "perplexity" in scorers:
        looks.append("select sample, checkpoint, value from scores where metric = 'loss' order by value desc")
    print()
    print(f"results: {_relative(workspace)}/journal")
    print(f"again:   assay report --run {shlex.quote(run)}{flag}")
    for sql in looks:
        print(f'look:    assay query "{sql}"{flag}')


def workspace_flag(workspace: Path) -> str:
    """What a command that is to read this workspace needs behind it; nothing for the default one."""
    shown = _relative(workspace)
    return "" if shown == "assay-results" else f" --workspace {shlex.quote(shown)}"


def _check(kind: str, name: str | None, known: set[str], workspace: Path) -> None:
    if name is not None and name not in known:
        raise BadInput(f"there is no {kind} {name!r} in {_relative(workspace)}; {nearest(name, known)}")


def _rows(lens: Lens, each: RunSuite) -> list[dict[str, object]]:
    cells = lens.cells(each.run, each.suite)
    return [asdict(row) for row in rows(cells, lens.proofs(each.run, each.suite), each.groups)]


def _table(lens: Lens, each: RunSuite) -> None:
    from assay.report.blocks import console_on
    from assay.report.table import print_table

    cells = lens.cells(each.run, each.suite)
    unusable = lens.unusable(each.run)
    if not cells and not unusable:
        print(f"run {each.run}, suite {each.suite}: nothing has been scored yet")
        return
    proofs = lens.proofs(each.run, each.suite)
    called = questions(lens, each.suite, [cell.sample for cell in cells])
    cells = [cell if cell.sample not in called else replace(cell, sample=called[cell.sample]) for cell in cells]
    decision = _decision(cells, proofs, each)
    print_table(console_on(), rows(cells, proofs, each.groups), decision, broke(cells), unusable)


def _decision(cells: Sequence[Cell], proofs: Proofs, each: RunSuite) -> Decision | None:
    """Which checkpoint is best, by the suite's own metrics alone: a judge asked later changes nothing.

    Without a goal only right-or-wrong metrics and losses decide: whether more of another is better, nobody has said.
    """
    own = [cell for cell in cells if not each.metrics or cell.metric in each.metrics]
    plain = all(cell.boolean or cell.lower_is_better for cell in own if cell.outcome == "scored")
    return decide(own, proofs, each.goal, each.groups) if own and (plain or each.goal is not None) else None


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
