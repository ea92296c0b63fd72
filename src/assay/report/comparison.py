"""Two sets of answers to the same questions: what changed, by how much, and is it more than chance?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from assay.results.stats import paired_difference, t_quantile
from assay.types import Cell

# What a suite's groups are together.
ALL = "all"

# suite, group, metric
Head = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of one group, old against new, over the samples that both have a score for.

    n: such samples. old, new: their means. low, high: the 95 % interval of the difference of means, None where there is no
    telling. p: two-sided, exact
    (McNemar's for booleans, sign flips else). gained, lost: ids of samples that got better and worse. unpaired: samples that
    only one side has a score for; they are in no number here.
    """

    suite: str
    group: str
    metric: str
    n: int
    old: float | None
    new: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    boolean: bool
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    unpaired: int


def compare(old: Iterable[Cell], new: Iterable[Cell]) -> list[Change]:
    """Pair the samples by suite, group, metric and id; one change a group and metric, in the order of `old`, then `new`,
    the metrics of a group together.

    Behind a suite's groups, where they are several, a change over all of them for each metric that more than one has, whose
    group is "all".
    """
    before, after = _by_head(old), _by_head(new)
    heads = list(dict.fromkeys([*before, *after]))
    changes: list[Change] = []
    for suite in dict.fromkeys(suite for suite, _, _ in heads):
        own = [head for head in heads if head[0] == suite]
        groups = list(dict.fromkeys(group for _, group, _ in own))
        own.sort(key=lambda head: groups.index(head[1]))
        changes += [_change(head, before.get(head, {}), after.get(head, {})) for head in own]
        for metric, count in Counter(metric for _, _, metric in own).items():
            if count > 1:
                whole = [_whole(side, suite, metric) for side in (before, after)]
                changes.append(_change((suite, ALL, metric), *whole))
    return changes


def _by_head(cells: Iterable[Cell]) -> dict[Head, dict[str, Cell]]:
    heads: dict[Head, dict[str, Cell]] = {}
    for cell in cells:
        heads.setdefault((cell.suite, cell.group, cell.metric), {})[cell.sample] = cell
    return heads


def _whole(side: Mapping[Head, Mapping[str, Cell]], suite: str, metric: str) -> dict[str, Cell]:
    return {
        name: cell
        for head, cells in side.items()
        if (head[0], head[2]) == (suite, metric)
        for name, cell in cells.items()
    }


def _change(head: Head, before: Mapping[str, Cell], after: Mapping[str, Cell]) -> Change:
    pairs = [
        (name, a.value, after[name].value)
        for name, a in before.items()
        if name in after and a.outcome == after[name].outcome == "scored"
    ]
    known = [(name, a, b) for name, a, b in pairs if a is not None and b is not None]
    both = [*before.values(), *after.values()]
    scored = {c.sample for c in both if c.outcome == "scored"}
    boolean = all(c.boolean for c in both if c.outcome == "scored")
    a, b = [x for _, x, _ in known], [y for _, _, y in known]
    interval = paired_interval(a, b, boolean=boolean, span=max((c.high - c.low for c in both), default=1.0))
    return Change(
        *head,
        n=len(known),
        old=fmean(a) if a else None,
        new=fmean(b) if b else None,
        difference=fmean(b) - fmean(a) if a else None,
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        p=paired_difference(a, b).p if a else None,
        boolean=boolean,
        gained=tuple(name for name, x, y in known if y > x),
        lost=tuple(name for name, x, y in known if y < x),
        unpaired=len(scored) - len(known),
    )


def paired_interval(
    a: Sequence[float], b: Sequence[float], *, boolean: bool, span: float = math.inf, confidence: float = 0.95
) -> tuple[float, float] | None:
    """An interval for the mean of b - a over pairs; None without pairs, and for equal differences that have no bounds.

    Booleans: the adjusted Wald interval of Bonett and Price ("Adjusted Wald confidence interval for a difference of binomial
    proportions based on paired data", Journal of Educational and Behavioral Statistics 37, 2012), which adds one pair of
    each kind of flip. Numbers: Student's t of the differences; `span` is the largest difference there can be, which is all
    that one pair can tell; equal differences bound the share of pairs that differ otherwise.
    """
    differences = [after - before for before, after in zip(a, b, strict=True)]
    n = len(differences)
    if n == 0:
        return None
    if boolean:
        gained = (sum(d > 0 for d in differences) + 1) / (n + 2)
        lost = (sum(d < 0 for d in differences) + 1) / (n + 2)
        middle = gained - lost
        reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt((gained + lost - middle**2) / (n + 2))
        return max(-1.0, middle - reach), min(1.0, middle + reach)
    if math.isinf(span) and min(differences) == max(differences):
        return None
    if n == 1:
        return -span, span
    mean = fmean(differences)
    if min(differences) == max(differences):
        # Clopper and Pearson's argument, as in `stats.mean_interval`: so many equal ones bound the share of others.
        others = 1 - (1 - confidence) ** (1 / n)
        return mean - others * (mean + span), mean + others * (span - mean)
    reach = t_quantile((1 + confidence) / 2, n - 1) * stdev(differences) / math.sqrt(n)
    return max(-span, mean - reach), min(span, mean + reach)
