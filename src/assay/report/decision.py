"""Which checkpoint to ship, by which rule, what it costs against the base, and what it can't be told apart from.

Everything is paired on samples and errs against the checkpoint:

- A sample that the base has no score for is left out on both sides; how many, the notes say.
- A sample that the base has a score for and the checkpoint was asked but has none (failed, truncated) counts as the
  metric's worst value: lost where the base was right, not gained where it was wrong.
- Only a checkpoint that was shown to be live can be best.
- One metric a group decides: the first one in the order of the cells.
- Checkpoints are ranked on samples that all of them were asked. One that misses a sample that more than half of them
  were asked is left out instead (an interrupted run must not shrink the comparison to what its last checkpoint got
  to). What a checkpoint lost is counted on all samples that it shares with the base.
- In the tests that name ties, a rival's unfinished samples count as equal: a failure of the engine proves nothing.
- p-values are not corrected for multiple testing, and the best of many looks better than it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias, cast

from assay.report.grid import Grid, Key, Subject, grid_of
from assay.report.rows import GroupChange, Proofs, called, in_order, listed
from assay.results.stats import ALPHA, sign_flip_p
from assay.types import Cell, Goal, Json

Rule: TypeAlias = Literal["goal", "base stands", "highest mean", "lowest mean", "none"]
_ALONE = "There is only the base."
_EPSILON = 1e-9  # means that are equal on paper may differ by rounding


@dataclass(frozen=True, slots=True)
class Rival:
    """Another candidate of the rule that spoke.

    difference: how far the best one is ahead by the rule's criterion, as a share of the metrics' range, or in the unit of a
    metric without bounds. p: two-sided, paired on the criterion's samples. tied: p >= 0.05, so these samples do not separate
    the two.
    """

    checkpoint: str
    iteration: int
    digest: str
    difference: float
    p: float
    tied: bool


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A checkpoint that could not be best, and why."""

    checkpoint: str
    iteration: int
    digest: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for one run and suite.

    checkpoint, iteration, digest: of the best one; "base", 0 and "" where the base stands; None where nothing can be
    decided. rule: which one spoke. reason: one sentence. compared: how many samples the ranking used. changes: against
    the base, by group; empty for the base itself. complete: everybody was asked the same and all has a score.
    """

    run: str
    suite: str
    checkpoint: str | None
    iteration: int | None
    digest: str | None
    rule: Rule
    reason: str
    compared: int
    changes: tuple[GroupChange, ...] = ()
    rivals: tuple[Rival, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    complete: bool = True
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Json]:
        """Plain values for JSON, under the fields' names."""
        return cast("dict[str, Json]", asdict(self))

    def lines(self) -> list[str]:
        """The decision as text: `label: words`, and under `vs base` one group a line. Of a base alone there is none."""
        notes = [f"note: {note}" for note in self.notes]
        if self.reason == _ALONE:
            return notes
        names = self._names()
        best = "undecided" if self.checkpoint is None else names[self.checkpoint, self.digest or ""]
        lines = [f"best: {best}. {self.reason}"]
        width = max((len(change.group) for change in self.changes), default=0)
        numbers = max((len(change.fractions) for change in self.changes), default=0)
        for label, change in zip(["vs base: ", *["         "] * len(self.changes)], self.changes, strict=False):
            lines.append(f"{label}{change.group:<{width}}  {change.fractions:>{numbers}}  {change.effect}".rstrip())
        tied = [names[rival.checkpoint, rival.digest] for rival in self.rivals if rival.tied]
        noun = "sample" if self.compared == 1 else "samples"
        if tied:
            lines.append(f"tied: {self.compared} paired {noun} cannot separate it from {listed(tied)} (p ≥ {ALPHA}).")
        apart = [rival for rival in self.rivals if not rival.tied]
        if apart:
            ahead = listed([f"{names[rival.checkpoint, rival.digest]} (p = {rival.p:.2g})" for rival in apart])
            lines.append(f"ahead of: {ahead}, not corrected for the number of comparisons.")
        reasons: dict[str, list[str]] = {}
        for one in self.excluded:
            reasons.setdefault(one.reason, []).append(names[one.checkpoint, one.digest])
        lines.extend(f"not eligible: {listed(who)}: {reason}." for reason, who in reasons.items())
        return lines + notes

    def _names(self) -> dict[tuple[str, str], str]:
        """What each one is called by (checkpoint, digest)."""
        places = [(self.checkpoint, self.digest or "")] if self.checkpoint is not None else []
        places += [(rival.checkpoint, rival.digest) for rival in self.rivals]
        places += [(exclusion.checkpoint, exclusion.digest) for exclusion in self.excluded]
        return called(places)


@dataclass(frozen=True, slots=True)
class _Choice:
    """What a rule says. rivals: whom the best one is tested against, on `keys`. unfit: whom the rule turned down."""

    best: Subject | None
    rule: Rule
    reason: str
    rivals: tuple[Subject, ...] = ()
    keys: frozenset[Key] = frozenset()
    unfit: tuple[Exclusion, ...] = ()


def _excluded(one: Subject, reason: str) -> Exclusion:
    return Exclusion(one.label, one.iteration, one.digest, reason)


def decide(cells: Iterable[Cell], proofs: Proofs, goal: Goal | None, groups: Sequence[str] = ()) -> Decision:
    """The best checkpoint of one run under one suite.

    By the goal: the one that gains most on the `improve` groups (mean over groups of the mean paired difference to the
    base, as a share of the metric's range) among those whose mean gets worse by at most `tolerance` (in the metric's unit)
    on each `keep` group. Where those gain nothing, the base stands. A goal without `improve` means all groups.
    Where no checkpoint qualifies, the goal cannot be applied, or there is none: the highest mean over groups, the base
    included; of a loss the lowest. A metric without bounds is averaged with no other one. Ties go to the earlier one, and so
    to the base first. `groups` gives the order of the groups. Raises ValueError for cells of several runs or suites.
    """
    cells = list(cells)
    if len({(cell.run, cell.suite) for cell in cells}) > 1:
        raise ValueError("a decision is about the cells of one run and one suite")
    if not cells:
        return Decision("", "", None, None, None, "none", "Nothing has been evaluated.", 0)
    grid = grid_of(cells, proofs, groups)
    kept, common, partial = _common(grid)
    choice = _choose(grid, kept, common, goal)
    best, base = choice.best, grid.base
    changes: list[GroupChange] = []
    if best is not None and base is not None and best is not base:
        shared = [grid.shared(best, group) for group in grid.metrics]
        changes = [grid.change(base, best, keys) for keys in shared if keys]
    unproven = [_excluded(one, "the adapter was not shown to be live") for one in grid.unproven]
    notes, complete = _notes(cells, grid, common)
    return Decision(
        run=cells[0].run,
        suite=cells[0].suite,
        checkpoint=best.label if best else None,
        iteration=best.iteration if best else None,
        digest=best.digest if best else None,
        rule=choice.rule,
        reason=choice.reason,
        compared=len(choice.keys),
        changes=tuple(changes),
        rivals=tuple(_rival(grid, best, rival, choice.keys) for rival in choice.rivals if best and rival is not best),
        excluded=(*unproven, *partial, *choice.unfit),
        complete=complete,
        notes=notes,
    )


def _common(grid: Grid) -> tuple[tuple[Subject, ...], frozenset[Key], list[Exclusion]]:
    """Who is ranked, on which samples, and who is left out for having been asked too few."""
    asked = Counter(key for one in grid.live for key in one.cells if key in grid.pool)
    core = {key for key, count in asked.items() if 2 * count > len(grid.live)}
    kept = tuple(one for one in grid.live if core <= one.cells.keys()) or grid.live
    common = grid.pool.intersection(*(one.cells.keys() for one in kept))
    partial = [
        _excluded(one, f"asked only {len(core & one.cells.keys())} of the {len(core)} samples that most were asked")
        for one in grid.live
        if one not in kept
    ]
    return kept, common, partial


def _choose(grid: Grid, kept: tuple[Subject, ...], common: frozenset[Key], goal: Goal | None) -> _Choice:
    """The rule that applies, and what it says."""
    if not grid.live:
        alone = _ALONE if not grid.unproven else "No checkpoint was shown to be live."
        return _Choice(None, "none", alone)
    if not common:
        return _Choice(None, "none", "There is no sample that all can be compared on.")
    if not any(one.scored(key) for one in kept for key in common):
        return _Choice(None, "none", "No checkpoint has a score of any sample that all were asked.")
    if goal is None or not (goal.improve or goal.keep):
        return _by_mean(grid, kept, common, "no goal is set")
    improve = goal.improve or tuple(grid.metrics)
    lacking = [name for name in improve if not any(key[0] == name for key in common)]
    if grid.base is None:
        return _by_mean(grid, kept, common, "the goal needs scores of the base")
    if lacking:
        return _by_mean(grid, kept, common, f"the goal needs samples of {listed(lacking)} that all were asked")
    if grid.boundless(improve):
        return _by_mean(grid, kept, common, "the goal's groups to improve have several metrics")
    return _by_goal(grid, grid.base, kept, common, goal)


def _by_goal(grid: Grid, base: Subject, kept: tuple[Subject, ...], common: frozenset[Key], goal: Goal) -> _Choice:
    faults = [_unfit(grid, base, one, goal) for one in kept]
    unfit = tuple(_excluded(one, fault) for one, fault in zip(kept, faults, strict=True) if fault)
    fit = tuple(one for one, fault in zip(kept, faults, strict=True) if not fault)
    within = f" within {goal.tolerance:g}" if goal.tolerance else ""
    keeping = f"keep{'s' if len(fit) < 2 else ''} {listed(goal.keep)}{within}" if goal.keep else "could be compared"
    if not fit:
        return _by_mean(grid, kept, common, f"no checkpoint {keeping}", unfit)
    improve = tuple(in_order(goal.improve or grid.metrics))
    keys = frozenset(key for key in common if key[0] in improve)
    best = max(fit, key=lambda one: grid.mean(one, keys))  # the first of equals: the earlier one
    if grid.mean(best, keys) <= grid.mean(base, keys):
        those = f"Of the {_share(fit, kept)} that {keeping}, none gains anything"
        who = those if len(fit) > 1 else f"The only checkpoint that {keeping} gains nothing"
        return _Choice(base, "base stands", f"{who} on {listed(improve)}.", fit, keys, unfit)
    parts = {group: [key for key in grid.shared(best, group) if key in keys] for group in improve}
    gains = listed([f"{group} ({grid.change(base, best, part).fractions})" for group, part in parts.items()])
    if len(fit) > 1:
        reason = (
            f"It gains most on {gains} among the {_share(fit, kept)} that {keeping}{_equals(grid, best, fit, keys)}."
        )
    else:
        reason = f"It gains on {gains} and is the only checkpoint that {keeping}."
    return _Choice(best, "goal", reason, (base, *fit), keys, unfit)


def _share(fit: Sequence[Subject], kept: Sequence[Subject]) -> str:
    return f"{len(fit)} of {len(kept)} checkpoints" if len(fit) < len(kept) else f"{len(fit)} checkpoints"


def _by_mean(
    grid: Grid, kept: tuple[Subject, ...], common: frozenset[Key], why: str, unfit: tuple[Exclusion, ...] = ()
) -> _Choice:
    """By the mean over all groups, where there is one. unfit: whom the goal turned down, who may be best here nevertheless."""
    groups = [group for group in grid.metrics if any(key[0] == group for key in common)]
    if boundless := grid.boundless(groups):
        metrics = listed(list(dict.fromkeys(grid.metrics[group] for group in groups)))
        said = f"{_capital(why)}, and no mean can be taken over {metrics}: {boundless} has no bounds."
        return _Choice(None, "none", said, unfit=unfit)
    field = (grid.base, *kept) if grid.base else kept
    best = max(field, key=lambda one: grid.mean(one, common))  # the first of equals: the earlier one
    unit = all((scale.low, scale.high) == (0, 1) for scale in grid.scales.values())
    unlike = "" if unit else ", each as a share of its metric's range"
    mean = f"the highest mean over {listed(groups)} ({grid.mean(best, common):.3f}{unlike})"
    rule: Rule = "highest mean"
    if lone := grid.lone(groups):
        rule = "lowest mean" if lone.lower_is_better else rule
        value = lone.of_merit(grid.mean(best, common))
        mean = f"the {rule} {grid.metrics[groups[0]]} over {listed(groups)} ({value:.4g})"
    reason = f"It has {mean}{_equals(grid, best, field, common)}; {why}."
    return _Choice(best, rule, reason, field, common)


def _capital(clause: str) -> str:
    return clause[:1].upper() + clause[1:]


def _equals(grid: Grid, best: Subject, field: Sequence[Subject], keys: Collection[Key]) -> str:
    same = sum(grid.mean(one, keys) == grid.mean(best, keys) for one in field)
    return f", the earliest of {same} that do equally well" if same > 1 else ""


def _unfit(grid: Grid, base: Subject, subject: Subject, goal: Goal) -> str:
    """How this checkpoint fails to keep what the goal wants kept; empty where it does not fail."""
    faults = []
    for group in goal.keep:
        keys = grid.shared(subject, group)
        if not keys:
            faults.append(f"{group} (nothing to compare)")
        elif (change := grid.change(base, subject, keys)).worse > goal.tolerance + _EPSILON:
            open_ones = f"; {len(change.unfinished)} without a score" if change.unfinished else ""
            faults.append(f"{group} ({change.fractions}{open_ones})")
    return f"does not keep {listed(faults)}" if faults else ""


def _rival(grid: Grid, best: Subject, rival: Subject, keys: Collection[Key]) -> Rival:
    """Weighs each sample as the criterion does: groups count the same, however many samples they have.

    A sample that the rival has no score for moves the criterion, but is no evidence against the rival: in the test it
    counts as equal. One that the best has no score for is evidence against the best.
    """
    counts = grid.shares(sorted(keys))
    shares = {key: (grid.unit(best, key) - grid.unit(rival, key)) * share for key, share in counts.items()}
    p = sign_flip_p(share for key, share in shares.items() if share < 0 or rival.scored(key))
    return Rival(rival.label, rival.iteration, rival.digest, sum(shares.values()), p, p >= ALPHA)


def _answers(cells: Iterable[Cell]) -> int:
    """How many answers they are of: each has a cell under every metric, and one question may have several answers."""
    most: dict[tuple[str, ...], int] = {}
    for (*answer, _), count in Counter(
        (cell.run, cell.checkpoint, cell.digest, cell.group, cell.sample, cell.metric) for cell in cells
    ).items():
        most[tuple(answer)] = max(most.get(tuple(answer), 0), count)
    return sum(most.values())


def _notes(cells: Sequence[Cell], grid: Grid, common: Collection[Key]) -> tuple[tuple[str, ...], bool]:
    """What limits the comparison, and whether nothing does."""
    notes = []
    tuned = (*grid.live, *grid.unproven)
    subjects = (*tuned, *([grid.base] if grid.base else []))
    asked = {key for one in subjects for key in one.cells}
    failed, truncated = (_answers(cell for cell in cells if cell.outcome == out) for out in ("failed", "truncated"))
    unfinished = failed + truncated
    if unfinished:
        counts = f"{failed} failed and {truncated} truncated of {_answers(cells)} answers"
        worst = "highest" if all(scale.lower_is_better for scale in grid.scales.values()) else "lowest"
        lowest = f"; where the base has a score, a checkpoint without one counts as {worst}" if tuned else ""
        notes.append(f"incomplete: {counts}{lowest}.")
    if not tuned:
        return tuple(notes), not unfinished
    if grid.base is None:
        notes.append("the base has no scores here, so nothing says what a checkpoint gained or lost.")
    elif missing := sum(not grid.base.scored(key) for key in grid.base.cells):
        notes.append(f"{missing} of {len(grid.base.cells)} samples are left out: the base has no score for them.")
    if grid.live and len(common) < len(grid.pool):
        notes.append(
            f"ranked on {len(common)} of {len(grid.pool)} samples, those that every ranked checkpoint was asked."
        )
    even = all(len(one.cells) == len(asked) for one in subjects)
    return tuple(notes), not unfinished and even
