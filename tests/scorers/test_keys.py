"""What decides a score is in its key, and nothing else is; and what stands at a place is known by it."""

from __future__ import annotations

from pathlib import Path

from assay.results.index import Ledger
from assay.results.records import Place
from assay.scorers.judge import Judge
from assay.scorers.keys import key_of, records_of
from assay.scorers.match import ContainsWord
from assay.scorers.rubric_file import load_rubric
from assay.types import FinishReason, Message, Prompt, Sample, Score, ScoreFailure
from tests.scorers.judges import Seeded

SAMPLE = Sample("s", "?", reference={"target": "7"})
PLACE = Place(
    **{"run": "r", "checkpoint": "base", "iteration": 0, "digest": "", "identity": "i", "suite": "s"},
    **{"suite_version": 1, "suite_digest": "d", "sample": "s", "group": "all", "index": 0},
)


def key(text: str, finish: FinishReason = "stop") -> str:
    return key_of(ContainsWord(), SAMPLE, text, finish)


def test_an_answer_has_one_key_whatever_was_thought_before_it() -> None:
    assert key("<think>8?</think>7") == key("<think>9? No.</think>7") == key("7")
    assert key("<think>8?</think>7") != key("<think>8?</think>8")
    assert key("7") != key("7", "length")


def test_reasoning_without_an_answer_has_no_answers_key() -> None:
    cut = key("<think>8?", "length")
    assert cut not in (key("<think>8?"), key("<think>9?", "length"), key("8?", "length"), key("", "length"))
    assert cut == key("<think>8?", "length")


def test_a_score_takes_the_place_of_a_failure_under_the_same_key(tmp_path: Path) -> None:
    # An answer that was taken for a truncated one, and no longer is.
    scorer = ContainsWord()
    same = key("7")
    ledger = Ledger(tmp_path)
    try:
        (failure,) = records_of(scorer, same, PLACE, "", [ScoreFailure("correct", "truncated", "cut off")])
        assert not ledger.is_placed(failure)
        ledger.append(failure)
        assert ledger.is_placed(failure)
        (score,) = records_of(scorer, same, PLACE, "", [Score("correct", True)])
        assert not ledger.is_placed(score)
        ledger.append(score)
        assert ledger.is_placed(score)
        assert not ledger.is_placed(failure)
    finally:
        ledger.close()


def test_a_judges_key_has_what_it_is_shown_and_nothing_else() -> None:
    judge = Judge(Seeded({}), load_rubric("truthfulqa"))

    def of(prompt: Prompt = "Is it?", **reference: str) -> str:
        return key_of(judge, Sample("s", prompt, reference=reference), "No.", "stop")

    known = of(best_answer="It is not.")
    assert of(best_answer="It is not.", risk_area="none", correct_answer="7") == known
    assert of([Message("user", "Is it?")], best_answer="It is not.") == known
    assert len({known, of(best_answer="It is."), of("Was it?", best_answer="It is not."), of()}) == 4
