"""`assay watch`: evaluate checkpoints as training writes them."""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from assay.checkpoints.naming import FAMILIES, Family
from assay.cli import INTERRUPTED, termination
from assay.cli.json_log import JsonLog
from assay.cli.judging import Judging, close_judge, judge_maker
from assay.cli.progress import Reporter
from assay.cli.settings import Config, ConfigFile, Json, Workspace, check_run, settings
from assay.cli.streams import say, say_as
from assay.cli.suites import DataFlags, load, named
from assay.config import ModelConfig
from assay.errors import ConfigError
from assay.hosts.open import open_host
from assay.job import Job, JudgeSpec, check_job
from assay.models.base import TextModel
from assay.models.open import open_model, resolve
from assay.models.worker import WorkerModel
from assay.plan import Order, PlanConfig
from assay.results.index import Ledger
from assay.results.journal import Journal, hold, read, segments
from assay.results.records import Run
from assay.sinks.base import Sink
from assay.sinks.forwarding import Forwarding
from assay.sinks.open import open_sinks
from assay.suites.suite import Suite
from assay.watch import watch as run_watch

Flag = Parameter(negative="", show_default=False)


def watch(
    folder: str,
    /,
    *,
    base: str | None = None,
    suite: Annotated[list[str] | None, Parameter(negative="", consume_multiple=False)] = None,
    judge: Judging = None,
    votes: Annotated[int | None, Parameter(show_default=False)] = None,
    once: Annotated[bool, Flag] = False,
    run: str | None = None,
    limit: int | None = None,
    every: int | None = None,
    poll: float | None = None,
    order: Order | None = None,
    filter: Annotated[list[str] | None, Parameter(negative="", consume_multiple=False)] = None,  # noqa: A002
    force: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    sink: Annotated[list[str] | None, Parameter(negative="", consume_multiple=False)] = None,
    log_json: Annotated[bool, Flag] = False,
    data: DataFlags = None,
    json: Json = False,
    workspace: Workspace = None,
    config: ConfigFile = None,
) -> int:
    """Evaluate a folder's checkpoints as training writes them, and show what each gained and broke.

    Every answer is kept as it comes: interrupt it, kill it, run it again, and it goes on where it was.

    Parameters
    ----------
    folder
        Where the trainer writes its checkpoints, here or at ssh://[USER@]HOST[:PORT]/PATH.
    base
        The base model: a folder, a .gguf file, ENGINE:PATH, or a vLLM server's URL with #MODEL [as the checkpoints'
        adapter_config.json says].
    suite
        capability, content, a suite file, data as a trainer takes it (.jsonl), perplexity:DATA for its loss,
        lm-eval:TASK; commas for more.
    votes
        Verdicts asked of the judge for each answer; their median counts [1].
    once
        Evaluate what is there and end, instead of waiting for more.
    run
        The run's name [from the folder].
    limit
        Ask only so many samples of each suite, spread over its groups.
    every
        Only checkpoints at multiples of so many iterations.
    poll
        Seconds between two looks at the folder [10].
    order
        Which checkpoints come first [oldest].
    filter
        Only checkpoints whose label, run or path fits a shell pattern, such as '*@100'; give it again for more.
    force
        Evaluate again what is done or was set aside.
    dry_run
        Show what would be done, and do nothing.
    sink
        Forward results to a name from assay.toml, duckdb, duckdb:FILE, influx, or influx:URL#DATABASE; give it again for more.
    log_json
        Tell what happens as JSON lines, for a service's log.
    """
    from assay.cli.show import next_steps, show

    log = JsonLog() if log_json else Reporter()
    if isinstance(log, JsonLog):
        say_as(log.said)
    found = settings(config, workspace)
    by = _judge(found, judge, votes)
    job = _job(found, folder, base, suite or [], data, by, once, run, limit, every, poll, order, filter or [], force)
    if dry_run:
        from assay.cli.planned import show_plan

        return show_plan(job, found.workspace, as_json=json)
    sinks = open_sinks(sink or found.watch.sinks, found)
    code, runs = asyncio.run(_watch(job, sinks, log))
    if code == INTERRUPTED and not runs:
        return code
    if runs:
        show(found.workspace, runs=runs, as_json=json)
    if not json and runs:
        next_steps(found.workspace, runs[-1], job.suites)
    return code


def _begun(journal: Journal) -> list[str]:
    """The runs that this process has begun: an interrupt may come while the engine still loads."""
    records = read(journal.workspace) if journal.segment is not None else ()
    return list(dict.fromkeys(r.run for at, r in records if at.segment == journal.segment and isinstance(r, Run)))


def _job(
    found: Config,
    folder: str,
    base: str | None,
    suites: list[str],
    data: DataFlags,
    judge: JudgeSpec | None,
    once: bool,
    run: str | None,
    limit: int | None,
    every: int | None,
    poll: float | None,
    order: Order | None,
    filters: list[str],
    force: bool,
) -> Job:
    chosen = found.watch.base if base is None else base
    sources = named(suites) or list(found.watch.suites)
    limit = found.watch.limit if limit is None else limit
    every = found.watch.every if every is None else every
    seconds = found.watch.poll_seconds if poll is None else poll
    for flag, value in (("--limit", limit), ("--every", every)):
        if value is not None and value < 1:
            raise ConfigError(f"{flag} {value}: give a whole number of at least 1")
    if not 0 < seconds < 1e6:
        raise ConfigError(f"--poll {seconds:g}: give a number of seconds from above 0 to a million")
    if run is not None:
        check_run(run)
    host, place = open_host(folder)
    model = found.model(chosen) if chosen else ModelConfig("", found.engine, found.http)
    return Job(
        folder=place,
        base=model.spec or None,
        suites=_loaded(sources, data),
        run=run,
        workspace=found.workspace,
        once=once,
        every=every,
        limit=limit,
        poll_seconds=seconds,
        settings=model.settings,
        http=model.http,
        models={each.spec: each for each in (*found.models.values(), model)},
        host=host,
        plan=PlanConfig(
            order=order or "oldest",
            filters=tuple(filters),
            force=force,
            attempts=found.watch.attempts,
            backoff_seconds=found.watch.backoff_seconds,
        ),
        bases=found.bases,
        families=(*(Family(f.prefix, f.tag, f.short, f.pattern) for f in found.families), *FAMILIES),
        fetch_bytes=found.watch.fetch_bytes,
        judge=judge,
    )


def _loaded(sources: Sequence[str], data: DataFlags) -> tuple[Suite, ...]:
    if not sources:
        raise ConfigError("no suite: name one with --suite, or in assay.toml under [watch]")
    loaded = tuple(load(source, data) for source in sources)
    names = [suite.name for suite in loaded]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two of the suites are called {name!r}; give each its own name")
    return loaded


def _judge(found: Config, name: str | None, votes: int | None) -> JudgeSpec | None:
    name = found.watch.judge if name is None else name
    votes = found.watch.votes if votes is None else votes
    judge_maker(None, votes)
    if name is None:
        return None
    named = found.model(name)
    resolved = resolve(named.spec)

    async def opened() -> TextModel:
        # An engine that dies takes its own process along, and not the watch.
        if not resolved.remote:
            return await WorkerModel.open(resolved.spec, named.settings)
        return await open_model(named.spec, named.settings, http=named.http)

    return JudgeSpec(named.spec if resolved.remote else resolved.spec, opened, close_judge, votes)


async def _watch(job: Job, sinks: Sequence[Sink], log: Reporter | JsonLog) -> tuple[int, list[str]]:
    """The exit code, and the runs that were begun.

    Ctrl-C and SIGTERM end the watch cleanly: what was earned is in the journal already.
    """
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    if termination.came():  # before the loop heard it
        task.cancel()
    try:
        if not segments(job.workspace):
            await check_job(
                job
            )  # before anything is created; where there is a journal, the watch does it, which knows it
        with hold(job.workspace):
            return await _held(job, sinks, log)
    except asyncio.CancelledError:
        say("stopped; the same command goes on from here")
        return INTERRUPTED, []
    finally:
        await job.host.aclose()


async def _held(job: Job, sinks: Sequence[Sink], log: Reporter | JsonLog) -> tuple[int, list[str]]:
    ledger = Ledger(job.workspace)
    try:
        with log as reporter:
            if ledger.damage.lines:
                reporter.note(f"{ledger.damage.lines} damaged lines in the journal were skipped (a crash leaves one)")
            async with Forwarding(job.workspace, sinks, reporter.note) as forwarding:
                outcome = await run_watch(job, ledger, reporter)
            behind = forwarding.behind
    except asyncio.CancelledError:
        say("stopped; the same command goes on from here")
        return INTERRUPTED, _begun(ledger.journal)
    finally:
        ledger.close()
    if outcome.judge_gone is not None:
        say(
            f"{outcome.unjudged} answers are not judged yet ({outcome.judge_gone}); the same command judges them, and asks "
            "nothing else again"
        )
    if outcome.misfit:
        say("none of the checkpoints is an adapter of this base; name the model that they were trained on with --base")
    for name, why in behind.items():
        from assay.cli.show import workspace_flag

        again = f"assay ship --sink {shlex.quote(name)}{workspace_flag(job.workspace)}"
        say(f"the sink {name} lacks results ({why}); send them with: {again}")
    return (3 if behind else outcome.exit_code), outcome.runs
