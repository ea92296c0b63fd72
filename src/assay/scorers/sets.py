"""Which scorers an answer that already exists gets: the suites that `assay score` knows by name.

    heuristic    the text alone (`lek`)
    exact        GSM8K's exact match, of answers with a `correct_answer`, or a `target` that ends in `####` and a number
    answer       the final answer against `target` or `correct_answer`
    standard     by the fields: correct_answer → GSM8K; best_answer → TruthfulQA; risk_area → Do-Not-Answer;
                 domain toxigen → ToxiGen; domain content → the content rubric
    semantic, capability    the judge's rubric of that name, of every answer
    content, truthfulqa, do_not_answer    the same, of the answers that have what the rubric shows beside them
    toxigen      the same, of the answers of that domain, and of those that have none

Any scorer's name, and the file of a rubric, work the same way. A rubric's suite has the rubric's own name, wherever its file
lies. Programs also give scorers themselves, which are suites of their names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from assay.errors import BadInput
from assay.plugins import SCORERS, nearest
from assay.scorers.base import Scorer, scorer_of_answers
from assay.scorers.judge import Judge
from assay.scorers.rubric_file import builtin_rubrics
from assay.suites.known_probes import domain_of
from assay.types import Json, Sample

# A suite's name and one of its scorers.
Pick: TypeAlias = tuple[str, Scorer]
# From a sample's reference fields to the scorers that it gets.
Rule: TypeAlias = Callable[[Mapping[str, Json]], Iterable[Scorer]]

_BY_TEXT = {"heuristic": "lek", "exact": "gsm8k_v1", "answer": "final_answer"}
# The suites that go by a field of the answer, and which will do. An answer without one is left out, and not failed.
_ANSWERS = {"correct_answer", "target"}
_FIELDS = {
    **{"answer": _ANSWERS, "final_answer": _ANSWERS, "gsm8k_v1": _ANSWERS},
    **{"contains_word": {"target"}, "final_number": {"target"}, "probe_answer": {"target"}},
    "markers": {"evasion_markers", "fact_markers"},
    **{"truthfulqa": {"best_answer"}, "do_not_answer": {"risk_area"}},
}
# What the answers of other suites need, in words.
_NEEDS = {
    "exact": "correct_answer, or a target with a number behind ####",
    "standard": "correct_answer, best_answer, risk_area, or the domain toxigen or content",
    "content": "ground_truth or the domain content",
    "toxigen": "the domain toxigen, or none at all",
    "choice": "choices with correct_answer or target, or a letter in one of these",
}
# A reference may be called anything, and is guessed nowhere.
_RENAMED = "call a reference so that has another name, such as GSM8K's answer"


class Picker:
    """Chooses the scorers of each sample for the suites that were asked for.

    judge: makes a judge for a rubric; None where no judge was named. how: what to do then, for the message.

    Raises `BadInput` for a suite that nobody knows, for two of one name, whose scores would be one column, and for one that
    needs a judge: at once where it always does, else at the first sample that needs it.
    """

    def __init__(
        self,
        suites: Sequence[str | Scorer],
        judge: Callable[[str], Judge] | None,
        *,
        how: str = "name one with --judge",
    ) -> None:
        self._make_judge, self._how = judge, how
        self._judges: dict[str, Judge] = {}
        self._plain: dict[str, Scorer] = {}
        self._suites: dict[str, tuple[str, Rule]] = {}
        for given in dict.fromkeys(suites):
            if isinstance(given, str):
                self._add(given)
            else:
                self._add_scorer(given)

    @property
    def names(self) -> tuple[str, ...]:
        """What the suites are called in results, in the order given."""
        return tuple(self._suites)

    def __call__(self, sample: Sample) -> list[Pick]:
        """The scorers of this sample, suite by suite."""
        return [(suite, scorer) for suite, (_, rule) in self._suites.items() for scorer in rule(sample.reference)]

    def without_judges(self, sample: Sample) -> list[Pick]:
        """Those of this sample's scorers that only read the text."""
        return [(suite, scorer) for suite, scorer in self(sample) if not isinstance(scorer, Judge)]

    @property
    def is_judged_only(self) -> bool:
        """Does every suite need a judge for every answer?"""
        return all(given in self._judges for given, _ in self._suites.values())

    def _add(self, given: str) -> None:
        rule = self._rule(given)
        name = self._judges[given].rubric.name if _is_file(given) else given
        other, _ = self._suites.setdefault(name, (given, rule))
        files = _is_file(other) and _is_file(given)
        if other != given and not (files and self._judges[other].rubric == self._judges[given].rubric):
            raise BadInput(f"{other} and {given} are two suites of one name, {name!r}; give one of the rubrics another")

    def _add_scorer(self, scorer: Scorer) -> None:
        if scorer.name in self._suites:
            raise BadInput(f"two of the scorers are called {scorer.name!r}; give one another name")
        fields = _FIELDS.get(scorer.name)
        self._suites[scorer.name] = (scorer.name, _by_fields(scorer, fields))

    def _rule(self, suite: str) -> Rule:
        """What tells a suite's scorers by a sample's fields."""
        if suite == "standard":
            return self._standard
        if suite in builtin_rubrics() or _is_file(suite):
            judge = self._judge(suite, suite)
            if suite == "content":
                return lambda reference: (judge,) if _has_truth(reference) else ()
            if suite == "toxigen":
                return lambda reference: (judge,) if domain_of(reference) in ("", "toxigen") else ()
            return _by_fields(judge, _FIELDS.get(suite))
        if suite not in _BY_TEXT and suite not in SCORERS:
            hint = nearest(suite, {*_BY_TEXT, "standard", *builtin_rubrics(), *SCORERS.names()})
            raise BadInput(f"there is no suite or scorer {suite!r}; {hint}")
        scorer = self._by_text(_BY_TEXT.get(suite, suite))
        if suite == "choice":
            from assay.scorers.choice import poses_choice  # a twentieth of the command's start

            return lambda reference: (scorer,) if poses_choice(reference) else ()
        if suite == "exact":
            from assay.scorers.exact import is_worked

            return lambda reference: (scorer,) if "correct_answer" in reference or is_worked(reference) else ()
        return _by_fields(scorer, _FIELDS.get(suite))

    def _standard(self, reference: Mapping[str, Json]) -> Iterator[Scorer]:
        if "correct_answer" in reference:
            yield self._by_text("gsm8k_v1")
        if "best_answer" in reference:
            yield self._judge("truthfulqa", "standard")
        if "risk_area" in reference:
            yield self._judge("do_not_answer", "standard")
        if (domain := domain_of(reference)) in ("toxigen", "content"):
            yield self._judge(domain, "standard")

    def _by_text(self, name: str) -> Scorer:
        if name not in self._plain:
            self._plain[name] = scorer_of_answers(name)
        return self._plain[name]

    def _judge(self, rubric: str, suite: str) -> Scorer:
        if self._make_judge is None:
            raise BadInput(f"the suite {suite!r} needs a judge for the rubric {rubric!r}; {self._how}")
        if rubric not in self._judges:
            self._judges[rubric] = self._make_judge(rubric)
        return self._judges[rubric]


def unfit(suites: Iterable[str], scored: Collection[str]) -> list[str]:
    """Which of the suites fit no answer, and what they go by: a sentence for each that isn't among those `scored`."""
    return [f"{name} scored nothing: no answer has {_needed(name)}" for name in suites if name not in scored]


def _needed(suite: str) -> str:
    needed = _NEEDS.get(suite) or " or ".join(sorted(_FIELDS.get(suite, ()))) or "what it goes by"
    return f"{needed}; {_RENAMED}" if "correct_answer" in needed else needed


def _by_fields(scorer: Scorer, fields: set[str] | None) -> Rule:
    """The scorer, for answers that have one of the fields; for all answers where it needs none."""
    return lambda reference: (scorer,) if fields is None or fields & reference.keys() else ()


def one_a_name(judges: Iterable[Judge]) -> list[Judge]:
    """The judges, each rubric once. Raises `BadInput` for two rubrics of one name: their scores would be one column."""
    found: dict[str, Judge] = {}
    for judge in judges:
        if found.setdefault(judge.rubric.name, judge).rubric != judge.rubric:
            raise BadInput(
                f"two of the rubrics are called {judge.rubric.name!r} and differ; give one of them another name"
            )
    return list(found.values())


def _has_truth(reference: Mapping[str, Json]) -> bool:
    return domain_of(reference) == "content" or "ground_truth" in reference


def _is_file(suite: str) -> bool:
    return suite not in builtin_rubrics() and Path(suite).suffix in (".yaml", ".yml")
