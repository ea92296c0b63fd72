"""A suite, asked of a model: what `assay probe` does, for programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from assay import evaluation
from assay.adapters.fit import in_full
from assay.adapters.named import adapter_at
from assay.errors import BadInput, CheckpointError
from assay.evaluated import Evaluation, SampleResult
from assay.evaluation import Subject
from assay.models.base import AdapterModel, TextModel
from assay.models.open import opened
from assay.models.sync import plain
from assay.proof import baseline
from assay.results.index import Ledger
from assay.scorers.base import Scorer
from assay.scratch import Scratch
from assay.suites.lm_eval_tasks import is_task, suite_from_task
from assay.suites.own_data import is_training_data, suite_from_data
from assay.suites.suite import Suite, load_suite
from assay.trial import Evaluations, Trial, worker_of
from assay.types import Adapter, Sample


async def evaluate(
    model: TextModel | str,
    suite: Suite | str | Path,
    *,
    adapter: Adapter | str | Path | None = None,
    ledger: Ledger | None = None,
    subject: Subject | None = None,
    limit: int | None = None,
    also: Callable[[Sample], Sequence[Scorer]] | None = None,
    on_result: Callable[[SampleResult], None] | None = None,
) -> Evaluation:
    """Ask the model every sample of the suite (or a `limit` of them, spread over its groups) and score the answers.

    model: open, or its spec ("mlx:PATH", "llama:PATH.gguf", "http://HOST/v1#MODEL", a path); one that is opened here is
    closed here. suite: a `Suite`, the path of a suite's file or of training data, `lm-eval:TASK`, or the name of a built-in
    suite. adapter: a folder that mlx-lm or PEFT wrote, the weights of one checkpoint, also as a GGUF file, or what
    `read_adapter` gave; it is attached for this, and shown to be live by canaries before and after, as the result's `proof`
    says. With a `ledger`, answers and scores it holds are reused and new ones written to it, under `subject`. also: scorers
    besides the suite's own, such as judges. on_result: told of each result as it comes.

    At most `model.info.concurrency` samples are in flight. A sample that the model fails at is that sample's failure.
    Raises `BadInput` for a model, suite or adapter that can't be had, `UnsupportedOption` and `SuiteError` before anything
    is asked, and `Unreachable` for a server that is gone.
    """
    loaded = _suite(suite)
    tuned = adapter_at(Path(adapter)) if isinstance(adapter, str | Path) else adapter
    async with opened(model) as base:

        async def ask(asked: TextModel, kept: Ledger | None, batch: Callable[[], str] = str) -> Evaluation:
            return await evaluation.evaluate(
                asked,
                loaded,
                ledger=kept,
                subject=subject,
                batch=batch,
                limit=limit,
                also=also,
                on_result=on_result,
            )

        if tuned is None:
            return await ask(base, ledger)
        subject = subject or Subject(checkpoint=tuned.digest[:8], digest=tuned.digest)
        before = await baseline(base)
        async with _attached(base, tuned) as attached, _kept(ledger) as kept:

            async def proven(batch: Callable[[], str]) -> Evaluations:
                return [(loaded, await ask(attached, kept, batch))]

            trial = Trial(kept, subject, attached, before, dict, worker_of(base))
            verdict, [(_, found)] = await trial.run(proven, lambda note: None)
            return replace(found, proof=verdict.verdict, reason=verdict.reason)


evaluate_sync = plain(evaluate)


def _suite(suite: Suite | str | Path) -> Suite:
    if isinstance(suite, Suite):
        return suite
    if isinstance(suite, str) and is_task(suite):
        return suite_from_task(suite)
    return suite_from_data(suite) if is_training_data(suite) else load_suite(suite)


@asynccontextmanager
async def _attached(base: TextModel, adapter: Adapter) -> AsyncIterator[TextModel]:
    """The base with the adapter, which is detached at the end."""
    if not isinstance(base, AdapterModel):
        raise BadInput(f"the model {base.info.name} takes no adapters; serve it with the adapter in place")
    try:
        attached = await base.attach(adapter)
    except CheckpointError as error:
        raise BadInput(in_full(error)) from error
    try:
        yield attached
    finally:
        await attached.aclose()


@asynccontextmanager
async def _kept(ledger: Ledger | None) -> AsyncIterator[Ledger]:
    """The ledger; where there is none, one that is thrown away, for a trial keeps count of its batches in it."""
    if ledger is not None:
        yield ledger
        return
    with Scratch("evaluate") as folder:
        own = Ledger(folder)
        try:
            yield own
        finally:
            own.close()
