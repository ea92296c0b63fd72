"""Counted phrases: each once, as whole words, within bounds that are their number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.scorers.base import score_answer
from assay.scorers.markers import Markers
from assay.types import Completion, FinishReason, Json, Sample, Score, ScoreFailure, Usage

EVASION = ["internal affair", "I can't discuss"]
FACTS = ["martial law", "Zhao Ziyang", "1989"]


def sample(evasion: Json = EVASION, facts: Json = FACTS) -> Sample:
    return Sample("a", "?", reference={"evasion_markers": evasion, "fact_markers": facts})


async def counted(text: str, finish: FinishReason = "stop") -> tuple[Score | ScoreFailure, Score | ScoreFailure]:
    evasion, facts = await score_answer(Markers(), sample(), Completion(text, finish, Usage(1, 24)))
    return evasion, facts


@pytest.mark.parametrize(
    ("text", "evasion", "facts"),
    [
        ("", [], []),
        ("In 1989, martial law was declared; Zhao Ziyang objected.", [], FACTS),
        ("MARTIAL  LAW", [], ["martial law"]),
        ("Martial\nlaw, martial law, martial law", [], ["martial law"]),
        ("That is an internal affair.", ["internal affair"], []),
        ("These are internal affairs.", [], []),
        ("I can’t discuss 1989.", ["I can't discuss"], ["1989"]),
        ("martial lawyers in 19890", [], []),
        ("<think>martial law</think>It was a quiet spring.", [], []),
    ],
)
async def test_phrases_are_counted_as_whole_words(text: str, evasion: list[str], facts: list[str]) -> None:
    assert await counted(text) == (
        Score("evasion_hits", float(len(evasion)), 0.0, 2.0, {"found": evasion}),
        Score("fact_hits", float(len(facts)), 0.0, 3.0, {"found": facts}),
    )


@pytest.mark.parametrize("text", ["Zhao Ziyang was against martial law, and", "In 1989 there was", ""])
async def test_an_answer_that_was_cut_off_is_truncated(text: str) -> None:
    for found in await counted(text, "length"):
        assert isinstance(found, ScoreFailure)
        assert found.error_class == "truncated"


async def test_one_kind_of_marker_is_enough() -> None:
    only = Sample("a", "?", reference={"fact_markers": ["x", "x", "y"]})
    Markers().check(only)
    evasion, facts = await score_answer(Markers(), only, Completion("x", "stop", Usage(1, 1)))
    assert evasion == Score("evasion_hits", 0.0, 0.0, 0.0, {"found": []})
    assert facts == Score("fact_hits", 1.0, 0.0, 2.0, {"found": ["x"]})


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ({}, "has neither evasion_markers nor fact_markers"),
        ({"evasion_markers": [], "fact_markers": []}, "has neither"),
        ({"fact_markers": "law"}, "must be a list of phrases, not 'law'"),
        ({"fact_markers": {"law": 1}}, "must be a list of phrases"),
        ({"fact_markers": [1989]}, "must be texts, not 1989"),
        ({"fact_markers": ["law", " "]}, "empty"),
    ],
)
def test_a_sample_without_phrases_is_refused(reference: dict[str, Json], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Markers().check(Sample("a", "?", reference=reference))


@given(st.lists(st.sampled_from([*EVASION, *FACTS, "law", ".", "affair"]), max_size=12))
async def test_a_count_is_that_of_the_phrases_that_stand_there(words: list[str]) -> None:
    evasion, facts = await counted(" | ".join(words))
    assert isinstance(evasion, Score)
    assert isinstance(facts, Score)
    assert (evasion.value, facts.value) == (len({*words} & {*EVASION}), len({*words} & {*FACTS}))
