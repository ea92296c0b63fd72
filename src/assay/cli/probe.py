"""`assay probe`: the capability and content probes, or any suite, on any model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

from cyclopts import Parameter

from assay import __version__
from assay.adapters.named import adapter_at
from assay.checkpoints.layouts import place_of_file
from assay.checkpoints.naming import run_name
from assay.cli.attaching import attach
from assay.cli.http import HttpFlags, with_flags
from assay.cli.judging import Votes, close_judge, judges_of, open_judge
from assay.cli.probe_run import run_of
from assay.cli.progress import Reporter
from assay.cli.settings import Config, ConfigFile, Json, Workspace, check_limit, check_run, settings
from assay.cli.show import next_steps, show
from assay.cli.stopping import resumable
from assay.cli.stopping import run as run_work
from assay.cli.suites import DataFlags, load, named
from assay.errors import BadInput, ConfigError
from assay.evaluation import Subject, evaluate, use_of
from assay.models.base import TextModel
from assay.models.open import open_model, resolve
from assay.plugins import nearest
from assay.proof import baseline
from assay.results.index import Ledger
from assay.results.records import Run
from assay.scorers.base import Scorer, check_suite
from assay.suites.own_data import is_training_data
from assay.suites.suite import Suite
from assay.trial import Evaluations, Trial, worker_of
from assay.types import Adapter, Sample

_PROBES = ("capability", "content")


def probe(
    model: str,
    /,
    *,
    adapter: Path | None = None,
    suite: Annotated[list[str] | None, Parameter(negative="")] = None,
    category: Annotated[list[str] | None, Parameter(negative="")] = None,
    seed: int | None = None,
    judge: str | None = None,
    votes: Votes = 1,
    http: HttpFlags = None,
    limit: int | None = None,
    run: str | None = None,
    data: DataFlags = None,
    json: Json = False,
    workspace: Workspace = None,
    config: ConfigFile = None,
) -> int:
    """Ask a model the capability and content probes, and show what it got right.

    Parameters
    ----------
    model
        A folder, a .gguf file, ENGINE:PATH, or a URL with #MODEL.
    adapter
        An adapter's folder, or its .safetensors or .gguf file, shown beside the bare model.
    suite
        The probes: capability, content, a suite file, data as a trainer takes it (.jsonl), perplexity:DATA for its loss,
        lm-eval:TASK; commas for more [capability,content].
    category
        Only these groups; commas or the flag again for more.
    seed
        Ask the capability probes with other numbers, drawn with this seed.
    judge
        A model that judges the content probes, and the answers to suites that name rubrics.
    limit
        Ask only so many samples of each suite, spread over its groups.
    run
        The run's name [from the model].
    """
    found = with_flags(settings(config, workspace), http, model, judge)
    check_limit(limit)
    names = named(suite or []) or list(_PROBES)
    suites = _only(
        [_load(name, data, None if _asked_as_it_is(name, names) else seed) for name in names], category or []
    )
    for each in suites:
        if judge is None and each.needs_judge:
            raise BadInput(f"{each.path or each.name}: only a judge can score its answers; name one with --judge")
    spec = found.model(model).spec
    check_run(resolve(spec).name if run is None else run)
    tuned = None if adapter is None else (_label(PurePosixPath(adapter.absolute())), adapter_at(adapter))
    with resumable(found.workspace):
        called, done = run_work(_probe(found, model, tuned, suites, run, judge, votes, limit))
    show(found.workspace, run=called, suites=[each.name for each in suites], as_json=json)
    if not json:
        next_steps(found.workspace, called, suites)
    return 0 if done else 1


def _asked_as_it_is(name: str, names: Sequence[str]) -> bool:
    """Is it of the probes the suite that nothing can be drawn in, beside the one that a seed is for?"""
    return name == "content" and "capability" in names


def _load(name: str, data: DataFlags, seed: int | None) -> Suite:
    if seed is not None and is_training_data(name):
        raise ConfigError(f"--seed draws the capability probes anew; {name} is your own data, which is asked as it is")
    suite = load(name, data)
    check_suite(suite)
    if seed is None:
        return suite
    from assay.suites.variants import variants

    return variants(name, seed)


def _only(suites: Sequence[Suite], groups: Sequence[str]) -> tuple[Suite, ...]:
    """The suites' samples of these groups, all if there are none; suites without any are left out."""
    names = [suite.name for suite in suites]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two of the suites are called {name!r}; give each its own name")
    known = list(dict.fromkeys(group for suite in suites for group in suite.groups))
    groups = [group for given in groups for group in ([given] if given in known else named([given]))]
    for group in groups:
        if group not in known:
            raise BadInput(f"there is no category {group!r} in {', '.join(names)}; {nearest(group, known)}")
    return tuple(_of_groups(suite, groups) for suite in suites if not groups or set(groups) & set(suite.groups))


def _of_groups(suite: Suite, groups: Sequence[str]) -> Suite:
    if not groups:
        return suite
    samples = tuple(s for s in suite.samples if s.group in groups)
    return replace(suite, samples=samples, scorers={s.id: suite.scorers[s.id] for s in samples})


def _label(adapter: PurePosixPath) -> str:
    folder, number = place_of_file(adapter)
    return f"{run_name(folder)} @{int(number)}" if number else run_name(folder)


async def _probe(
    found: Config,
    model: str,
    tuned: tuple[str, Adapter] | None,
    suites: Sequence[Suite],
    run: str | None,
    judge: str | None,
    votes: int,
    limit: int | None,
) -> tuple[str, bool]:
    judging = await open_judge(judge, found)
    try:
        named = found.model(model)
        base = await open_model(named.spec, named.settings, http=named.http, adapters=named.adapters)
        try:
            return await _ask(found, base, tuned, suites, run, judges_of(judging, votes), limit)
        finally:
            await base.aclose()
    finally:
        await close_judge(judging)


async def _ask(
    found: Config,
    base: TextModel,
    tuned: tuple[str, Adapter] | None,
    suites: Sequence[Suite],
    named: str | None,
    also: Callable[[Suite, Sample], Sequence[Scorer]],
    limit: int | None,
) -> tuple[str, bool]:
    """Ask the base, then the adapter. The run, and whether every sample was scored and the adapter shown to be live."""
    attached = await attach(base, tuned[1]) if tuned is not None else None
    ledger = Ledger(found.workspace)
    try:
        with Reporter() as reporter:
            run = run_of(base.info, ledger, named, reporter.note)
            ledger.append(_run_record(base, run, suites))
            asked = sum(min(limit or len(s.samples), len(s.samples)) for s in suites)
            reporter.expect(asked * (1 if attached is None else 2))
            task = _Task(suites, ledger, reporter, also, limit)
            done = await task.ask(Subject(run), base)
            reporter.settled(asked)
            live = True
            if tuned is not None and attached is not None:
                name, adapter = tuned
                subject, model = Subject(run, f"{run} + {name}", 1, adapter.digest), attached

                async def ask(batch: Callable[[], str]) -> Evaluations:
                    return await task.ask(subject, model, batch)

                trial = Trial(ledger, subject, model, await baseline(base), dict, worker_of(base))
                verdict, evaluations = await trial.run(ask, reporter.note)
                done = [*done, *evaluations]
                live = verdict.verdict == "live"
                if not live:
                    reporter.note(f"{subject.checkpoint} is unproven: {verdict.reason}")
    finally:
        ledger.close()
    return run, live and not any(evaluation.failed for _, evaluation in done)


class _Task(NamedTuple):
    """What every model is asked."""

    suites: Sequence[Suite]
    ledger: Ledger
    reporter: Reporter
    also: Callable[[Suite, Sample], Sequence[Scorer]]
    limit: int | None

    async def ask(self, subject: Subject, model: TextModel, batch: Callable[[], str] = str) -> Evaluations:
        parts: Evaluations = []
        for suite in self.suites:
            self.reporter.subject(subject.checkpoint, suite.name)
            evaluation = await evaluate(
                model,
                suite,
                ledger=self.ledger,
                subject=subject,
                batch=batch,
                limit=self.limit,
                also=partial(self.also, suite),
                on_result=self.reporter.answered,
            )
            parts.append((suite, evaluation))
        return parts


def _run_record(base: TextModel, run: str, suites: Sequence[Suite]) -> Run:
    info = base.info
    return Run(
        run=run,
        base=info.name,
        engine=info.engine,
        engine_version=info.engine_version,
        identity=info.identity,
        declared=info.declared,
        suites=tuple(use_of(s) for s in suites),
        assay_version=__version__,
    )
