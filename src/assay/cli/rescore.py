"""`assay rescore`: score journaled answers again, without the model that gave them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.http import HttpFlags, with_flags
from assay.cli.judging import Judging, Votes, close_judge, judge_maker, open_judge
from assay.cli.settings import Config, ConfigFile, Json, Workspace, check_run, settings
from assay.cli.show import show
from assay.cli.stopping import resumable
from assay.cli.stopping import run as run_work
from assay.cli.suites import load, named
from assay.errors import BadInput, ModelError, Unreachable
from assay.job import rubrics_for
from assay.plugins import nearest
from assay.report.rows import shorten
from assay.rescoring import (
    Answer,
    Asking,
    asked_by,
    asked_in,
    edited,
    journaled,
    judged_rubrics,
    rescore,
    version_of,
)
from assay.results.index import Ledger
from assay.results.lens import Lens
from assay.scorers.base import Scorer, scorer_of_answers
from assay.scorers.judge import Judge
from assay.scorers.rubric_file import builtin_rubrics
from assay.scorers.sets import one_a_name
from assay.suites.asked import Asked, journaled_samples
from assay.suites.own_data import is_training_data
from assay.suites.suite import Suite, builtin_suites
from assay.types import Sample

Names = Annotated[list[str] | None, Parameter(negative="")]


def rescore_command(
    suite: str | None = None,
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
        The suite whose answers are scored: its name, or its file (or data, .jsonl) as it is now [all in the journal].
    scorer
        A scorer by name, commas or the flag again for more; its metrics appear beside the first ones as METRIC/SCORER.
    rubric
        A rubric by name or file, for the judge, and more in the same way [the suite's own, else semantic].
    run
        Only this run.
    """
    found = with_flags(settings(config, workspace), http, judge)
    check_run(run)
    scorers, rubrics = named(scorer or []), named(rubric or [])
    if rubrics and judge is None:
        raise BadInput(f"the rubric {rubrics[0]!r} needs a judge; name one with --judge")
    if not scorers and judge is None:
        raise BadInput("nothing to score by: name a --scorer or a --judge")
    answers, asked, names, own = _chosen(found.workspace, suite, run)
    if judge is not None and not rubrics:
        _check_found(own)
    one = names[0] if len(names) == 1 else None
    with resumable(found.workspace):
        failed, gone = run_work(
            _rescore(found, answers, asked, scorers, rubrics or partial(_rubrics, own), judge, votes)
        )
        show(found.workspace, run=run, suite=one, as_json=json)
        if gone is not None:
            raise gone
    return 1 if failed else 0


def _chosen(
    workspace: Path, suite: str | None, run: str | None
) -> tuple[list[Answer], Asking, list[str], dict[str, Sequence[str]]]:
    """The answers to score, what was asked, the suites' names, and the rubrics of each."""
    with Lens(workspace) as lens:
        known = list(dict.fromkeys(each.suite for each in lens.run_suites(run)))
        loaded = _loaded(lens, suite, known)
        names = known if suite is None else [suite if loaded is None else loaded.name]
        answers = [answer for name in names for answer in journaled(lens, name, run)]
        if not answers:
            what = f"answers to the suite {names[0]!r}" if suite is not None else "answers that a model gave"
            hint = "; answers from files are scored again by assay score FILE" if lens.answer_suites() else ""
            raise BadInput(f"{workspace} holds no {what}" + (f" of the run {run!r}" if run else "") + hint)
        former = {} if loaded is None else journaled_samples(lens, loaded.name)
        asked = asked_in(lens, names) if loaded is None else asked_by(loaded, former)
        rubrics = {**judged_rubrics(lens, run)} if loaded is None else {loaded.name: loaded.rubrics}
    if loaded is not None:
        _note_edited(loaded, former, {place.suite_digest for place, _, _ in answers})
    lost = Counter(place.suite for place, _, _ in answers if asked(place) is None)
    for name, count in lost.items():
        if loaded is not None:
            said = f"{count} answers are passed over: {suite} has no such questions any more"
        else:
            said = (
                f"{count} answers to {name} are passed over: an older assay journaled them without their questions; "
                "name the suite's file to score them, too: assay rescore FILE"
            )
        if lost.total() == len(answers):
            raise BadInput(said)
        print(f"assay: {said}", file=sys.stderr)
    return answers, asked, names, {name: rubrics.get(name, ()) for name in names}


def _rubrics(of: Mapping[str, Sequence[str]], suite: str, sample: Sample) -> Sequence[str]:
    """The rubrics of a suite for one of its samples: those of its file, or else those that it was judged by before."""
    return rubrics_for(suite, of[suite], sample) or ("semantic",)


def _check_found(of: Mapping[str, Sequence[str]]) -> None:
    """Raise `BadInput` for a rubric that the journal knows by its name alone."""
    for suite, rubrics in of.items():
        for rubric in rubrics:
            if rubric not in builtin_rubrics() and not Path(rubric).suffix:
                raise BadInput(
                    f"answers to {suite} were judged by the rubric {rubric!r}, whose file is not in the journal; name it with "
                    "--rubric, or the suite's file: assay rescore FILE"
                )


def _note_edited(suite: Suite, former: Mapping[tuple[str, str], Asked], digests: Collection[str]) -> None:
    names = list(dict.fromkeys(name for digest, name in edited(suite, former) if digest in digests))
    if names:
        many = "1 question differs" if len(names) == 1 else f"{len(names)} questions differ"
        print(
            f"assay: in {suite.path or suite.name} {many} from what was asked: {shorten(names)}; the metrics by this "
            f"version end in ({version_of(suite)})",
            file=sys.stderr,
        )


def _loaded(lens: Lens, suite: str | None, known: Sequence[str]) -> Suite | None:
    """The suite from its file, or the built-in one; None where the journal knows what was asked."""
    if suite is None:
        return None
    if Path(suite).is_file() or is_training_data(suite):
        return load(suite, None)
    if suite in known and (suite not in builtin_suites() or journaled_samples(lens, suite)):
        return None
    if suite in builtin_suites() or Path(suite).name != suite or Path(suite).suffix:
        return load(suite, None)
    raise BadInput(f"there is no suite {suite!r} in {lens.workspace}; {nearest(suite, {*known, *builtin_suites()})}")


async def _rescore(
    found: Config,
    answers: Sequence[Answer],
    asked: Asking,
    names: Sequence[str],
    rubrics: Sequence[str] | Callable[[str, Sample], Sequence[str]],
    judge: str | None,
    votes: int,
) -> tuple[int, Unreachable | ModelError | None]:
    """Score all answers: how many scores failed, and why the judge could not be asked where others needed none.

    rubrics: for every answer, or for each sample of a suite its own.
    """
    model = await open_judge(judge, found)
    try:
        make = judge_maker(model, votes)
        plain = [scorer_of_answers(name) for name in names]
        judges = _judges(make, rubrics) if make is not None else None
        concurrency = model.info.concurrency if model is not None else 1
        ledger = Ledger(found.workspace)
        try:
            # A judge that is gone takes nothing from those who need none: they come first.
            failed = await _by(lambda _, __: plain, answers, asked, ledger, 1) if plain else 0
            try:
                failed += await _by(judges, answers, asked, ledger, concurrency) if judges is not None else 0
            except (Unreachable, ModelError) as error:
                if not plain:
                    raise
                return failed, error
            return failed, None
        finally:
            ledger.close()
    finally:
        await close_judge(model)


def _judges(
    make: Callable[[str], Judge], rubrics: Sequence[str] | Callable[[str, Sample], Sequence[str]]
) -> Callable[[str, Sample], Sequence[Scorer]]:
    if not callable(rubrics):
        judges = one_a_name(make(rubric) for rubric in rubrics)
        return lambda _, __: judges
    judge = cache(make)
    return lambda suite, sample: [judge(rubric) for rubric in rubrics(suite, sample)]


async def _by(
    scorers: Callable[[str, Sample], Sequence[Scorer]],
    answers: Sequence[Answer],
    asked: Asking,
    ledger: Ledger,
    concurrency: int,
) -> int:
    """Score all answers by these, suite by suite; how many scores failed."""
    failed = 0
    for suite in dict.fromkeys(place.suite for place, _, _ in answers):
        mine = [answer for answer in answers if answer[0].suite == suite]
        failed += (await rescore(mine, asked, partial(scorers, suite), ledger, concurrency=concurrency))[1]
    return failed
