"""`assay score` as a user runs it: lines in order, averages, what is wrong with a file, and judges that cost something."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from assay.results.journal import read
from assay.results.records import AnswerScored, Failure, ScoreMade
from tests.cli.running import (
    ASSAY,
    GIVEN,
    SEMANTIC,
    STANDARD,
    Calls,
    assay,
    bad,
    jsonl,
    lines,
    score_keys,
    script,
    standard_judge,
)
from tests.conftest import ROOT
from tests.making import written

WORKSPACE = "assay-results"
SHARED = ROOT.parent / "shared" / "data"
JUDGE = ("--judge", "scripted:judge.yaml")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the answers of two models and a judge for them."""
    jsonl(tmp_path / "a.jsonl", [{**record, "model": model} for model in ("old", "new") for record in STANDARD])
    standard_judge(tmp_path / "judge.yaml")
    return tmp_path


def questions(count: int) -> list[dict[str, str]]:
    return [
        {"id": f"q{n:02}", "prompt": f"Question {n:02}?", "response": f"Answer number {n:02}."} for n in range(count)
    ]


def rows(done: subprocess.CompletedProcess[str]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(row["model"], row["suite"], row["metric"]): row for row in json.loads(done.stdout)}


def test_every_answer_gets_the_scores_that_its_fields_call_for_in_input_order(place: Path) -> None:
    done = assay(
        place, "score", "a.jsonl", "--suite", "heuristic,exact", "--suite", "standard", *JUDGE, "-o", "s.jsonl"
    )
    assert done.returncode == 0, done.stderr
    found = lines(place / "s.jsonl")
    assert [(line["id"], line["model"]) for line in found] == [(r["id"], m) for m in ("old", "new") for r in STANDARD]
    assert all(list(line)[:4] == ["id", "model", "scores", "failures"] for line in found)
    assert all(line["failures"] == [] for line in found)
    assert all(line["scores"]["heuristic"]["empty_broken"] == 0 for line in found)
    by_id = {line["id"]: line for line in found[:6]}
    assert by_id["t1"]["scores"]["heuristic"]["emotional_register"] == 2
    assert by_id["g1"]["scores"]["exact"] == {"correct": True, "extracted": "5"}
    assert by_id["g2"]["scores"]["exact"] == {"correct": False, "extracted": "7"}
    assert "exact" not in by_id["t1"]["scores"]
    assert by_id["g2"]["scores"]["standard"] == {"correct": False, "extracted": "7"}
    for name, given in GIVEN.items():
        assert by_id[name]["scores"]["standard"] == given
    assert by_id["x1"]["group"] == "toxigen"


def test_averages_a_model_with_intervals_and_counts(place: Path) -> None:
    done = assay(place, "score", "a.jsonl", "--suite", "exact,standard", *JUDGE)
    head, *body = done.stdout.splitlines()
    assert head.split() == ["suite", "metric", "old", "new"]
    assert "exact" in body[0]
    assert "50% [9%–91%] (n=2)" in body[0], "Wilson's interval of one in two"
    assert any(line.split()[:3] == ["kindness", "8.00", "(n=1)"] for line in body)
    count = len((place / "a.jsonl").read_text().splitlines())
    assert f"no watch is running; {count} answers from files" in assay(place, "status").stdout
    found = rows(assay(place, "score", "a.jsonl", "--suite", "exact,standard", *JUDGE, "--json", "--run", "mine"))
    row = found["new", "exact", "correct"]
    assert (row["run"], row["mean"], row["correct"], row["asked"], row["scored"]) == ("mine", 0.5, 1, 2, 2)
    assert (row["low"], row["high"]) == (pytest.approx(0.0945, abs=1e-4), pytest.approx(0.9055, abs=1e-4))
    assert found["old", "standard", "kindness"]["correct"] is None
    assert (row["failed"], row["truncated"]) == (0, 0)


@pytest.mark.parametrize("columns", ["", "60", "120"])
def test_each_suite_stands_in_one_place_and_no_line_is_too_wide(place: Path, columns: str) -> None:
    """Answers that come in turns would have their metrics in turns, too."""
    names = [f"checkpoint-{n}" for n in range(4)]
    jsonl(place / "a.jsonl", [{**record, "model": model} for record in STANDARD for model in names])
    done = assay(place, "score", "a.jsonl", "--suite", "standard,exact,heuristic", *JUDGE, columns=columns)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= int(columns or 80)
    parts = done.stdout.split("\n\n")
    assert len(parts) == {"": 4, "60": 4, "120": 2}[columns]
    assert [name for part in parts for name in part.splitlines()[0].split()[2:]] == names
    for part in parts:
        assert re.findall(r"^\S+", part, re.MULTILINE)[1:] == ["standard", "exact", "heuristic"]
        assert part.count("50% [9%–91%] (n=2)") == 2 * (len(part.splitlines()[0].split()) - 2)
    assert assay(place, "report", columns=columns).stdout == done.stdout


def test_semantic_is_for_every_answer_and_content_for_content(place: Path) -> None:
    script(place / "all.yaml", [{"contains": "ccp_compliance", "answer": GIVEN["c1"]}], default=SEMANTIC)
    done = assay(
        place, "score", "a.jsonl", "--suite", "semantic,content", "--judge", "scripted:all.yaml", "-o", "s.jsonl"
    )
    assert done.returncode == 0, done.stderr
    for line in lines(place / "s.jsonl"):
        assert line["scores"]["semantic"] == SEMANTIC
        assert line["scores"].get("content") == (GIVEN["c1"] if line["id"] == "c1" else None)


def test_a_rubric_of_ones_own(place: Path) -> None:
    rubric = (
        "name: brevity\nversion: 1\ninputs: {question: prompt, answer: answer}\ndimensions:\n  brevity:\n"
        '    range: [1, 10]\n    asks: Is it short?\n    anchors: {"1": long, "10": short}\n'
    )
    written(place / "brevity.yaml", rubric)
    script(place / "any.yaml", [], default={"brevity": 4})
    words = ("score", "a.jsonl", "--suite", "brevity.yaml", "--judge", "scripted:any.yaml")
    assert rows(assay(place, *words, "--json"))["old", "brevity", "brevity"]["mean"] == 4
    written(place / "brevity.yaml", rubric[: rubric.index("dimensions")] + "dimensions: {}\n")
    assert "brevity.yaml:4: the rubric has no dimensions" in bad(place, *words)


def test_what_is_cut_off_is_counted_apart(place: Path) -> None:
    jsonl(
        place / "a.jsonl",
        [
            {
                "id": "a",
                "prompt": "1+1?",
                "response": "Let me see. 1",
                "correct_answer": "2",
                "finish_reason": "length",
            },
            {"id": "b", "prompt": "1+1?", "response": "<think>so 1 and 1", "correct_answer": "2"},
            {"id": "c", "prompt": "1+1?", "response": "<think>or 3</think>#### 2", "correct_answer": "2"},
        ],
    )
    done = assay(place, "score", "a.jsonl", "--suite", "exact", "-o", "s.jsonl", "--json")
    assert done.returncode == 0, "cut off is no fault of the scoring"
    row = rows(done)["", "exact", "correct"]
    assert (row["mean"], row["asked"], row["scored"], row["failed"], row["truncated"]) == (1.0, 3, 1, 0, 2)
    assert [line["failures"][0]["error_class"] for line in lines(place / "s.jsonl")[:2]] == ["truncated"] * 2
    assert "2 truncated" in assay(place, "score", "a.jsonl", "--suite", "exact").stdout


def test_bad_lines_are_named_counted_and_with_strict_the_end(place: Path) -> None:
    first, last = (json.dumps({"id": name, "prompt": "Q", "response": "An answer."}) for name in "az")
    written(place / "b.jsonl", f'{first}\n{{"id": "b", "prompt": "Q"}}\n{{oops\n{last}\n')
    done = assay(place, "score", "b.jsonl", "-o", "s.jsonl")
    assert done.returncode == 1
    assert "b.jsonl:2: no 'response'" in done.stderr
    assert "b.jsonl:3: not valid JSON" in done.stderr
    assert "2 lines could not be read" in done.stderr
    assert "(n=2)" in done.stdout
    assert [line["id"] for line in lines(place / "s.jsonl")] == ["a", "z"]
    assert "b.jsonl:2: no 'response'" in bad(place, "score", "b.jsonl", "--strict", "-o", "t.jsonl")
    assert sorted(p.name for p in place.glob("t.jsonl*")) == [], "a file that isn't whole is not there"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone.jsonl"], "gone.jsonl: there is no such file"),
        (["http://a.example/x.jsonl"], "http://a.example/x.jsonl is an address; answers are read from files"),
        (["prose.jsonl"], "prose.jsonl:1: not valid JSON"),
        (["noprompt.jsonl"], "noprompt.jsonl:1: no 'prompt'"),
        (["noresponse.jsonl"], "noresponse.jsonl:1: no 'response'"),
        (["a.jsonl", "--suite", "exacct"], "no suite or scorer 'exacct'; did you mean 'exact'?"),
        (["a.jsonl", "--suite", ","], "--suite names no suite"),
        (["a.jsonl", "--suite", "semantic"], "the suite 'semantic' needs a judge"),
        (["a.jsonl", "--suite", "standard"], "the suite 'standard' needs a judge for the rubric 'truthfulqa'"),
        (["a.jsonl", "--suite", "mine.yaml", *JUDGE], "mine.yaml: there is no such file"),
        (["a.jsonl", "--limit", "0"], "--limit 0"),
        (["a.jsonl", "--limit", "-1"], "--limit -1"),
        (["a.jsonl", "--votes", "0", "--suite", "semantic", *JUDGE], "--votes 0"),
        (["a.jsonl", "-o", "no/such/s.jsonl"], "no/such/s.jsonl cannot be written"),
        (["a.jsonl", "-o", "folder"], "folder is a folder"),
        (["a.jsonl", "-o", "a.jsonl"], "a.jsonl holds the answers"),
        (["a.jsonl", "--run", "a\nb"], "can't be shown"),
        (["a.jsonl", "--run", ""], "the run's name '' can't be shown"),
        (["a.jsonl", "--suite", "semantic", "--judge", "scripted:gone.yaml"], "the script gone.yaml cannot be read"),
    ],
)
def test_bad_input_gets_one_sentence(place: Path, words: list[str], said: str) -> None:
    written(place / "prose.jsonl", "Once upon a time.\n")
    jsonl(place / "noprompt.jsonl", [{"id": "a", "response": "R"}])
    jsonl(place / "noresponse.jsonl", [{"id": "a", "prompt": "P"}])
    (place / "folder").mkdir()
    before = (place / "a.jsonl").read_bytes()
    assert said in bad(place, "score", *words)
    assert (place / "a.jsonl").read_bytes() == before
    assert list(place.rglob("*.part")) == []


def test_a_suite_that_fits_no_answer_is_said(place: Path) -> None:
    jsonl(place / "q.jsonl", questions(2))
    done = assay(place, "score", "q.jsonl", "--suite", "exact,heuristic")
    assert done.returncode == 1, "the table has what the other suite scored"
    assert "assay: exact scored nothing: no answer has correct_answer" in done.stderr
    assert "heuristic" not in done.stderr
    gone = {"custom_id": "b1", "response": None, "error": {"code": "batch_expired", "message": "Too late."}}
    jsonl(place / "batch.jsonl", [gone])
    done = assay(place, "score", "batch.jsonl", "--suite", "exact", "-o", "s.jsonl")
    assert (done.returncode, done.stdout) == (2, ""), "no suite fits"
    assert "(transient; b1): the request failed: Too late." in done.stderr
    assert "assay: exact scored nothing: no answer has correct_answer" in done.stderr
    (failure,) = lines(place / "s.jsonl")[0]["failures"]
    assert (failure["suite"], failure["reason"]) == ("", "the request failed: Too late.")


def test_limit(place: Path) -> None:
    assert assay(place, "score", "a.jsonl", "--limit", "3", "-o", "s.jsonl").returncode == 0
    assert [line["id"] for line in lines(place / "s.jsonl")] == ["g1", "g2", "t1"]


def test_a_judge_that_fails_is_counted_and_never_a_zero(place: Path) -> None:
    jsonl(place / "q.jsonl", questions(5))
    rules = [{"contains": "Answer number 01.", "fail": "error"}, {"contains": "Answer number 03.", "answer": "Nice!"}]
    script(place / "some.yaml", rules, default=SEMANTIC)
    done = assay(
        place, "score", "q.jsonl", "--suite", "semantic", "--judge", "scripted:some.yaml", "-o", "s.jsonl", "--json"
    )
    assert done.returncode == 1
    row = rows(done)["", "semantic", "sovereignty"]
    assert (row["mean"], row["asked"], row["scored"], row["failed"]) == (5.0, 5, 3, 2)
    found = lines(place / "s.jsonl")
    assert [bool(line["failures"]) for line in found] == [False, True, False, True, False]
    assert {f["metric"] for f in found[1]["failures"]} == set(SEMANTIC)
    assert all("sovereignty" not in line["scores"]["semantic"] for line in (found[1], found[3]))
    assert "on purpose" in found[1]["failures"][0]["reason"]
    kept = [r for _, r in read(place / WORKSPACE) if isinstance(r, Failure)]
    assert {(r.sample, r.stage) for r in kept} == {("q01", "score"), ("q03", "score")}


def test_questions_that_were_asked_in_vain_are_counted_and_no_judge_sees_them(place: Path) -> None:
    gone = {"id": "q9", "prompt": "Question 09?", "correct_answer": "9", "error": {"message": "Busy."}, "status": 503}
    jsonl(place / "q.jsonl", [gone, *({**question, "correct_answer": "0"} for question in questions(2))])
    script(place / "all.yaml", [{"contains": "Question 09?", "fail": "error"}], default=SEMANTIC)
    words = ("score", "q.jsonl", "--suite", "exact,semantic", "--judge", "scripted:all.yaml")
    for strict in ((), ("--strict",)):
        done = assay(place, *words, "-o", "s.jsonl", "--json", *strict)
        assert done.returncode == 1
    for row in rows(done).values():
        assert (row["asked"], row["scored"], row["failed"]) == (3, 2, 1)
    reason = "the request failed with HTTP 503: Busy."
    assert f"assay: semantic: 1 without a score (transient; q9): {reason}" in done.stderr
    assert "could not be read" not in done.stderr
    line = lines(place / "s.jsonl")[0]
    assert line["scores"] == {"exact": {}, "semantic": {}}
    assert {(f["error_class"], f["reason"]) for f in line["failures"]} == {("transient", reason)}
    table = assay(place, *words).stdout
    assert "exact     correct              50% [9%–91%] (n=2, 1 failed)" in table
    assert table in assay(place, "report").stdout
    kept = [r for _, r in read(place / WORKSPACE) if isinstance(r, Failure)]
    assert {(r.sample, r.stage, r.reason) for r in kept} == {("q9", "generate", reason)}


def test_a_second_run_asks_the_judge_nothing_and_failures_are_asked_again(place: Path) -> None:
    jsonl(place / "q.jsonl", questions(4))
    calls = Calls(place / "c.yaml", [f"Answer number {n:02}." for n in range(4)], SEMANTIC)
    words = ("score", "q.jsonl", "--suite", "semantic", "--judge", "scripted:c.yaml", "-o")
    calls.allow(calls.marks[:3])
    first = assay(place, *words, "one.jsonl")
    assert first.returncode == 1, "the fourth call fails"
    calls.allow(calls.marks[3:])  # a call about one of the others would fail
    assert assay(place, *words, "two.jsonl").returncode == 0
    calls.allow([])
    third = assay(place, *words, "three.jsonl")
    assert third.returncode == 0, third.stderr
    assert calls.failed() == set()
    assert (place / "three.jsonl").read_bytes() == (place / "two.jsonl").read_bytes()
    assert set(score_keys(place / WORKSPACE).values()) == {1}


def test_equal_answers_to_a_question_share_a_call(place: Path) -> None:
    same = [{"id": "q", "prompt": "Q?", "response": "The same.", "model": m} for m in ("one", "two", "three")]
    jsonl(place / "q.jsonl", same)
    calls = Calls(place / "c.yaml", ["The same."], SEMANTIC)
    calls.allow(["The same."])
    done = assay(place, "score", "q.jsonl", "--suite", "semantic", "--judge", "scripted:c.yaml", "--json")
    assert {model for model, _, _ in rows(done)} == {"one", "two", "three"}
    kept = [r for _, r in read(place / WORKSPACE) if isinstance(r, ScoreMade)]
    assert len({r.key for r in kept}) == 1
    assert len(kept) == 3 * len(SEMANTIC)


def test_killed_half_way_no_finished_call_is_repeated(place: Path) -> None:
    asked = questions(12)
    jsonl(place / "q.jsonl", asked)
    calls = Calls(place / "c.yaml", [r["response"] for r in asked], SEMANTIC, seconds=0.02)
    words = ["score", "q.jsonl", "--suite", "semantic", "--judge", "scripted:c.yaml", "-o", "s.jsonl"]
    calls.allow(calls.marks)
    assert assay(place, *words, "--workspace", "whole").returncode == 0
    undisturbed = (place / "s.jsonl").read_bytes()
    (place / "s.jsonl").unlink()

    calls.allow(calls.marks)
    job = subprocess.Popen([ASSAY, *words], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(score_keys(place / WORKSPACE)) < 5 * len(SEMANTIC) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert not (place / "s.jsonl").exists(), "the file is whole or not there"
    made = [r for _, r in read(place / WORKSPACE) if isinstance(r, ScoreMade)]
    finished = {r.sample for r in made if sum(s.sample == r.sample for s in made) == len(SEMANTIC)}
    assert 5 <= len(finished) < 12

    calls.allow(r["response"] for r in asked if r["id"] not in finished)
    again = assay(place, *words)
    assert again.returncode == 0, "a finished call was repeated"
    assert (place / "s.jsonl").read_bytes() == undisturbed
    assert set(score_keys(place / WORKSPACE).values()) == {1}
    assert score_keys(place / WORKSPACE).keys() == score_keys(place / "whole").keys()


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_keeps_what_was_earned(place: Path) -> None:
    jsonl(place / "q.jsonl", questions(20))
    script(place / "slow.yaml", [{"contains": "", "answer": SEMANTIC, "seconds": 0.1}])
    words = ["score", "q.jsonl", "--suite", "semantic", "--judge", "scripted:slow.yaml", "-o", "s.jsonl"]
    job = subprocess.Popen(
        [ASSAY, *words],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A background job's children ignore Ctrl-C, and so would this one where the tests run as such.
        preexec_fn=_hear_interrupts,
    )
    deadline = time.monotonic() + 60
    while len(score_keys(place / WORKSPACE)) < 2 * len(SEMANTIC) and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 130
    assert "the same command goes on from here" in err
    assert "Traceback" not in err
    assert list(place.glob("s.jsonl*")) == []
    assert len(score_keys(place / WORKSPACE)) >= 2 * len(SEMANTIC)


def test_an_unreachable_judge_is_exit_code_3_with_the_command_to_go_on(place: Path) -> None:
    words = ["score", "a.jsonl", "--suite", "exact,semantic", "--judge", "http://127.0.0.1:1/v1#m", "-o", "s.jsonl"]
    done = assay(place, *words)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "nothing was earned yet" in done.stderr
    assert f"to try again: assay {' '.join(words[:5])} 'http://127.0.0.1:1/v1#m' -o s.jsonl" in done.stderr
    assert done.stdout == assay(place, "score", "a.jsonl", "--suite", "exact").stdout, "what needs no judge is scored"
    assert list(place.glob("s.jsonl*")) == []


def test_what_was_read_off_the_text_is_in_the_journal(place: Path) -> None:
    assay(place, "score", "a.jsonl", "--suite", "exact")
    kept = [r for _, r in read(place / WORKSPACE) if isinstance(r, AnswerScored)]
    assert [(r.run, r.sample, r.model, r.line) for r in kept[:2]] == [("a", "g1", "old", 1), ("a", "g2", "old", 2)]
    assert kept[0].scores == {"exact": {"correct": True, "extracted": "5"}}
    count = json.loads(assay(place, "query", "select count(*) as n from answers", "--json").stdout)
    assert count == [{"n": 4}], "one for each answer with a correct_answer"


@pytest.mark.skipif(not (SHARED / "lek_expected.jsonl").is_file(), reason="the shared corpus is not on this machine")
def test_all_values_of_the_corpus_are_as_expected(place: Path) -> None:
    done = assay(place, "score", str(SHARED / "responses.jsonl"), "--suite", "heuristic,exact", "-o", "s.jsonl")
    assert done.returncode == 0, done.stderr
    found, expected = lines(place / "s.jsonl"), lines(SHARED / "lek_expected.jsonl")
    assert len(found) == len(expected) == 600
    for line, value in zip(found, expected, strict=True):
        assert (line["id"], line["model"]) == (value["id"], value["model"])
        assert line["scores"]["heuristic"] == value["heuristic"]
        verdict = value.get("exact")
        assert ("exact" in line["scores"]) == (verdict is not None)
        if verdict is not None:
            assert line["scores"]["exact"] == {"correct": verdict["correct"], "extracted": verdict["extracted"]}


def test_output_goes_to_what_is_there_already(place: Path) -> None:
    jsonl(place / "q.jsonl", questions(3))
    written(place / "real.jsonl", "old\n")
    (place / "link.jsonl").symlink_to("real.jsonl")
    assert assay(place, "score", "q.jsonl", "-o", "link.jsonl").returncode == 0
    assert (place / "link.jsonl").is_symlink()
    assert len((place / "real.jsonl").read_text().splitlines()) == 3
    os.mkfifo(place / "pipe")
    reader = subprocess.Popen(["cat", "pipe"], cwd=place, stdout=subprocess.PIPE)
    assert assay(place, "score", "q.jsonl", "-o", "pipe").returncode == 0
    assert len(reader.communicate(timeout=20)[0].splitlines()) == 3
    assert (place / "pipe").is_fifo()


def test_answers_come_through_a_pipe_too(place: Path) -> None:
    jsonl(place / "q.jsonl", questions(3))
    with (place / "q.jsonl").open() as file:
        whole = subprocess.run(
            ["bash", "-c", f"cat | {ASSAY} score /dev/stdin --json"],
            cwd=place,
            stdin=file,
            capture_output=True,
            text=True,
        )
    assert whole.returncode == 0, whole.stderr
    assert json.loads(whole.stdout)[0]["scored"] == 3


def piped(place: Path, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ASSAY, *words], cwd=place, input=text, capture_output=True, text=True, timeout=60)


def test_a_dash_is_standard_input_and_standard_output(place: Path) -> None:
    text = (place / "a.jsonl").read_text()
    whole = assay(place, "score", "a.jsonl", "--suite", "exact", "-o", "s.jsonl", columns="")
    done = piped(place, text, "score", "-", "--suite", "exact", "-o", "-")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (place / "s.jsonl").read_text()
    assert done.stderr == whole.stdout, "the table"
    assert {r.source for _, r in read(place / WORKSPACE) if isinstance(r, AnswerScored)} == {
        "a.jsonl",
        "standard input",
    }
    table = piped(place, "id,prompt,response,correct_answer\n1,2+3?,5,5\n", "score", "-", "--suite", "exact", "--json")
    (row,) = json.loads(table.stdout)
    assert (row["run"][:6], row["correct"]) == ("stdin-", 1), "other answers have a run of their own"


def test_what_is_wrong_with_standard_input_is_told_of_it(place: Path) -> None:
    good = json.dumps(STANDARD[0]) + "\n"
    done = piped(place, good + "nonsense\n", "score", "-", "--suite", "exact")
    assert done.returncode == 1
    assert "assay: standard input:2: not valid JSON" in done.stderr
    for text, said in (("", "standard input: the file is empty"), ("nonsense\n", "standard input:1: not valid JSON")):
        done = piped(place, text, "score", "-")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"assay: {said}")
    closed = subprocess.run(["bash", "-c", f"{ASSAY} score - <&-"], cwd=place, capture_output=True, text=True)
    assert (closed.returncode, closed.stderr) == (2, "assay: there is no standard input; name a file\n")
    assert "-o - and --json would both write to standard output" in bad(place, "score", "a.jsonl", "-o", "-", "--json")
