"""Was there an answer at all? What is known of one that only a judge can score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.types import Completion, Json, Sample, Score, ScoreFailure


class Answered:
    """1.0 for an answer, 0.0 for an empty one: a number, for it says nothing of right and wrong, and decides nothing."""

    name: str = "answered"
    version: int = 1
    needs_whole_answer: bool = False
    metrics: tuple[str, ...] = ("answered",)

    def __init__(self) -> None:
        self.parameters: Mapping[str, Json] = {}

    def check(self, sample: Sample) -> None:
        """Every sample will do."""

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        return [Score("answered", float(bool(completion.text.strip())), 0.0, 1.0)]
