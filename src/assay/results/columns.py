"""What the columns of a table are called where several judges gave a score of one name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple


class Column(NamedTuple):
    """Scores that may stand in one average. scorer, judge and measure are "" where scorers only read the text."""

    metric: str
    scorer: str
    judge: str
    measure: str

    @property
    def plain(self) -> str:
        """The metric, without the version of an edited suite that it was scored by: `clarity (e4dd4b)`."""
        return self.metric.partition(" (")[0]

    @property
    def rubric(self) -> str:
        return self.scorer.removeprefix("judge:")


# From short to certain.
_FORMS: tuple[Callable[[Column], str], ...] = (
    lambda column: column.metric,
    lambda column: f"{column.metric} @ {short(column.judge)}",
    lambda column: f"{column.metric} @ {column.judge}",
    lambda column: f"{column.metric}/{column.rubric} @ {short(column.judge)}",
    lambda column: f"{column.metric}/{column.rubric} @ {column.judge}",
    lambda column: f"{column.metric} @ {column.judge} ({column.measure[:6]})",
    lambda column: f"{column.metric}/{column.rubric} @ {column.judge} ({column.measure})",
)


def titles(columns: Iterable[Column], taken: Collection[str]) -> dict[Column, str]:
    """A title for each column, no two alike: the metric where only one judge gave it, else `METRIC @ JUDGE`.

    A judge is called by the end of its name, or by all of it where two end alike. Two rubrics with one metric are told apart
    as `METRIC/RUBRIC @ JUDGE`, two measures of one judge (a rubric that was edited, other votes) by the start of the
    measure. What was scored by an edited version of the suite names its judge where the other has to. taken: metrics that
    scorers of text have, here or elsewhere in the suite; a judge's is never called like them.
    """
    columns = list(dict.fromkeys(columns))
    found = {column: column.metric for column in columns if not column.judge}
    taken = {*taken, *found.values()}
    for metric in dict.fromkeys(column.plain for column in columns if column.judge):
        mine = [column for column in columns if column.judge and column.plain == metric]
        several = len({column.judge for column in mine}) > 1
        for form in _FORMS[several:]:
            names = [form(column) for column in mine]
            if len(set(names)) == len(mine) and not taken & set(names):
                break
        found.update(zip(mine, names, strict=True))
    return found


def short(judge: str) -> str:
    """The end of a judge's name: of a URL the model behind the #, of a file its name."""
    return judge.rpartition("#")[2].rstrip("/").rpartition("/")[2].removeprefix("scripted:") or judge
