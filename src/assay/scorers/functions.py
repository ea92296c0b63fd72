"""A plain function as a scorer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from assay.errors import BadInput
from assay.scorers.written import said, written_in
from assay.types import Completion, Json, Sample, Score, ScoreFailure

Verdict: TypeAlias = bool | float | None
# Of the answer's text, or of the sample and the text; asynchronous or not.
ScoreFunction: TypeAlias = (
    Callable[[str], Verdict | Awaitable[Verdict]] | Callable[[Sample, str], Verdict | Awaitable[Verdict]]
)


class FunctionScorer:
    """Scores by a function of the answer's text, or of the sample and the text. A `Scorer`.

    The text is the final answer, without reasoning. The function's name is the scorer's and that of its one metric. What
    it returns is the score, a boolean or a number without bounds; None is no score, and counts as failed, as do an
    exception and anything else. An answer that was cut off is not shown to it. Raises `BadInput` for what can't be called so.
    """

    version: int = 1
    needs_whole_answer: bool = True

    def __init__(self, function: ScoreFunction, name: str | None = None) -> None:
        self._function: Callable[..., Verdict | Awaitable[Verdict]] = function
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__))
        self._with_sample = _parameters(function, self.name) == 2
        self.parameters: Mapping[str, Json] = {}
        self.metrics: tuple[str, ...] = (self.name,)

    def check(self, sample: Sample) -> None: ...

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        given = (sample, completion.text) if self._with_sample else (completion.text,)
        found = self._function(*given)
        value: Any = await found if inspect.isawaitable(found) else found
        if value is None:
            return [ScoreFailure(self.name, "permanent", f"{self.name} gave no score")]
        one = value
        if not isinstance(value, bool | int | float) and hasattr(value, "item"):
            with suppress(ValueError, TypeError):  # what holds several numbers is none
                one = value.item()  # numpy's kinds of numbers and booleans
        if isinstance(one, bool):
            return [Score(self.name, one)]
        if isinstance(one, int | float):
            return [Score(self.name, float(one), -math.inf, math.inf)]
        wrong = f"{self.name}{written_in(self._function)} returned {said(value)}; it may return True, False, a number or None"
        return [ScoreFailure(self.name, "permanent", wrong)]


def _parameters(function: object, name: str) -> int:
    """How many arguments the function takes: 1 or 2."""
    if not callable(function):
        raise BadInput(f"a scorer must be a name, a scorer or a function, not {name}")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions don't tell
        return 1
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in positional if p.default is p.empty]
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters) or len(needed) > 2:
        raise BadInput(f"{name} can't score: a function takes the answer's text, or the sample and the text")
    if not positional and not several:
        raise BadInput(f"{name} can't score: a function takes the answer's text, or the sample and the text")
    return max(1, len(needed))
