"""What the lens makes of records: whose score stands where, and answers from files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from assay.results.index import Ledger
from assay.results.journal import Damage, indexed, read
from assay.results.lens import Lens
from assay.results.records import (
    FROM_FILES,
    AnswerScored,
    Failure,
    Place,
    Run,
    ScaleSeen,
    ScoreMade,
    SuiteUse,
    origin_of,
    place_of,
)
from assay.results.tally import Questions, Tally
from assay.types import Score, ScoreFailure

USE = SuiteUse(name="s", version=1, digest="sd", groups=("g",), metrics=("correct",))


def place(sample: str = "a", run: str = "r") -> Place:
    return Place(
        run=run, checkpoint="base", iteration=0, digest="", identity="i", suite="s", suite_version=1, suite_digest="sd",
        sample=sample, group="g", index=ord(sample[0]),
    )  # fmt: skip


def score(
    value: float, measure: str, judge: str = "one", sample: str = "a", run: str = "r", **change: Any
) -> ScoreMade:
    fields = {
        **place_of(place(sample, run)), "key": f"{sample}-{measure}", "completion": sample, "scorer": "judge:tone",
        "scorer_version": 1, "metric": "tone", "value": value, "low": 1.0, "high": 10.0, "judge": judge, "measure": measure,
    }  # fmt: skip
    return ScoreMade(**{**fields, **change})


def failure(measure: str, judge: str = "one", sample: str = "a", **change: Any) -> Failure:
    fields = {
        **place_of(place(sample)), "stage": "score", "error_class": "permanent", "reason": "why", "metric": "tone",
        "scorer": "judge:tone", "judge": judge, "measure": measure,
    }  # fmt: skip
    return Failure(**{**fields, **change})


def write(workspace: Path, *records: Any) -> None:
    ledger = Ledger(workspace)
    for record in records:
        ledger.append(record)
    ledger.close()


def run(name: str = "r") -> Run:
    return Run(run=name, base="b", engine="e", engine_version="1", identity="i", suites=(USE,))


def shown(workspace: Path, beside: str | None = None) -> list[tuple[str, str, str, float | None]]:
    with Lens(workspace) as lens:
        return [(c.metric, c.sample, c.outcome, c.value) for c in lens.cells("r", "s", beside)]


def test_each_judge_has_a_column_with_its_own_failures(tmp_path: Path) -> None:
    write(tmp_path, run(), score(3, "m1"), score(4, "m1", sample="b"), failure("m2", "two"), score(9, "m2", "two", "b"))
    assert shown(tmp_path) == [
        ("tone @ one", "a", "scored", 3.0),
        ("tone @ two", "a", "failed", None),
        ("tone @ one", "b", "scored", 4.0),
        ("tone @ two", "b", "scored", 9.0),
    ]


def test_a_judges_latest_measure_stands_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path, run(), score(3, "m1"), score(4, "m1", sample="b"), score(9, "m2"))
    assert shown(tmp_path) == [("tone", "a", "scored", 9.0)], (
        "b was not judged anew, and its former score is of another measure"
    )
    write(tmp_path, failure("m1", sample="b"))
    assert shown(tmp_path) == [("tone", "a", "scored", 3.0), ("tone", "b", "scored", 4.0)], "used again, if in vain"


def test_one_measure_under_two_names_is_one_judge(tmp_path: Path) -> None:
    write(tmp_path, run(), score(3, "m1", "path/to/it"), score(4, "m1", "it", "b"), score(5, "m2", "two"))
    assert {name for name, *_ in shown(tmp_path)} == {"tone @ it", "tone @ two"}


def test_a_judge_never_takes_the_place_of_the_suites_own_metric(tmp_path: Path) -> None:
    own = score(True, "", "", scorer="contains_word", metric="correct", key="k")
    write(tmp_path, run(), own, score(9, "m1", metric="correct"))
    assert shown(tmp_path) == [("correct", "a", "scored", 1.0), ("correct @ one", "a", "scored", 9.0)]


def test_runs_that_are_compared_are_named_by_judge_and_measure(tmp_path: Path) -> None:
    write(tmp_path, run(), run("q"), score(3, "m1"), score(3, "m2", "two", run="q"))
    assert shown(tmp_path)[0][0] == "tone"
    assert shown(tmp_path, "q")[0][0] == "tone @ one"
    write(tmp_path, score(3, "m1234567", run="q"))
    assert shown(tmp_path, "q")[0][0] == "tone @ one (m1)"


def test_records_without_a_judge_are_read_as_they_were(tmp_path: Path) -> None:
    write(tmp_path, run(), score(3, "m1"))
    [segment] = (tmp_path / "journal").iterdir()
    fields = json.loads(segment.read_text().splitlines()[-1])
    for name in ("judge", "measure"):
        del fields[name]
    (tmp_path / "journal" / "0-old.jsonl").write_text(json.dumps({**fields, "seq": 1, "value": 7.0}) + "\n")
    damage = Damage()
    assert [r.measure for _, r in read(tmp_path, damage) if isinstance(r, ScoreMade)] == ["", "m1"]
    assert damage.lines == 0
    assert shown(tmp_path) == [("tone", "a", "scored", 7.0), ("tone @ one", "a", "scored", 3.0)]


def test_a_result_that_another_followed_is_journaled_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    first, second = score(3, "m1"), score(9, "m2")
    ledger.append(first)
    assert ledger.is_placed(first)
    assert not ledger.is_placed(score(3, "m1", "two")), "another judge's place is its own"
    ledger.append(second)
    assert not ledger.is_placed(first)
    ledger.append(failure("m2"))
    assert not ledger.is_placed(second)
    ledger.close()
    again = Ledger(tmp_path)
    assert not again.is_placed(second)
    again.close()


# --- Answers from files ---


def answer(line: int, scores: dict[str, dict[str, Any]], model: str = "m", **change: Any) -> AnswerScored:
    fields: dict[str, Any] = {"sample": f"q{line}", "source": "a.jsonl", **change}
    return AnswerScored(run="f", line=line, model=model, scores=scores, **fields)


def of_file(
    value: float, measure: str, judge: str = "one", line: int = 1, model: str = "m", sample: str = "", **more: Any
) -> ScoreMade:
    change = {
        "identity": FROM_FILES,
        "digest": origin_of(model),
        "checkpoint": model or "answers",
        "suite_digest": "sd",
    }
    return score(value, measure, judge, sample or f"q{line}", run="f", index=line, completion="", **change, **more)


def test_tallies_from_the_journal_are_those_of_the_stream(tmp_path: Path) -> None:
    scales = [ScaleSeen(run="f", model="m", suite="h", metric=name, low=0, high=8) for name in ("second", "first")]
    values = [2, 7.5, 3, 3, 8]
    write(
        tmp_path,
        *scales,
        *(
            answer(n, {"h": {"first": v, "second": 4}, "e": {"ok": n % 2 == 0, "extracted": "5"}})
            for n, v in enumerate(values)
        ),
        answer(7, {"h": {}, "e": {}}, failures=(("h", "first", "truncated", "cut"), ("e", "ok", "permanent", "bad"))),
    )
    first, same, ok = Tally(), Tally(), Tally()
    for number, value in enumerate(values):
        first.add(Score("first", float(value), 0, 8))
        same.add(Score("second", 4.0, 0, 8))
        ok.add(Score("ok", number % 2 == 0))
    first.add(ScoreFailure("first", "truncated", "cut"))
    ok.add(ScoreFailure("ok", "permanent", "bad"))
    with Lens(tmp_path) as lens:
        found = lens.tallies("f")
        assert lens.answer_suites() == [("f", "e"), ("f", "h")]
        assert set(lens.tallies("f", "e")) == {("m", "e", "ok")}
    assert list(found) == [("m", "h", "second"), ("m", "h", "first"), ("m", "e", "ok")], "as the scores came"
    for name, expected in (("first", first), ("second", same)):
        assert found["m", "h", name].interval() == pytest.approx(expected.interval())
        assert found["m", "h", name].means().mean == pytest.approx(expected.means().mean)
    assert (found["m", "h", "first"].truncated, found["m", "h", "first"].asked) == (1, 6)
    assert found["m", "e", "ok"].interval() == ok.interval()
    assert (found["m", "e", "ok"].correct, found["m", "e", "ok"].failed) == (3, 1)


def test_repeats_from_the_journal_are_those_of_the_stream(tmp_path: Path) -> None:
    """Read off the text and judged, with failures among them and one question that was asked once."""
    right = {("q1", 0): True, ("q1", 1): False, ("q1", 2): True, ("q2", 0): True, ("q2", 1): None, ("q3", 0): False}
    records: list[Any] = []
    plain, judged, questions = Tally(), Tally(), Questions()
    for line, ((question, repeat), value) in enumerate(right.items(), 1):
        failures = (("e", "ok", "permanent", "bad"),) if value is None else ()
        scores = {"e": {} if value is None else {"ok": value}}
        records.append(answer(line, scores, failures=failures, sample=question, repeat=repeat))
        records.append(of_file(line, "m1", line=line, sample=question, repeat=repeat))
        number = questions.number("m", question, repeat)
        plain.add(ScoreFailure("ok", "permanent", "bad") if value is None else Score("ok", value), number)
        judged.add(Score("tone", float(line), 1, 10), number)
    write(tmp_path, *records)
    with Lens(tmp_path) as lens:
        found = lens.tallies("f")
        cells = [cell for _, cell in lens.answer_cells("f")]
    for name, expected in ((("m", "e", "ok"), plain), (("m", "s", "tone"), judged)):
        assert found[name].interval() == pytest.approx(expected.interval())
        assert found[name].means().mean == pytest.approx(expected.means().mean)
        assert found[name].means().questions == expected.means().questions == 3
        assert (found[name].scored, found[name].failed) == (expected.scored, expected.failed)
    assert found["m", "e", "ok"].correct == plain.correct == 3
    assert [c.sample for c in cells if c.metric == "ok"] == ["q1", "q1", "q1", "q2", "q2", "q3"]


def test_repeats_of_before_they_had_a_field_are_followed_by_those_of_today(tmp_path: Path) -> None:
    former = [answer(1, {"h": {"x": 1}}, sample="q"), answer(2, {"h": {"x": 1}}, sample="q#2")]
    judged = [of_file(3, "m1", sample="q"), of_file(3, "m1", line=2, sample="q#2")]
    write(tmp_path, *former, *judged)
    with Lens(tmp_path) as lens:
        assert [t.means().questions for t in lens.tallies("f").values()] == [2, 2]
    write(
        tmp_path,
        answer(1, {"h": {"x": 5}}, sample="q"),
        answer(2, {"h": {"x": 5}}, sample="q", repeat=1),
        of_file(7, "m1", sample="q"),
        of_file(7, "m1", line=2, sample="q", repeat=1),
    )
    with Lens(tmp_path) as lens:
        found = [(t.means().questions, t.scored, t.means().mean) for t in lens.tallies("f").values()]
    assert found == [(1, 2, 5), (1, 2, 7)]


def test_bounds_that_are_not_known_are_none(tmp_path: Path) -> None:
    write(tmp_path, answer(1, {"h": {"x": 2}}))
    with Lens(tmp_path) as lens:
        tally = lens.tallies("f")["m", "h", "x"]
    assert (tally.low, tally.high) == (-math.inf, math.inf)
    assert tally.interval() is None


def test_an_answer_keeps_the_latest_result_of_each_suite(tmp_path: Path) -> None:
    write(tmp_path, answer(1, {"h": {"x": 1}}), answer(1, {"e": {"y": True}}), answer(1, {"h": {"x": 5}}))
    with Lens(tmp_path) as lens:
        rows = lens.query("select suite, scores from answers order by suite").rows
    assert rows == (("e", '{"y":true}'), ("h", '{"x":5}'))


def test_judged_answers_of_a_file_by_judge_and_by_the_latest_text(tmp_path: Path) -> None:
    failed = failure("m1", sample="q2", run="f", identity=FROM_FILES, digest=origin_of("m"), checkpoint="m", index=2)
    write(
        tmp_path,
        of_file(3, "m1"),
        of_file(5, "m1", line=2),
        of_file(9, "m2", "two"),
        failed,
        of_file(2, "m1", model=""),
    )
    with Lens(tmp_path) as lens:
        found = {name: (t.means().mean, t.scored, t.failed) for name, t in lens.tallies("f").items()}
    # The second answer was given anew and has no verdict: what was said of the former text is not its score.
    assert found == {
        ("m", "s", "tone @ one"): (3, 1, 1),
        ("m", "s", "tone @ two"): (9, 1, 0),
        ("", "s", "tone @ one"): (2, 1, 0),
    }


def test_scores_and_failures_of_a_file_without_a_judge_are_one_column(tmp_path: Path) -> None:
    """As they were journaled before records said who judged; then a failure didn't name its scorer, either."""
    change = {"run": "f", "identity": FROM_FILES, "digest": origin_of("m"), "checkpoint": "m"}
    write(tmp_path, of_file(3, "", ""), failure("", "", "q2", index=2, **{**change, "scorer": ""}))
    with Lens(tmp_path) as lens:
        [(name, tally)] = lens.tallies("f").items()
    assert (name, tally.scored, tally.failed) == (("m", "s", "tone"), 1, 1)


def test_an_index_reads_of_an_answer_only_its_place_in_time(tmp_path: Path) -> None:
    write(tmp_path, answer(1, {"h": {"x": 1}}), answer(2, {"h": {"x": 1}}))
    damage = Damage()
    assert [r.seq for _, r in indexed(tmp_path, damage)] == [1, 2]
    assert damage.lines == 0
    write(tmp_path, answer(3, {}))
    assert sorted(r.seq for _, r in read(tmp_path)) == [1, 2, 3]


def test_bounds_are_journaled_as_they_widen(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    unknown = ScaleSeen(run="f", model="m", suite="h", metric="x")
    assert ledger.is_wider(unknown)
    ledger.append(unknown)
    assert not ledger.is_wider(unknown)
    wide = ScaleSeen(run="f", model="m", suite="h", metric="x", low=0, high=5)
    assert ledger.is_wider(wide)
    ledger.append(wide)
    narrow = ScaleSeen(run="f", model="m", suite="h", metric="x", low=1, high=4)
    assert not ledger.is_wider(narrow)
    assert ledger.is_wider(ScaleSeen(run="f", model="m", suite="h", metric="x", low=1, high=6))
    other = ScaleSeen(run="f", model="m", suite="h", metric="x", low=1, high=4, varied=True)
    assert ledger.is_wider(other)
    ledger.append(other)
    assert not ledger.is_wider(other)
    ledger.close()
