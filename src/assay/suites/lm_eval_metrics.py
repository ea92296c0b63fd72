"""Which metrics of a task of lm-evaluation-harness are scores of its documents: those that are a mean over them.

A perplexity is one too: the mean of a logarithm, weighted by words or bytes. Others, such as a corpus's BLEU or an F1 over all
documents, are no document's, so no checkpoint could be compared with another by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["mean", "perplexity", "weighted_perplexity", "bits_per_byte"]

# The harness's own metrics that are right or wrong.
_BOOLEAN = frozenset(("acc", "acc_norm", "acc_mutual_info", "acc_bytes", "exact_match"))


@dataclass(frozen=True, slots=True)
class TaskMetric:
    """A metric under one of the task's filters. kind: how its documents' values become one.

    boolean: each value is right or wrong. lower_is_better: of a loss.
    """

    metric: str
    filter: str
    kind: Kind
    boolean: bool
    lower_is_better: bool

    @property
    def name(self) -> str:
        """As tables have it; the filter `none` is what the harness calls that there is none."""
        return self.metric if self.filter == "none" else f"{self.metric}:{self.filter}"


def metrics_of(task: Any) -> tuple[tuple[TaskMetric, ...], tuple[str, ...]]:
    """The metrics that are means, in the task's order and the first filter's first, and the names of the others."""
    from lm_eval.api import metrics

    kinds: dict[Any, Kind] = {
        metrics.mean: "mean",
        metrics.perplexity: "perplexity",
        metrics.weighted_perplexity: "weighted_perplexity",
        metrics.bits_per_byte: "bits_per_byte",
    }
    better = task.higher_is_better()
    found: list[TaskMetric] = []
    others: list[str] = []
    for metric, aggregate in task.aggregation().items():
        kind = kinds.get(aggregate)
        if kind is None:
            others.append(metric)
            continue
        lower = kind != "mean" or better.get(metric) is False
        found += [
            TaskMetric(metric, each.name, kind, kind == "mean" and metric in _BOOLEAN, lower) for each in task._filters
        ]
    filters = [each.name for each in task._filters]
    return tuple(sorted(found, key=lambda each: filters.index(each.filter))), tuple(others)
