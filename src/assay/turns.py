"""A window of checkpoints on an open base: which of them fit it, and each one's turn to be proved and asked the suites."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from assay.account import Account
from assay.adapters.files import check_against
from assay.errors import CheckpointError, EngineDied, EngineKilled, GenerationError
from assay.evaluated import Evaluation
from assay.evaluation import Subject, evaluate, first_of
from assay.job import Job
from assay.models.base import TextModel
from assay.opened import OpenBase
from assay.proof import Fingerprint
from assay.results.index import Ledger
from assay.suites.suite import Suite
from assay.trial import Trial, again_if_dead
from assay.types import Adapter, Checkpoint

# Checkpoints loaded by the engine at once: so many, and so many bytes unless one is larger.
WINDOW = 16
_WINDOW_BYTES = 1 << 30


class Turns:
    """Has checkpoints evaluated, window by window. dealt: the run and digest of each that had its turn in this watch."""

    def __init__(self, job: Job, ledger: Ledger, account: Account) -> None:
        self._job = job
        self._ledger = ledger
        self._account = account
        self._forced = job.plan.force
        self.dealt: set[tuple[str, str]] = set()

    async def base(self, base: OpenBase, run: str) -> None:
        """The base's own answers to what it hasn't answered for this run."""
        subject = Subject(run)
        suites = self._account.open_suites(run, "", base.identity)
        self._account.finish(base, subject, await self._suites(base.model, subject, str, suites), "")
        self._account.observer.settled(self._job.samples(suites))

    async def window(self, base: OpenBase, window: Sequence[tuple[Checkpoint, Adapter]]) -> None:
        """Each checkpoint's turn; what one can't do is its fault alone, and no error."""
        fitting: list[tuple[Checkpoint, Adapter]] = []
        for checkpoint, adapter in window:
            self.dealt.add((checkpoint.run, adapter.digest))
            try:
                if base.shapes:
                    check_against(adapter, base.shapes)
                fitting.append((checkpoint, adapter))
            except CheckpointError as error:
                self._account.fail(checkpoint, adapter, error, final=True, identity=base.identity)
        with contextlib.suppress(CheckpointError, GenerationError):
            # One may not fit or kill the engine: one by one finds out which.
            await base.model.expect(list({a.digest: a for _, a in fitting}.values()))
        await self._each(base, fitting)
        for checkpoint, adapter in window:
            self._account.settle(checkpoint.run, adapter.digest)

    async def _each(self, base: OpenBase, fitting: Sequence[tuple[Checkpoint, Adapter]]) -> None:
        """One after the other, or several at once where the base can."""
        waiting = iter(fitting)

        async def work() -> None:
            for checkpoint, adapter in waiting:
                self._account.seen(checkpoint, adapter.digest)
                await self._checkpoint(base, checkpoint, adapter)

        # Equal weights are asked once, and of two files with one label the later one has it: their order counts.
        distinct = {a.digest for _, a in fitting}, {(c.run, c.label) for c, _ in fitting}
        apart = all(len(each) == len(fitting) for each in distinct)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(base.at_once(self._job.samples()) if apart else 1):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            raise first_of(errors) from None

    async def _checkpoint(self, base: OpenBase, checkpoint: Checkpoint, adapter: Adapter) -> None:
        try:
            attached = await again_if_dead(lambda: base.model.attach(adapter))
            try:
                failed = await self._prove_and_evaluate(base, checkpoint, adapter, attached)
            finally:
                await attached.aclose()
        except (CheckpointError, GenerationError) as error:
            killed = isinstance(error, EngineDied | EngineKilled)
            final = killed or isinstance(error, CheckpointError)
            self._account.fail(checkpoint, adapter, error, final=final, identity=base.identity)
            return
        self._account.evaluated(checkpoint)
        if failed:
            self._account.attempt(
                checkpoint,
                adapter.digest,
                base.identity,
                "samples",
                f"{failed} sample{'s' if failed > 1 else ''} failed",
            )

    async def _prove_and_evaluate(
        self, base: OpenBase, checkpoint: Checkpoint, adapter: Adapter, attached: TextModel
    ) -> int:
        """How many samples failed."""
        subject = Subject(checkpoint.run, checkpoint.label, checkpoint.iteration, adapter.digest)
        forced = self._forced
        suites = list(self._job.suites)
        if not forced:
            suites = self._account.open_suites(checkpoint.run, adapter.digest, base.identity)
        known = base.prints.get(adapter.digest)

        def others() -> dict[str, Fingerprint]:
            return self._others(base, checkpoint.run, adapter)

        def claim(print_: Fingerprint) -> None:
            base.prints[adapter.digest] = print_

        trial = Trial(self._ledger, subject, attached, await base.baseline(), others, base.model, claim)
        verdict, evaluations = await trial.run(
            lambda batch: self._suites(attached, subject, batch, suites, fresh=forced, guarded=True),
            self._account.observer.note,
        )
        if verdict.verdict != "live":
            base.prints.pop(adapter.digest, None)
            if known is not None:
                base.prints[adapter.digest] = known
        self._account.proved(checkpoint, adapter.digest, verdict)
        self._account.finish(base, subject, evaluations, "live" if verdict.verdict == "live" else "unproven")
        return sum(evaluation.failed for _, evaluation in evaluations)

    def _others(self, base: OpenBase, run: str, adapter: Adapter) -> dict[str, Fingerprint]:
        others = {digest: prints for digest, prints in base.prints.items() if digest != adapter.digest}
        called = {digest: self._ledger.labels.of(run, digest) for digest in others}
        return {label.name if (label := called[d]) else f"adapter {d[:12]}": p for d, p in others.items()}

    async def _suites(
        self,
        model: TextModel,
        subject: Subject,
        batch: Callable[[], str],
        suites: Sequence[Suite],
        fresh: bool = False,
        guarded: bool = False,
    ) -> list[tuple[Suite, Evaluation]]:
        done: list[tuple[Suite, Evaluation]] = []
        for suite in suites:
            self._account.observer.subject(subject.checkpoint, suite.name)
            evaluation = await evaluate(
                model,
                suite,
                ledger=self._ledger,
                subject=subject,
                batch=batch,
                limit=self._job.limit,
                fresh=fresh,
                guarded=guarded,
                on_result=self._account.observer.answered,
            )
            done.append((suite, evaluation))
        return done


def next_window(here: Sequence[tuple[Checkpoint, Adapter]]) -> list[tuple[Checkpoint, Adapter]]:
    """As many, from the first, as the engine loads at once."""
    window: list[tuple[Checkpoint, Adapter]] = []
    size = 0
    for checkpoint, adapter in here:
        size += checkpoint.size
        if window and (len(window) == WINDOW or size > _WINDOW_BYTES):
            break
        window.append((checkpoint, adapter))
    return window
