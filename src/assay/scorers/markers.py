"""`markers`: how many of a sample's telling phrases stand in the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from assay.scorers.match import ContainsWord
from assay.types import Completion, Json, Sample, Score, ScoreFailure

# Each metric, and the reference field that lists its phrases.
_FIELDS: Mapping[str, str] = {"evasion_hits": "evasion_markers", "fact_hits": "fact_markers"}


class Markers:
    """Counts the phrases of the reference's `evasion_markers` and `fact_markers` that the answer holds.

    Metrics `evasion_hits` and `fact_hits`, each from 0 to the number of its phrases; a phrase counts once however often
    it stands there, and the score's detail names those `found`. What counts as standing there, `ContainsWord` says:
    whole words, whatever their letter case. It is a search, not a judgement: a phrase that is quoted to be refuted
    counts like any other. An answer that was cut off is truncated: what it would have gone on to say, nobody knows.
    """

    name: str = "markers"
    version: int = 1
    needs_whole_answer: bool = True
    metrics: tuple[str, ...] = tuple(_FIELDS)

    def __init__(self) -> None:
        self.parameters: Mapping[str, Json] = {}
        self._search = ContainsWord()

    def check(self, sample: Sample) -> None:
        phrases = [phrase for field in _FIELDS.values() for phrase in _phrases(sample, field)]
        if not phrases:
            raise ValueError(f"its reference has neither {' nor '.join(_FIELDS.values())}, which its scorer counts")
        for phrase in phrases:
            self._search.check(_asking(sample, phrase))

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        return [await self._count(metric, sample, completion) for metric in _FIELDS]

    async def _count(self, metric: str, sample: Sample, completion: Completion) -> Score | ScoreFailure:
        phrases = _phrases(sample, _FIELDS[metric])
        found: list[Json] = []
        for phrase in phrases:
            for result in await self._search.score(_asking(sample, phrase), completion):
                if isinstance(result, ScoreFailure):
                    return replace(result, metric=metric)
                if result.value:
                    found.append(phrase)
        return Score(metric, float(len(found)), 0.0, float(len(phrases)), {"found": found})


def _phrases(sample: Sample, field: str) -> list[str]:
    """The distinct phrases of a reference field. Raises ValueError if it is no list of texts."""
    listed = sample.reference.get(field, ())
    if isinstance(listed, (str, Mapping)) or not isinstance(listed, Sequence):
        raise ValueError(f"its {field} must be a list of phrases, not {listed!r}")
    for phrase in listed:
        if not isinstance(phrase, str):
            raise ValueError(f"its {field} must be texts, not {phrase!r}")
    return list(dict.fromkeys(str(phrase) for phrase in listed))


def _asking(sample: Sample, phrase: str) -> Sample:
    return replace(sample, reference={"target": phrase})
