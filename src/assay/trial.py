"""One adapter's turn: fingerprint, suites, fingerprint again, and the verdict on every answer given in between.

Answers are journaled at once, under the name of their batch: one attachment in one life of the engine's process. A batch that
ends without a second fingerprint (the process was killed, the engine died) is vouched for by a witness: its last answer is
asked for again, and only if it comes out the same, in text and probability, do the batch's answers count. The witness itself
is no answer and is not journaled as one. Where the engine reports no probabilities, a lost adapter whose last answer has the
same text as with it escapes the witness.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from assay.errors import EngineDied
from assay.evaluated import Evaluation, SampleResult
from assay.evaluation import Subject
from assay.models.base import TextModel, complete, logprob_model
from assay.proof import Baseline, Fingerprint, Verdict, fingerprint, judge
from assay.results.index import Ledger
from assay.results.records import Proof
from assay.suites.suite import Suite
from assay.types import GenerateOptions

T = TypeVar("T")

# How often a batch that doesn't hold is asked anew before its answers are kept as unproven.
_ATTEMPTS = 3

Evaluations = list[tuple[Suite, Evaluation]]


async def again_if_dead(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask once more if the engine's process died under it; a second death is the caller's."""
    try:
        return await ask()
    except EngineDied:
        return await ask()


@runtime_checkable
class Worker(Protocol):
    """What a trial needs of the engine's process or its server: how often it was replaced, and a way to replace it."""

    @property
    def restarts(self) -> int: ...

    async def restart(self) -> None: ...


class InProcess:
    """A `Worker` for an engine in this very process: there is nothing to replace."""

    restarts = 0

    async def restart(self) -> None: ...


def worker_of(base: TextModel) -> Worker:
    """What runs this base."""
    return base if isinstance(base, Worker) else InProcess()


class Trial:
    """Proves one attached adapter around the evaluation of its suites.

    others: label → fingerprint of the adapters shown to be live on this base by then. claim: is given this one's as soon as it
    is judged to be live, before another can be. `before` is the first fingerprint of the last attempt.
    """

    def __init__(
        self,
        ledger: Ledger,
        subject: Subject,
        attached: TextModel,
        base: Baseline,
        others: Callable[[], Mapping[str, Fingerprint]],
        worker: Worker,
        claim: Callable[[Fingerprint], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._subject = subject
        self._attached = attached
        self._base = base
        self._others = others
        self._worker = worker
        self._claim = claim
        self.before: Fingerprint = ()

    async def run(
        self, ask: Callable[[Callable[[], str]], Awaitable[Evaluations]], note: Callable[[str], None]
    ) -> tuple[Verdict, Evaluations]:
        """Run `ask` (given what names the present batch) between two fingerprints until its answers hold."""
        for attempt in range(1, _ATTEMPTS + 1):
            attachment = secrets.token_hex(6)
            named: set[str] = set()  # also those in which nothing was answered: a failure has a batch as well

            def batch(attachment: str = attachment, named: set[str] = named) -> str:
                name = f"{attachment}.{self._worker.restarts}"
                named.add(name)
                return name

            self.before = await again_if_dead(lambda: fingerprint(self._attached, logprobs=self._base.logprobs))
            self._journal(batch(), Verdict("open"))
            evaluations = await ask(batch)
            after = await again_if_dead(lambda: fingerprint(self._attached, logprobs=self._base.logprobs))
            verdict = judge(self._base, self.before, after, self._others())
            if verdict.verdict == "live":
                self._claim(self.before)
            results = [r for _, evaluation in evaluations for r in evaluation.results]
            unvouched = self._unvouched(results)
            void = await self._void(verdict, unvouched, named, batch())
            if void and attempt == _ATTEMPTS:
                verdict, void = Verdict("unproven", verdict.reason or "answers did not repeat"), set()
            self._close(verdict, void, {*named, *unvouched})
            if not void:
                return verdict, evaluations
            note(f"{self._subject.checkpoint}: {verdict.reason or 'an interrupted batch did not hold'}; asking again")
            if verdict.verdict == "void":
                await self._worker.restart()
        raise AssertionError("the last attempt returns")

    def _unvouched(self, results: Sequence[SampleResult]) -> dict[str, SampleResult]:
        """Each batch that has no second fingerprint yet, with its last answer."""
        answered = [(r.batch, r) for r in results if r.batch is not None]
        return {batch: result for batch, result in answered if self._ledger.is_unvouched(batch)}

    async def _void(
        self, verdict: Verdict, unvouched: Mapping[str, SampleResult], named: set[str], current: str
    ) -> set[str]:
        """The batches whose answers must not count."""
        if verdict.verdict == "void":
            return set(named)
        if verdict.verdict != "live":
            return set()
        return {batch for batch, last in unvouched.items() if batch != current and not await self._repeats(last)}

    async def _repeats(self, result: SampleResult) -> bool:
        if result.weighed:
            last = result.weighed[0]
            model = logprob_model(self._attached)
            told = await again_if_dead(lambda: model.loglikelihood(last.prompt, last.text))
            return abs(told.logprob - last.made.logprob) <= self._base.noise * max(1, last.made.tokens)
        assert result.answer is not None
        journaled = result.answer.options
        options = GenerateOptions(**{**journaled, "stop": tuple(journaled["stop"])})
        again = await again_if_dead(lambda: complete(self._attached, result.sample.prompt, options))
        if again.text != result.answer.text:
            return False
        if result.answer.logprob is None or again.usage.logprob is None:
            return True
        return abs(again.usage.logprob - result.answer.logprob) <= self._base.noise * max(
            1, again.usage.completion_tokens
        )

    def _close(self, verdict: Verdict, void: set[str], batches: set[str]) -> None:
        settled = Verdict("unproven", verdict.reason) if verdict.verdict == "void" else verdict
        for batch in sorted(batches):
            self._journal(batch, Verdict("void", verdict.reason) if batch in void else settled)

    def _journal(self, batch: str, verdict: Verdict) -> None:
        self._ledger.append(
            Proof(
                run=self._subject.run,
                digest=self._subject.digest,
                identity=self._attached.info.identity,
                batch=batch,
                verdict=verdict.verdict,
                reason=verdict.reason,
                fingerprint=self.before,
            )
        )
