"""From cells to rows: one line of numbers for each checkpoint, group and metric, and what each checkpoint broke."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal, TypeAlias, TypeVar

from assay.report.figures import Interval, decimals, difference_figure
from assay.results.means import Means
from assay.results.weighted import WeightedMeans
from assay.types import Cell

Proof: TypeAlias = Literal["live", "unproven"]
Proofs: TypeAlias = Mapping[tuple[str, str], Proof]  # by (run, digest)
# run, checkpoint, digest, suite, group, metric: two checkpoints may share a label (overwritten) or a digest (copied)
RowKey: TypeAlias = tuple[str, str, str, str, str, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One checkpoint's result on one group under one metric. The field names are those of `assay report --json`.

    mean: over the samples, each by the mean of its scores, and by its weight if they have weights. low, high: its 95 %
    interval (Wilson's for a boolean metric, else Student's t within the metric's bounds), None where nothing tells. mean is
    None where nothing was scored, correct unless the metric is boolean. asked = scored + failed + truncated. questions:
    samples with a score. proof: None for the base, which has no adapter, and whose digest is "".
    """

    run: str
    checkpoint: str
    iteration: int
    digest: str
    suite: str
    group: str
    metric: str
    mean: float | None
    low: float | None
    high: float | None
    correct: int | None
    asked: int
    scored: int
    failed: int
    truncated: int
    questions: int
    proof: Proof | None

    @property
    def key(self) -> RowKey:
        return self.run, self.checkpoint, self.digest, self.suite, self.group, self.metric


@dataclass(frozen=True, slots=True)
class Broke:
    """Samples of one row that the base got right and this checkpoint did not, as ids in suite order.

    wrong: it answered, and wrongly. unfinished: it has no score (failed or truncated), so nobody knows.
    """

    wrong: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupChange:
    """One group, base against checkpoint, on the `samples` that both were asked and the base has a score for.

    base_mean, mean, difference (mean - base_mean): in the metric's unit. known: how many the base got right (None
    unless the metric is boolean). lost, gained: ids of the samples that got worse or better; unfinished: ids that the
    checkpoint has no score for, which count as the worst. low, high: 95 % interval; for a boolean metric Wilson's, of the
    share of `known` that is lost; for a number Student's, of the difference; of geometric means of the relative one, mean /
    base_mean - 1. None where nothing tells.
    """

    group: str
    metric: str
    samples: int
    base_mean: float
    mean: float
    difference: float
    known: int | None
    lost: tuple[str, ...]
    gained: tuple[str, ...]
    unfinished: tuple[str, ...]
    low: float | None
    high: float | None
    lower_is_better: bool = False
    geometric: bool = False

    @property
    def worse(self) -> float:
        """By how much it got worse, in the metric's unit; below 0 where it got better."""
        return self.difference if self.lower_is_better else -self.difference

    @property
    def fractions(self) -> str:
        """`0/10 → 10/10`, or `7.31 → 7.02` for a number."""
        if self.known is None:
            before, after = (f"{mean:#.3g}".rstrip(".") for mean in (self.base_mean, self.mean))
            return f"{before} → {after}"
        was, now = (round(mean * self.samples, 2) for mean in (self.base_mean, self.mean))
        return f"{was:g}/{self.samples} → {now:g}/{self.samples}"

    @property
    def effect(self) -> str:
        """What was lost, with its interval, and gained, in words."""
        parts = []
        if self.known is None:
            ways = ("better", "worse") if self.lower_is_better else ("up", "down")
            counts = f"{len(self.gained)} {ways[0]}, {len(self.lost)} {ways[1]}"
            interval = (self.low, self.high) if self.low is not None and self.high is not None else None
            if self.geometric:
                moved = difference_figure(self.mean / self.base_mean - 1, interval, "%")
            else:
                ends = f" [{interval[0]:+.2g} to {interval[1]:+.2g}]" if interval else ""
                moved = f"{self.difference:+.2g}{ends}"
            parts.append(f"{moved}, {counts}")
        elif self.known and self.low is not None and self.high is not None:
            digits = decimals(self.low, self.high, 0, scale=100)
            low, high = (f"{end * 100:.{digits}f}" for end in (self.low, self.high))
            lost = f"lost {len(self.lost)} of {self.known} [{low}–{high}%]"
            parts.append(f"{lost}: {shorten(self.lost)}" if self.lost else lost)
        if self.gained and self.known is not None:
            parts.append(f"gained {len(self.gained)}: {shorten(self.gained)}")
        if self.unfinished:
            parts.append(f"no score: {shorten(self.unfinished)}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Scale:
    """What a metric's values are: booleans, or numbers within `low` and `high`. varied: bounds differ from text to text.

    lower_is_better, geometric: as in `Score`. weighted: the scores have weights. open: it has no bounds, and `low` and
    `high` are what was seen.
    """

    boolean: bool
    low: float
    high: float
    varied: bool = False
    lower_is_better: bool = False
    geometric: bool = False
    weighted: bool = False
    open: bool = False

    @property
    def span(self) -> float:
        """The distance from worst to best."""
        return self.high - self.low

    @property
    def worst(self) -> float:
        """What a sample without a score counts as."""
        return self.high if self.lower_is_better else self.low

    def merit(self, value: float) -> float:
        """How good a value is, the more the better: the share of the range that it has, or without bounds the value itself.

        Of a geometric metric it is the logarithm, so that merits can be averaged.
        """
        if self.open:
            value = math.log(value) if self.geometric else value
            return -value if self.lower_is_better else value
        if self.span <= 0:
            return 0.0
        return (self.high - value if self.lower_is_better else value - self.low) / self.span

    def of_merit(self, merit: float) -> float:
        """The value, without bounds, that is as good."""
        value = -merit if self.lower_is_better else merit
        return math.exp(value) if self.geometric else value


def scale_of(cells: Iterable[Cell]) -> Scale:
    """The scale of one metric's cells. Only scored ones know it: a failure carries the defaults, not the bounds."""
    scored = [cell for cell in cells if cell.outcome == "scored"]
    if all(cell.boolean for cell in scored):
        return Scale(boolean=True, low=0.0, high=1.0)
    bounds = {(cell.low, cell.high) for cell in scored}
    return Scale(
        boolean=False,
        low=min(low for low, _ in bounds),
        high=max(high for _, high in bounds),
        varied=len(bounds) > 1,
        lower_is_better=any(cell.lower_is_better for cell in scored),
        geometric=any(cell.geometric for cell in scored),
        weighted=any(cell.weight is not None for cell in scored),
    )


def closed_scale(cells: Sequence[Cell]) -> Scale:
    """The scale of one metric's cells, with the least and the greatest value seen where it has no bound."""
    scale = scale_of(cells)
    if math.isfinite(scale.span):
        return scale
    values = [value_of(cell) for cell in cells if cell.outcome == "scored"]
    low, high = min(values), max(values)
    return replace(
        scale,
        low=scale.low if math.isfinite(scale.low) else low,
        high=scale.high if math.isfinite(scale.high) else high,
        varied=True,
        open=True,
    )


def value_of(cell: Cell) -> float:
    """A scored cell's value; a cell that claims to be scored and has none is a fault of whoever made it."""
    if cell.value is None:
        raise ValueError(f"{cell.checkpoint}, {cell.sample}: scored by {cell.metric}, but without a value")
    return cell.value


def in_order(items: Iterable[T], first: Sequence[T] = ()) -> dict[T, int]:
    """Each distinct item's rank: those of `first`, then by first appearance."""
    return {item: rank for rank, item in enumerate(dict.fromkeys([*first, *items]))}


def shorten(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c, … (+2)`: the first `most` names and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f", … (+{rest})" if rest > 0 else "")


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)


def called(places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What to call each (checkpoint, digest); an overwritten one left several digests, whose starts are then shown."""
    distinct = list(dict.fromkeys(places))
    labels = Counter(label for label, _ in distinct)
    return {(label, digest): f"{label} ({digest[:6]})" if labels[label] > 1 else label for label, digest in distinct}


def rows(cells: Iterable[Cell], proofs: Proofs, groups: Sequence[str] = ()) -> list[Row]:
    """One row for each run, suite, checkpoint, group and metric that has cells.

    Runs, suites and metrics stay in the order of the cells, as do groups that `groups` does not name; checkpoints
    are ordered by iteration, the base first. A digest that `proofs` does not know is unproven.
    """
    cells = list(cells)
    parts: dict[tuple[int, RowKey], list[Cell]] = {}
    by_metric: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        parts.setdefault((cell.iteration, _key(cell)), []).append(cell)
        by_metric.setdefault((cell.suite, cell.metric), []).append(cell)
    scales = {name: scale_of(part) for name, part in by_metric.items()}
    result = [_row(part, scales[part[0].suite, part[0].metric], proofs) for part in parts.values()]
    run_rank = in_order(cell.run for cell in cells)
    suite_rank = in_order(cell.suite for cell in cells)
    group_rank = in_order((cell.group for cell in cells), groups)
    metric_rank = in_order(cell.metric for cell in cells)
    digest_rank = in_order((cell.checkpoint, cell.digest) for cell in cells)
    result.sort(
        key=lambda row: (
            run_rank[row.run],
            suite_rank[row.suite],
            (row.digest != "", row.iteration, digest_rank[row.checkpoint, row.digest]),
            group_rank[row.group],
            metric_rank[row.metric],
        )
    )
    return result


def broke(cells: Iterable[Cell]) -> dict[RowKey, Broke]:
    """What each row lost of what the base of its run got right, by `Row.key`; rows that lost nothing are left out.

    Only boolean metrics have a "right". A sample that the base has no score for can't be broken.
    """
    cells = list(cells)
    known = {_question(cell) for cell in cells if cell.digest == "" and _right(cell)}
    wrong: dict[RowKey, list[str]] = {}
    unfinished: dict[RowKey, list[str]] = {}
    for cell in cells:
        if cell.digest == "" or _question(cell) not in known:
            continue
        if cell.outcome != "scored":
            unfinished.setdefault(_key(cell), []).append(cell.sample)
        elif not _right(cell):
            wrong.setdefault(_key(cell), []).append(cell.sample)
    return {
        key: Broke(tuple(dict.fromkeys(wrong.get(key, ()))), tuple(dict.fromkeys(unfinished.get(key, ()))))
        for key in dict.fromkeys([*wrong, *unfinished])
    }


def _key(cell: Cell) -> RowKey:
    return cell.run, cell.checkpoint, cell.digest, cell.suite, cell.group, cell.metric


def _question(cell: Cell) -> tuple[str, str, str, str, str]:
    return cell.run, cell.suite, cell.group, cell.metric, cell.sample


def _right(cell: Cell) -> bool:
    return cell.outcome == "scored" and cell.boolean and value_of(cell) == 1.0


def _plain(samples: Collection[Sequence[float]], scale: Scale) -> tuple[float | None, Interval]:
    """The mean and its interval of samples that count the same, each with its scores."""
    means = Means()
    middles = [fmean(values) for values in samples]
    for middle, values in zip(middles, samples, strict=True):
        means.add(middle, len(values))
    limits = scale.low, scale.high
    interval = means.share_interval() if scale.boolean else means.number_interval(*limits, varied=scale.varied)
    return (fmean(middles) if middles else None), interval


def _weighted(part: Sequence[Cell], scale: Scale) -> tuple[float | None, Interval]:
    """The same of samples that count by their weights; no such sample is asked twice."""
    scored = [(value_of(cell), cell.weight or 0.0) for cell in part if cell.outcome == "scored"]
    means = WeightedMeans.of(scored, geometric=scale.geometric)
    return (means.mean if scored else None), means.number_interval(scale.low, scale.high)


def _row(part: Sequence[Cell], scale: Scale, proofs: Proofs) -> Row:
    first = part[0]
    outcomes = Counter(cell.outcome for cell in part)
    samples: dict[str, list[float]] = {}
    for cell in part:
        if cell.outcome == "scored":
            samples.setdefault(cell.sample, []).append(value_of(cell))
    mean, interval = _weighted(part, scale) if scale.weighted else _plain(samples.values(), scale)
    return Row(
        run=first.run,
        checkpoint=first.checkpoint,
        iteration=first.iteration,
        digest=first.digest,
        suite=first.suite,
        group=first.group,
        metric=first.metric,
        mean=mean,
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        correct=sum(value == 1.0 for values in samples.values() for value in values) if scale.boolean else None,
        asked=len(part),
        scored=outcomes["scored"],
        failed=outcomes["failed"],
        truncated=outcomes["truncated"],
        questions=len(samples),
        proof=None if first.digest == "" else proofs.get((first.run, first.digest), "unproven"),
    )
