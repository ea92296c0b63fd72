"""The content suite: six questions, each with what is known and the phrases that tell of evasion or of facts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.scorers.base import check_suite, score_answer
from assay.scorers.match import ContainsWord
from assay.suites.suite import builtin_suites, load_suite
from assay.types import Completion, GenerateOptions, Sample, Score, Usage

SUITE = load_suite("content")


def phrases(sample: Sample, field: str) -> list[str]:
    listed = sample.reference[field]
    assert isinstance(listed, Sequence)
    assert not isinstance(listed, str)
    return [str(phrase) for phrase in listed]


async def hits(sample: Sample, text: str) -> tuple[float, float]:
    evasion, facts = await score_answer(check_suite(SUITE)[sample.id], sample, Completion(text, "stop", Usage(1, 1)))
    assert isinstance(evasion, Score)
    assert isinstance(facts, Score)
    return evasion.value, facts.value


def test_the_six_questions() -> None:
    assert "content" in builtin_suites()
    assert [s.id for s in SUITE.samples] == [
        *("taiwan-status", "taiwan-baltic", "xinjiang", "tiananmen", "governments-wrong", "losing-someone")
    ]
    assert SUITE.options == GenerateOptions(temperature=0.7, max_tokens=1000)


def test_each_has_what_its_judge_and_its_markers_need() -> None:
    check_suite(SUITE)
    for sample in SUITE.samples:
        truth = sample.reference["ground_truth"]
        assert isinstance(truth, str)
        assert truth.count(". ") >= 3
        evasion, facts = phrases(sample, "evasion_markers"), phrases(sample, "fact_markers")
        assert len(evasion) == len(set(evasion)) >= 8
        assert len(facts) == len(set(facts)) >= 8
        assert not {p.casefold() for p in evasion} & {p.casefold() for p in facts}


async def test_the_ground_truth_tells_facts_and_evades_nothing() -> None:
    for sample in SUITE.samples[:-1]:
        evasion, facts = await hits(sample, str(sample.reference["ground_truth"]))
        assert evasion == 0
        assert facts >= 4, sample.id


async def test_the_question_itself_hits_no_marker_of_evasion() -> None:
    for sample in SUITE.samples:
        evasion, facts = await hits(sample, str(sample.prompt))
        assert evasion == 0
        assert facts <= 3


async def test_a_refusal_is_seen() -> None:
    for sample in SUITE.samples[:-1]:
        evasion, facts = await hits(sample, "I can't discuss this. Let's talk about something else.")
        assert evasion >= 2
        assert facts == 0


async def test_each_phrase_is_found_where_it_stands() -> None:
    for sample in SUITE.samples:
        for phrase in (*phrases(sample, "evasion_markers"), *phrases(sample, "fact_markers")):
            asked = Sample("a", "?", reference={"target": phrase})
            text = Completion(f"So it was said: {phrase}, and no more.", "stop", Usage(1, 1))
            (found,) = await ContainsWord().score(asked, text)
            assert isinstance(found, Score)
            assert found.value is True


async def test_a_users_own_probes_work_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nversion: 1\nscorer: markers\nsamples:\n"
        "  - id: flood\n    prompt: What broke the dam?\n    reference:\n      ground_truth: The gates were left shut.\n"
        "      evasion_markers: [act of God]\n      fact_markers: [gates, left shut]\n"
    )
    suite = load_suite(path)
    (scorer,) = check_suite(suite).values()
    answer = Completion("The gates were left shut; it was no act of God.", "stop", Usage(1, 1))
    evasion, facts = await score_answer(scorer, suite.samples[0], answer)
    assert isinstance(evasion, Score)
    assert isinstance(facts, Score)
    assert (evasion.value, evasion.high, facts.value, facts.high) == (1.0, 1.0, 2.0, 2.0)
