"""Two sets of answers to the same questions: what changed, by how much, and is it more than chance?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TypeAlias

from assay.report.figures import Interval
from assay.results.means import Means
from assay.results.stats import check_confidence, normal_quantile, paired_difference, sign_flip_p
from assay.results.weighted import weighted_change
from assay.types import Cell

# What a suite's groups are together.
ALL = "all"

# suite, group, metric
Head = tuple[str, str, str]
# The cells of each sample, by its id: one for each time that it was asked.
Samples: TypeAlias = Mapping[str, Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of one group, old against new, over the samples that both have a score for.

    n: such samples; one that was asked several times counts once, with the mean of its scores. repeats: how many scores each
    of them has on each side; None where not all have as many. old, new: their means. low, high: the 95 % interval of the
    difference of means, None where nothing tells. Samples with weights (a text's tokens) count by them, by the mean of both
    sides' where tokenizers differ. p: two-sided (McNemar's, exact, for booleans; sign flips else). gained,
    lost: ids of samples that got better and worse. unpaired: samples that only one side has a score for; they are in no
    number here. whole: it stands for all groups of its suite. geometric: the means are (a perplexity), and the
    difference with its interval is the relative one, new / old - 1.
    """

    suite: str
    group: str
    metric: str
    n: int
    repeats: int | None
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
    whole: bool = False
    lower_is_better: bool = False
    geometric: bool = False


def compare(old: Iterable[Cell], new: Iterable[Cell]) -> list[Change]:
    """Pair the samples by suite, group, metric and id; one change a group and metric, in the order of `old`, then `new`,
    the metrics of a group together.

    Behind a suite's groups, where more than one has pairs, a change over all of them for each metric that more than one has.
    Its group is "all", or "all groups" where "all" is one of them.
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
                name = ALL if ALL not in groups else f"{ALL} groups"
                whole = _change((suite, name, metric), *(_whole(side, suite, metric) for side in (before, after)))
                pairs = [c.n for c in changes if (c.suite, c.metric) == (suite, metric) and c.n]
                if pairs != [whole.n]:  # else the one group that has pairs says it all
                    changes.append(replace(whole, whole=True))
    return changes


def _by_head(cells: Iterable[Cell]) -> dict[Head, Samples]:
    heads: dict[Head, dict[str, list[Cell]]] = {}
    for cell in cells:
        heads.setdefault((cell.suite, cell.group, cell.metric), {}).setdefault(cell.sample, []).append(cell)
    return {**heads}


def _whole(side: Mapping[Head, Samples], suite: str, metric: str) -> Samples:
    whole: dict[str, list[Cell]] = {}
    for head, samples in side.items():
        if (head[0], head[2]) == (suite, metric):
            for name, cells in samples.items():
                whole.setdefault(name, []).extend(cells)
    return whole


def _change(head: Head, before: Samples, after: Samples) -> Change:
    old, new = _values(before), _values(after)
    known = [(name, fmean(values), fmean(new[name])) for name, values in old.items() if name in new]
    counts = {len(side[name]) for name, _, _ in known for side in (old, new)}
    both = [cell for side in (before, after) for cells in side.values() for cell in cells if cell.outcome == "scored"]
    boolean = all(cell.boolean for cell in both)
    lower = any(cell.lower_is_better for cell in both)
    a, b = [x for _, x, _ in known], [y for _, _, y in known]
    weights = [_weight(before[name], after[name]) for name, _, _ in known]
    means, difference, interval, p = _paired(a, b, weights, both)
    better, worse = ([name for name, x, y in known if way * (y - x) > 0] for way in ((-1, 1) if lower else (1, -1)))
    return Change(
        *head,
        n=len(known),
        repeats=counts.pop() if len(counts) == 1 else None,
        old=means[0] if means else None,
        new=means[1] if means else None,
        difference=difference,
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        p=p,
        boolean=boolean,
        gained=tuple(better),
        lost=tuple(worse),
        unpaired=len(old.keys() | new.keys()) - len(known),
        lower_is_better=lower,
        geometric=any(cell.geometric for cell in both),
    )


def _paired(
    a: Sequence[float], b: Sequence[float], weights: Sequence[float | None], both: Sequence[Cell]
) -> tuple[tuple[float, float] | None, float | None, Interval, float | None]:
    """The means, their difference, its interval, and p. both: the scored cells of either side."""
    if not a:
        return None, None, None, None
    if any(weight is not None for weight in weights):
        known = [1.0 if weight is None else weight for weight in weights]
        geometric = any(cell.geometric for cell in both)
        found = weighted_change(a, b, known, geometric=geometric)
        moved = [math.log(y / x) if geometric else y - x for x, y in zip(a, b, strict=True)]
        p = sign_flip_p(move * weight for move, weight in zip(moved, known, strict=True))
        return (found.old, found.new), found.difference, found.interval, p
    span = max(c.high for c in both) - min(c.low for c in both)
    interval = paired_interval(a, b, boolean=all(cell.boolean for cell in both), span=span)
    old, new = fmean(a), fmean(b)
    return (old, new), new - old, interval, paired_difference(a, b).p


def _weight(before: Iterable[Cell], after: Iterable[Cell]) -> float | None:
    weights = [cell.weight for side in (before, after) for cell in side if cell.weight is not None]
    return fmean(weights) if weights else None


def _values(side: Samples) -> dict[str, list[float]]:
    """Each sample's scores; samples without one are left out."""
    scored = {name: [cell.value for cell in cells if cell.outcome == "scored"] for name, cells in side.items()}
    known = {name: [value for value in values if value is not None] for name, values in scored.items()}
    return {name: values for name, values in known.items() if values}


def paired_interval(
    a: Sequence[float], b: Sequence[float], *, boolean: bool, span: float = math.inf, confidence: float = 0.95
) -> tuple[float, float] | None:
    """An interval for the mean of b - a over pairs; None without pairs, and where nothing tells, as in `Means`.

    Booleans: the adjusted Wald interval of Bonett and Price ("Adjusted Wald confidence interval for a difference of binomial
    proportions based on paired data", Journal of Educational and Behavioral Statistics 37, 2012), which adds one pair of
    each kind of flip. A pair of shares, of questions that were asked several times, counts with its difference; where all
    are -1, 0 or 1 that is Bonett's and Price's own formula. Numbers: `Means.number_interval` of the differences; `span` is
    the largest difference there can be.
    """
    check_confidence(confidence)
    differences = [after - before for before, after in zip(a, b, strict=True)]
    if not boolean:
        return Means.of(differences).number_interval(-span, span, confidence)
    if not differences:
        return None
    count = len(differences) + 2
    middle = math.fsum(differences) / count
    spread = (math.fsum(difference**2 for difference in differences) + 2) / count - middle**2
    reach = normal_quantile((1 + confidence) / 2) * math.sqrt(spread / count)
    return max(-1.0, middle - reach), min(1.0, middle + reach)
