"""What a task of lm-evaluation-harness makes of a document's answer, or of how likely its choices are: its own code's word.

Filters and `process_results` are the task's. What it says of a document becomes a score of it: means over documents are the
harness's, and a perplexity is a mean of logarithms, weighted as the harness weights it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from assay.results.records import TextWeighed
from assay.scorers.base import Continuation
from assay.suites.lm_eval_metrics import TaskMetric, metrics_of
from assay.suites.lm_eval_tasks import prompt_of, task_of
from assay.types import Completion, Json, Sample, Score, ScoreFailure

_MOST = 700.0  # nats; a float can't hold e to the power of more


class AnsweredTask:
    """Of a task whose answers are generated."""

    name: str = "lm_eval"
    version: int = 1
    needs_whole_answer: bool = False
    literal: bool = True

    def __init__(self, task: str, content: str) -> None:
        self.parameters: Mapping[str, Json] = {"task": task, "content": content}
        self._documents = task_of(content)
        self._metrics = metrics_of(self._documents.task)[0]
        self.metrics: tuple[str, ...] = tuple(each.name for each in self._metrics)

    def check(self, sample: Sample) -> None:
        if sample.reference.get("document") not in self._documents.requests:
            raise ValueError("it is no document of its task")

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        return self._scores(sample, [completion.text])

    def _scores(self, sample: Sample, said: Sequence[Any]) -> Sequence[Score | ScoreFailure]:
        """said: what the model said to each of the document's requests."""
        task = self._documents.task
        requests = [copy(each) for each in self._requests(sample)]
        for request, answer in zip(requests, said, strict=True):
            request.resps, request.filtered_resps = [answer], {}
        for each in task._filters:
            each.apply(requests)
        values = {
            each.name: task.process_results(requests[0].doc, [r.filtered_resps[each.name] for r in requests])
            for each in task._filters
        }
        return [
            _score(each, values[each.filter][each.metric])
            for each in self._metrics
            if each.metric in values[each.filter]
        ]

    def _requests(self, sample: Sample) -> Sequence[Any]:
        number = sample.reference["document"]
        assert isinstance(number, int)
        return self._documents.requests[number]


class WeighedTask(AnsweredTask):
    """Of a task for which nothing is generated: choices, last words, whole texts. A `Weigher`."""

    name: str = "lm_eval_weighed"
    ended: bool = False

    def texts(self, sample: Sample) -> Sequence[Continuation]:
        return [
            Continuation("", each.args[0], whole=True)
            if each.request_type == "loglikelihood_rolling"
            else Continuation(prompt_of(each.args[0]), each.args[1])
            for each in self._requests(sample)
        ]

    def weigh(self, sample: Sample, weighed: Sequence[TextWeighed]) -> Sequence[Score | ScoreFailure]:
        said = [
            told.logprob if each.request_type == "loglikelihood_rolling" else (told.logprob, told.greedy)
            for each, told in zip(self._requests(sample), weighed, strict=True)
        ]
        return self._scores(sample, said)

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        reason = "the task weighs texts, for which it needs the model; an answer can't be scored by it"
        return [ScoreFailure(metric, "permanent", reason) for metric in self.metrics]


def _score(metric: TaskMetric, value: Any) -> Score | ScoreFailure:
    lower = metric.lower_is_better
    match metric.kind:
        case "mean":
            try:
                number = float(value)
            except (TypeError, ValueError):  # with which the harness fails as a whole
                return ScoreFailure(metric.name, "permanent", f"the task gives no number for it: {str(value)[:60]}")
            if metric.boolean:
                return Score(metric.name, bool(number) if number in (0.0, 1.0) else number)
            return Score(metric.name, number, -math.inf, math.inf, lower_is_better=lower)
        case "perplexity":
            return _perplexity(metric, -float(value), 1.0)
        case "weighted_perplexity":
            return _perplexity(metric, -float(value[0]) / value[1], value[1])
        case "bits_per_byte":
            bits = -float(value[0]) / value[1] / math.log(2)
            return Score(metric.name, bits, 0.0, math.inf, {}, value[1], lower_is_better=True)


def _perplexity(metric: TaskMetric, loss: float, weight: float) -> Score | ScoreFailure:
    if loss >= _MOST:
        return ScoreFailure(metric.name, "permanent", f"e to the power of {loss:.0f} is beyond all numbers")
    return Score(metric.name, math.exp(loss), 0.0, math.inf, {}, weight, lower_is_better=True, geometric=True)
