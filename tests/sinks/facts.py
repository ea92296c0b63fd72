"""Facts as the feed makes them."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from assay.sinks.base import About, GroupFact, LossFact, SampleFact

ABOUT = About(
    run="12b", run_id="12b-capability-auto", label="G12 @0000100", tag="gemma-3-12b", iteration=100, digest="d" * 64,
    identity="i" * 64, base="models/base", engine="mlx", suite="capability", suite_version=1, suite_digest="s" * 64,
    proof="live",
)  # fmt: skip


def about(**changes: Any) -> About:
    return structs.replace(ABOUT, **changes)


def sample(**changes: Any) -> SampleFact:
    fact = SampleFact(
        about=ABOUT, sample="geometry-1", group="geometry", index=5, metric="correct", outcome="scored", seq=1,
        time=1_790_000_000.0, value=True, prompt="How many?", response="Five.",
    )  # fmt: skip
    return structs.replace(fact, **changes)


def group(**changes: Any) -> GroupFact:
    fact = GroupFact(
        about=ABOUT, group="geometry", metric="correct", seq=2, time=1_790_000_000.0, mean=0.5, asked=3, scored=2, failed=1,
        truncated=0, correct=1, position=5,
    )  # fmt: skip
    return structs.replace(fact, **changes)


def loss(**changes: Any) -> LossFact:
    fact = LossFact(
        run="12b",
        run_id="12b-capability-auto",
        tag="gemma-3-12b",
        iteration=100,
        part="val",
        value=1.25,
        seq=3,
        time=1.0,
    )
    return structs.replace(fact, **changes)
