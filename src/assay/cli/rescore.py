"""`assay rescore`: score journaled answers again, without the model that gave them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.http import HttpFlags, with_flags
from assay.cli.judging import Judging, Votes, close_judge, judge_maker, open_judge
from assay.cli.settings import Config, ConfigFile, Json, Workspace, check_run, settings
from assay.cli.show import show
from assay.cli.stopping import resumable
from assay.cli.stopping import run as run_work
from assay.cli.suites import load
from assay.errors import BadInput
from assay.rescoring import Answer, journaled, rescore
from assay.results.index import Ledger
from assay.results.lens import Lens
from assay.scorers.base import Scorer, build_scorer
from assay.scorers.sets import one_a_name
from assay.suites.suite import ScorerSpec, Suite
from assay.types import Sample

Names = Annotated[list[str] | None, Parameter(negative="")]


def rescore_command(
    suite: str,
    /,
    *,
    scorer: Names = None,
    rubric: Names = None,
    judge: Judging = None,
    votes: Votes = 1,
    http: HttpFlags = None,
    run: str | None = None,
    json: Json = False,
    workspace: Workspace = None,
    config: ConfigFile = None,
) -> int:
    """Score journaled answers again, by another scorer or judge, without loading the model that gave them.

    Parameters
    ----------
    suite
        The suite whose answers are scored: its file, a built-in one's name, or your own data (.jsonl).
    scorer
        A scorer by name; its metrics appear beside the first ones as METRIC/SCORER.
    rubric
        A rubric by name or file, for the judge [semantic].
    run
        Only this run.
    """
    found = with_flags(settings(config, workspace), http, judge)
    check_run(run)
    loaded = load(suite, None)
    with resumable(found.workspace):
        failed = run_work(_rescore(found, loaded, scorer or [], rubric or [], judge, votes, run))
    show(found.workspace, run=run, suite=loaded.name, as_json=json)
    return 1 if failed else 0


def _answers(workspace: Path, suite: str, run: str | None) -> list[Answer]:
    with Lens(workspace) as lens:
        answers = journaled(lens, suite, run)
    if not answers:
        raise BadInput(f"{workspace} holds no answers to the suite {suite!r}" + (f" of the run {run!r}" if run else ""))
    return answers


async def _rescore(
    found: Config,
    suite: Suite,
    names: list[str],
    rubrics: list[str],
    judge: str | None,
    votes: int,
    run: str | None,
) -> int:
    answers = _answers(found.workspace, suite.name, run)
    if rubrics and judge is None:
        raise BadInput(f"the rubric {rubrics[0]!r} needs a judge; name one with --judge")
    if not names and judge is None:
        raise BadInput("nothing to score by: name a --scorer or a --judge")
    model = await open_judge(judge, found)
    try:
        make = judge_maker(model, votes)
        plain = [build_scorer(ScorerSpec(name)) for name in names]
        judges = one_a_name(make(rubric) for rubric in rubrics or ["semantic"]) if make is not None else []
        scorers: list[Scorer] = [*plain, *judges]

        def of(_: Sample) -> list[Scorer]:
            return scorers

        ledger = Ledger(found.workspace)
        try:
            concurrency = model.info.concurrency if model is not None else 1
            _, failed = await rescore(answers, suite, of, ledger, concurrency=concurrency)
        finally:
            ledger.close()
        return failed
    finally:
        await close_judge(model)
