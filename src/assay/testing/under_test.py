"""What the contract is held against, and how its tests are run."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from assay.models.base import TextModel
from assay.types import Adapter, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderTest:
    """A model, and what must be known of it to test it.

    open: opens it; asked several times, and what it gives is closed each time. other: opens one with other weights; None
    for a remote model, whose identity is only declared.
    prompts: three or more with different greedy answers. long: one whose greedy answer goes on for 100 tokens or more.
    spelled: one whose greedy answer has a character of several tokens, such as an emoji; None where each token is a whole
    character or more. failing: one at which the model fails in mid-answer; None where none is known to.
    samples: whether temperature changes answers.
    adapters: two or more that fit and change the answers to `prompts`. misfit: one for another base; None if all are taken.
    switches: how many answers are asked for under changing adapters. seconds: what a test may take; more is a hang.
    """

    open: Callable[[], Awaitable[TextModel]]
    other: Callable[[], Awaitable[TextModel]] | None = None
    prompts: Sequence[Prompt]
    long: Prompt
    spelled: Prompt | None = None
    failing: Prompt | None = None
    samples: bool = True
    adapters: Sequence[Adapter] = ()
    misfit: Adapter | None = None
    switches: int = 1000
    seconds: float = 300.0


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """The test as a plain function, which runs in the loop that its model was opened in, and not for ever."""

    @functools.wraps(test)
    def run(self: object, runner: asyncio.Runner, under_test: UnderTest, **fixtures: Any) -> None:
        if "under_test" in wanted:
            fixtures["under_test"] = under_test

        async def bounded() -> None:
            async with asyncio.timeout(under_test.seconds):
                await test(self, **fixtures)

        runner.run(bounded())

    signature = inspect.signature(test)
    wanted = signature.parameters
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
        for name in ("runner", "under_test")
        if name not in wanted
    ]
    run.__signature__ = signature.replace(parameters=[*wanted.values(), *added])  # type: ignore[attr-defined]
    return run
