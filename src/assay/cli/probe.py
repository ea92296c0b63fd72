"""`assay probe`: the capability and content probes, or any suite, on any model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

from cyclopts import Parameter

from assay import __version__
from assay.adapters.files import read_adapter
from assay.cli.judging import check_limit, check_run, judges_of, open_judge, resumable
from assay.cli.progress import Reporter
from assay.cli.settings import Config, ConfigFile, Json, Workspace, settings
from assay.cli.show import next_steps, show
from assay.errors import BadInput, NotReady
from assay.evaluation import Subject, evaluate, use_of
from assay.models.base import AdapterModel, TextModel
from assay.models.open import open_model, resolve
from assay.plugins import nearest
from assay.proof import baseline
from assay.results.index import Ledger
from assay.results.records import Run
from assay.scorers.base import Scorer
from assay.suites.suite import Suite, load_suite
from assay.trial import Evaluations, InProcess, Trial
from assay.types import Sample


def probe(
    model: str,
    /,
    *,
    adapter: Path | None = None,
    suite: Annotated[list[str] | None, Parameter(negative="")] = None,
    category: Annotated[list[str] | None, Parameter(negative="")] = None,
    seed: int | None = None,
    judge: str | None = None,
    votes: int = 1,
    limit: int | None = None,
    run: str | None = None,
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
        A folder with adapters.safetensors and adapter_config.json, shown beside the bare model.
    suite
        The probes: capability, content, or a suite file [capability].
    category
        Only these groups.
    seed
        Ask the capability probes with other numbers, drawn with this seed.
    judge
        A model that judges the content probes.
    votes
        Verdicts asked of the judge for each answer.
    limit
        Ask only so many samples of each suite, spread over its groups.
    run
        The run's name [from the model].
    json
        Print the table's rows as JSON.
    workspace
        The folder for the results [assay-results].
    config
        The assay.toml to use.
    """
    found = settings(config, workspace)
    check_limit(limit)
    suites = _only([_load(name, seed) for name in suite or ["capability"]], category or [])
    spec = found.model(model).spec
    called = run or _run_name(spec)
    check_run(called)
    with resumable(found.workspace):
        code = asyncio.run(_probe(found, model, adapter, suites, called, judge, votes, limit))
    show(found.workspace, run=called, as_json=json)
    if not json:
        next_steps(found.workspace, called)
    return code


def _load(name: str, seed: int | None) -> Suite:
    if seed is None:
        return load_suite(name)
    from assay.suites.variants import variants

    return variants(name, seed)


def _only(suites: Sequence[Suite], groups: Sequence[str]) -> tuple[Suite, ...]:
    """The suites' samples of these groups, all if there are none; suites without any are left out."""
    names = [suite.name for suite in suites]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two of the suites are called {name!r}; give each its own name")
    known = list(dict.fromkeys(group for suite in suites for group in suite.groups))
    for group in groups:
        if group not in known:
            raise BadInput(f"there is no category {group!r} in {', '.join(names)}; {nearest(group, known)}")
    return tuple(_of_groups(suite, groups) for suite in suites if not groups or set(groups) & set(suite.groups))


def _of_groups(suite: Suite, groups: Sequence[str]) -> Suite:
    if not groups:
        return suite
    samples = tuple(s for s in suite.samples if s.group in groups)
    return replace(suite, samples=samples, scorers={s.id: suite.scorers[s.id] for s in samples})


def _run_name(spec: str) -> str:
    """The model's own name: of a URL what stands behind the #, of a file its name without the ending."""
    found = resolve(spec)
    path = Path(found.path)
    if found.remote:
        return found.path.partition("#")[2] or found.path
    return path.stem if path.is_file() else path.resolve().name


async def _probe(
    found: Config,
    model: str,
    adapter: Path | None,
    suites: Sequence[Suite],
    run: str,
    judge: str | None,
    votes: int,
    limit: int | None,
) -> int:
    judging = await open_judge(judge, found)
    try:
        named = found.model(model)
        base = await open_model(named.spec, named.settings)
        try:
            done = await _ask(found, base, adapter, suites, run, judges_of(judging, votes), limit)
        finally:
            await base.aclose()
    finally:
        if judging is not None:
            await judging.aclose()
    return 0 if done else 1


async def _ask(
    found: Config,
    base: TextModel,
    adapter: Path | None,
    suites: Sequence[Suite],
    run: str,
    also: Callable[[Sample], Sequence[Scorer]] | None,
    limit: int | None,
) -> bool:
    """Ask the base, then the adapter. Whether every sample was scored and the adapter shown to be live."""
    attached = await _attached(base, adapter, run) if adapter is not None else None
    ledger = Ledger(found.workspace)
    try:
        with Reporter() as reporter:
            ledger.append(_run_record(base, run, suites))
            asked = sum(min(limit or len(s.samples), len(s.samples)) for s in suites)
            reporter.expect(asked * (1 if attached is None else 2))
            task = _Task(suites, ledger, reporter, also, limit)
            done = await task.ask(Subject(run), base)
            reporter.settled(asked)
            live = True
            if attached is not None:
                subject, model = attached

                async def ask(batch: Callable[[], str]) -> Evaluations:
                    return await task.ask(subject, model, batch)

                trial = Trial(ledger, subject, model, await baseline(base), {}, InProcess())
                verdict, evaluations = await trial.run(ask, reporter.note)
                done = [*done, *evaluations]
                live = verdict.verdict == "live"
                if not live:
                    reporter.note(f"{subject.checkpoint} is unproven: {verdict.reason}")
    finally:
        ledger.close()
    return live and not any(evaluation.failed for _, evaluation in done)


class _Task(NamedTuple):
    """What every model is asked."""

    suites: Sequence[Suite]
    ledger: Ledger
    reporter: Reporter
    also: Callable[[Sample], Sequence[Scorer]] | None
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
                also=self.also,
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


async def _attached(base: TextModel, folder: Path, run: str) -> tuple[Subject, TextModel]:
    if not isinstance(base, AdapterModel):
        raise BadInput(f"the model {base.info.name} takes no adapters; serve it with the adapter in place")
    try:
        found = read_adapter(folder / "adapters.safetensors", folder / "adapter_config.json")
    except NotReady as error:
        raise BadInput(str(error)) from error
    return Subject(run, f"{run} + {folder.name}", 1, found.digest), await base.attach(found)
