"""Means in every store: to the last digit what the journal's own view says."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from msgspec import structs

from assay.job import Job
from assay.results.lens import Lens
from assay.results.records import Finished, Summary
from assay.sinks.duckdb import DuckDBSink
from assay.sinks.facts import group_facts
from assay.sinks.forwarding import forward
from assay.sinks.influx import InfluxSink
from assay.suites.suite import load_suite
from tests.making import SUITE, written
from tests.sinks.facts import about
from tests.sinks.servers import influx1
from tests.test_watch import job, run

__all__ = ["job"]

# Of three in a group two are right, and of four in all three.
THIRDS = SUITE.replace("name: small", "name: thirds").replace("id: c, group: old", "id: c, group: new")


async def test_means_are_those_of_the_journals_own_view_to_the_last_digit(job: Job, tmp_path: Path) -> None:
    job = replace(job, suites=(load_suite(written(tmp_path / "thirds.yaml", THIRDS)),), every=30)
    await run(job)
    with influx1(tmp_path / "influx") as influx:
        sinks: list[Any] = [DuckDBSink("duckdb", tmp_path / "r.duckdb"), InfluxSink("influx", influx.url, "training")]
        await forward(job.workspace, sinks, lambda text: None)
        points = influx.ask("select mean, \"group\" from suite_score where label = 'lab @30'", "training")
    query = "select \"group\", mean from {} where checkpoint = 'lab @30'"
    with Lens(job.workspace) as lens:
        own = dict(lens.query(query.format("checkpoint_scores")).rows)
    with duckdb.connect(tmp_path / "r.duckdb", read_only=True) as db:
        assert dict(db.execute(query.format("groups")).fetchall()) == own == {"new": 2 / 3, "old": 1.0}
    assert {point["group"]: point["mean"] for point in points} == {**own, "overall": 0.75}


@pytest.mark.parametrize("correct", [None, 2])
def test_a_mean_over_all_groups_is_that_of_all_samples(correct: int | None) -> None:
    """A journal of before has means of 13 digits; what was right or wrong is counted."""
    part = Summary(group="new", metric="m", mean=0.6666666666667, correct=correct, asked=3, scored=3)
    other = structs.replace(part, group="old", mean=1.0, correct=None if correct is None else 1, asked=1, scored=1)
    finished = Finished(
        run="lab", checkpoint="lab @10", iteration=10, digest="d", identity="i", suite="s", suite_version=1,
        suite_digest="s", limit=0, asked=4, scored=4, failed=0, truncated=0, seconds=0.0, summaries=(part, other),
    )  # fmt: skip
    means = [fact.mean for fact in group_facts(about(), finished, {}, True)]
    if correct is not None:
        assert means == [2 / 3, 1.0, 0.75]
    else:
        assert means[:2] == [0.6666666666667, 1.0]
        assert math.isclose(means[2] or 0, 0.75, rel_tol=1e-12)
