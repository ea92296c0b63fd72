"""Score journaled answers again, by another scorer or another judge, without loading the model that gave them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace as replaced

from msgspec.structs import replace

from assay.reasoning import continued
from assay.results.index import Ledger
from assay.results.lens import Lens
from assay.results.records import Place
from assay.scorers.base import Scorer, build_scorer, is_literal
from assay.scorers.judge import Judge
from assay.scorers.keys import judge_of
from assay.scoring import Judging
from assay.suites.asked import Asked, journaled_samples
from assay.suites.suite import ScorerSpec, Suite
from assay.types import Completion, Json, Sample, Score, ScoreFailure, Usage

_PLACE = (
    "c.run, c.checkpoint, c.iteration, c.digest, c.identity, c.suite, c.suite_version, c.suite_digest, c.sample, "
    'c."group", c."index", coalesce(c.batch, \'\') as batch, c.repeat'
)

# Of a suite's digest, enough to tell its versions apart.
_DIGITS = 6

# Where an answer stands, its key, and the answer.
Answer = tuple[Place, str, Completion]


# What was asked at a place; None if that is no longer known.
Asking = Callable[[Place], Asked | None]


def asked_by(suite: Suite, former: Mapping[tuple[str, str], Asked]) -> Asking:
    """The suite's questions, by their ids alone: the suite may have changed since it was asked as in `former`.

    Where one of the questions did change, scores by all of them carry the start of the suite's digest: an average of some by
    the new reference and some by the old one would be of neither.
    """
    found = {sample.id: Asked(sample, suite.scorers[sample.id]) for sample in suite.samples}
    now = {name: replaced(asked, version=version_of(suite)) for name, asked in found.items()}
    changed = {digest for digest, _ in edited(suite, former)}
    return lambda place: (now if place.suite_digest in changed else found).get(place.sample)


def version_of(suite: Suite) -> str:
    """What tells the suite from its former versions, in the names of metrics."""
    return suite.digest[:_DIGITS]


def edited(suite: Suite, former: Mapping[tuple[str, str], Asked]) -> list[tuple[str, str]]:
    """Which questions, by former digest and id, the suite now asks or scores in another way; not those that it has dropped."""
    found = {sample.id: Asked(sample, suite.scorers[sample.id]) for sample in suite.samples}
    return [(digest, name) for (digest, name), was in former.items() if name in found and not was.same(found[name])]


def asked_in(lens: Lens, suites: Iterable[str]) -> Asking:
    """The questions of these suites as they were asked, from the journal."""
    found = {key: question for suite in suites for key, question in journaled_samples(lens, suite).items()}
    return lambda place: found.get((place.suite_digest, place.sample))


def journaled(lens: Lens, suite: str, run: str | None = None, digest: str | None = None) -> list[Answer]:
    """The standing answers to a suite, each at its place, in the table's order; of one run, of one adapter."""
    table = lens.query(
        f"select distinct a.key, a.prompt, a.text, a.finish_reason, a.prompt_tokens, a.completion_tokens, {_PLACE} "
        "from cells c join completions a on c.completion = a.key "
        f"where c.suite = '{_quoted(suite)}'"
        + (f" and c.run = '{_quoted(run)}'" if run is not None else "")
        + (f" and c.digest = '{_quoted(digest)}'" if digest is not None else "")
        + " "
        'order by c.run, c.iteration, c.digest, c."index"'
    )
    names = table.columns[6:]
    return [
        (
            Place(**dict(zip(names, place, strict=True))),
            key,
            Completion(continued(prompt, text), finish, Usage(prompt_tokens, tokens)),
        )
        for key, prompt, text, finish, prompt_tokens, tokens, *place in table.rows
    ]


def judged_rubrics(lens: Lens, run: str | None = None) -> dict[str, list[str]]:
    """From the suites to the rubrics that their answers were judged by as they were asked, of all runs or of one.

    Without `content`, which goes by the sample: those with a ground truth are judged by it anyhow.
    """
    rows = lens.query(
        "select suite, scorer from measures semi join run_suites using (run, suite, suite_digest, identity) "
        "where edition = '' and scorer <> 'judge:content'"
        + (f" and run = '{_quoted(run)}'" if run is not None else "")
        + " group by suite, scorer order by min(seq), scorer"
    ).rows
    found: dict[str, list[str]] = {}
    for suite, scorer in rows:
        found.setdefault(suite, []).append(scorer.removeprefix("judge:"))
    return found


def _quoted(text: str) -> str:
    return text.replace("'", "''")


async def rescore(
    answers: Sequence[Answer],
    asked: Asking,
    scorers: Callable[[Sample], Sequence[Scorer]],
    ledger: Ledger,
    *,
    concurrency: int = 1,
    on_answer: Callable[[], None] = lambda: None,
) -> tuple[int, int]:
    """Score each answer and journal the scores at its place; (scored, failed) metrics.

    An answer to a question that is not `asked` any more is passed over. What a scorer other than the suite's own says is
    journaled under `metric/scorer`, so that it stands beside the first score and not in its place; by another version of the
    suite than was asked, under `metric/scorer (version)`, and a judge's under `metric (version)`. Raises `Unreachable` if a
    judge can't be reached, `BadInput` for a scorer that can't work at all; what was scored until then is kept.
    """
    gate = asyncio.Semaphore(max(1, concurrency))
    judging = Judging(ledger)
    beside = _Beside()
    counts = [0, 0]

    async def one(place: Place, key: str, completion: Completion) -> None:
        question = asked(place)
        if question is None:
            return
        sample = question.sample
        async with gate:
            for scorer in scorers(sample):
                for outcome in await judging.outcomes(beside(question, scorer), sample, completion, place, key):
                    if isinstance(outcome, Score):
                        counts[0] += 1
                    elif outcome.error_class != "truncated":
                        counts[1] += 1
        on_answer()

    try:
        async with asyncio.TaskGroup() as group:
            for place, key, completion in answers:
                group.create_task(one(place, key, completion))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return counts[0], counts[1]


class _Beside:
    """Names a scorer's metrics so that they stand beside the suite's own."""

    def __init__(self) -> None:
        self._own: dict[tuple[str, str], Mapping[str, Json]] = {}
        self._judges: dict[tuple[str, str], Judge] = {}

    def __call__(self, question: Asked, scorer: Scorer) -> Scorer:
        if isinstance(scorer, Judge):
            return self._judge(scorer, question.version)
        if judge_of(scorer) or (not question.version and self._is_own(question.scorer, scorer)):
            return scorer
        return _Named(scorer, question.version)

    def _judge(self, judge: Judge, version: str) -> Judge:
        """It, by its dimensions' names; by another version of the suite beside these."""
        if not version:
            return judge
        key = judge.name, version
        if key not in self._judges:
            self._judges[key] = judge.suffixed(version)
        return self._judges[key]

    def _is_own(self, spec: ScorerSpec, scorer: Scorer) -> bool:
        """Is it the sample's scorer in the suite? The same one with other parameters is another one."""
        if spec.name != scorer.name:
            return False
        key = spec.name, json.dumps(spec.parameters, sort_keys=True)
        if key not in self._own:
            self._own[key] = build_scorer(spec).parameters
        return self._own[key] == scorer.parameters


class _Named:
    """A scorer whose metrics carry its name, and a suite's version if there is one."""

    def __init__(self, scorer: Scorer, version: str) -> None:
        self._scorer = scorer
        self._suffix = f"/{scorer.name} ({version})" if version else f"/{scorer.name}"
        self.name = scorer.name
        self.version = scorer.version
        self.needs_whole_answer = scorer.needs_whole_answer
        self.literal = is_literal(scorer)
        self.parameters = scorer.parameters
        self.metrics = tuple(self._called(metric) for metric in scorer.metrics)

    def _called(self, metric: str) -> str:
        return metric + self._suffix

    def check(self, sample: Sample) -> None:
        self._scorer.check(sample)

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        return [replace(o, metric=self._called(o.metric)) for o in await self._scorer.score(sample, completion)]
