"""What a decision looks at: base and checkpoints, side by side on the same samples under each group's deciding metric."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

from assay.report.rows import GroupChange, Proofs, Scale, closed_scale, in_order, value_of
from assay.results.means import Means
from assay.results.stats import wilson
from assay.results.weighted import weighted_change
from assay.types import Cell

Key: TypeAlias = tuple[str, str]  # group, sample


@dataclass(frozen=True, slots=True)
class Subject:
    """The base or a checkpoint, with its cells by group and sample (several where a sample was repeated)."""

    label: str
    iteration: int
    digest: str
    cells: Mapping[Key, list[Cell]]

    def value(self, key: Key, scale: Scale) -> float:
        return fmean(value_of(cell) if cell.outcome == "scored" else scale.worst for cell in self.cells[key])

    def scored(self, key: Key) -> bool:
        return all(cell.outcome == "scored" for cell in self.cells[key])


@dataclass(frozen=True, slots=True)
class Grid:
    """All subjects of one run and suite under each group's deciding metric. The base is None if it has no score.

    metrics: from each group to its deciding one, in the groups' order. weights: of samples whose scores have one. pool: what
    can be compared: what the base has a score for; without a base, everything.
    """

    metrics: Mapping[str, str]
    scales: Mapping[str, Scale]
    weights: Mapping[Key, float]
    base: Subject | None
    live: tuple[Subject, ...]
    unproven: tuple[Subject, ...]
    pool: frozenset[Key]

    def unit(self, subject: Subject, key: Key) -> float:
        """How good a value is: as a share of its metric's range, so that groups of different metrics can be averaged."""
        scale = self.scales[key[0]]
        return scale.merit(subject.value(key, scale))

    def mean(self, subject: Subject, keys: Collection[Key]) -> float:
        """The mean over groups of the groups' means, rounded so that equal ones compare as equal."""
        shares = self.shares(keys)
        return round(math.fsum(share * self.unit(subject, key) for key, share in shares.items()), 12)

    def shares(self, keys: Collection[Key]) -> dict[Key, float]:
        """What each sample counts in `mean`: groups count the same, and within a group samples do, or as they weigh."""
        totals: dict[str, float] = {}
        for key in keys:
            totals[key[0]] = totals.get(key[0], 0.0) + self.weights.get(key, 1.0)
        return {key: self.weights.get(key, 1.0) / totals[key[0]] / len(totals) for key in keys}

    def lone(self, groups: Collection[str]) -> Scale | None:
        """The scale of these groups' one metric, if it has no bounds: means are in its own unit then, and no shares."""
        scales = [self.scales[group] for group in groups]
        alike = len({self.metrics[group] for group in groups}) == 1
        return scales[0] if alike and scales[0].open else None

    def boundless(self, groups: Collection[str]) -> str:
        """A metric that has no bounds, so that it can't be averaged with the others of these groups; "" if all is well."""
        several = len({self.metrics[group] for group in groups}) > 1
        return next((self.metrics[group] for group in groups if several and self.scales[group].open), "")

    def shared(self, subject: Subject, group: str) -> list[Key]:
        """What this checkpoint and the base can be compared on in one group, in the suite's order."""
        return [key for key in subject.cells if key[0] == group and key in self.pool]

    def change(self, base: Subject, subject: Subject, keys: Sequence[Key]) -> GroupChange:
        """One group's change; all `keys`, at least one, are of that group."""
        group, scale = keys[0][0], self.scales[keys[0][0]]
        before = [base.value(key, scale) for key in keys]
        after = [subject.value(key, scale) for key in keys]
        gains = [(a - b if scale.lower_is_better else b - a) for a, b in zip(before, after, strict=True)]
        lost = tuple(key[1] for key, gain in zip(keys, gains, strict=True) if gain < 0)
        known = sum(value > 0 for value in before) if scale.boolean else None
        old, new = fmean(before), fmean(after)
        differences = [b - a for a, b in zip(before, after, strict=True)]
        difference = fmean(differences)
        if scale.weighted:
            weights = [self.weights.get(key, 1.0) for key in keys]
            moved = weighted_change(before, after, weights, geometric=scale.geometric)
            old, new, interval = moved.old, moved.new, moved.interval
            difference = new - old
        elif known is not None:
            interval = wilson(len(lost), known)
        else:
            interval = Means.of(differences).number_interval(-scale.span, scale.span, varied=scale.varied)
        low, high = interval or (None, None)
        return GroupChange(
            group=group,
            metric=self.metrics[group],
            samples=len(keys),
            base_mean=old,
            mean=new,
            difference=difference,
            known=known,
            lost=lost,
            gained=tuple(key[1] for key, gain in zip(keys, gains, strict=True) if gain > 0),
            unfinished=tuple(key[1] for key in keys if not subject.scored(key)),
            low=low,
            high=high,
            lower_is_better=scale.lower_is_better,
            geometric=scale.geometric,
        )


def grid_of(cells: Sequence[Cell], proofs: Proofs, groups: Sequence[str]) -> Grid:
    """The grid of one run and suite; there is at least one cell. groups: their order."""
    first: dict[str, str] = {}
    for cell in cells:
        first.setdefault(cell.group, cell.metric)
    deciding = [cell for cell in cells if cell.metric == first[cell.group]]
    parts: dict[tuple[int, str, str], dict[Key, list[Cell]]] = {}
    for cell in deciding:
        part = parts.setdefault((cell.iteration, cell.checkpoint, cell.digest), {})
        part.setdefault((cell.group, cell.sample), []).append(cell)
    subjects = [Subject(name, step, digest, part) for (step, name, digest), part in parts.items()]
    subjects.sort(key=lambda one: one.iteration)
    base = next((one for one in subjects if not one.digest), None)
    tuned = [one for one in subjects if one.digest]
    live = tuple(one for one in tuned if proofs.get((cells[0].run, one.digest)) == "live")
    pool = frozenset(key for key in base.cells if base.scored(key)) if base else frozenset()
    scales = {metric: closed_scale([cell for cell in deciding if cell.metric == metric]) for metric in first.values()}
    return Grid(
        metrics={group: first[group] for group in in_order(first, groups) if group in first},
        scales={group: scales[metric] for group, metric in first.items()},
        weights={(cell.group, cell.sample): cell.weight for cell in deciding if cell.weight is not None},
        base=base if pool else None,
        live=live,
        unproven=tuple(one for one in tuned if one not in live),
        pool=pool or frozenset(key for one in live for key in one.cells),
    )
