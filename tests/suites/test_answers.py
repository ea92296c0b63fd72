"""Answers that already exist: assay's own JSON lines, and what holds for every format."""

from __future__ import annotations

import gzip
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.errors import BadInput, SuiteError
from assay.suites.answers import Answered, BadLine, NoAnswer, answers_of, read_answers
from assay.suites.formats import records
from assay.suites.formats.seen import Seen
from assay.types import Message

CORPUS = Path(__file__).parents[2].parent / "shared" / "data" / "responses.jsonl"

GOOD = {"id": "a", "model": "m", "prompt": "Hi", "response": "Ho"}


def lines(path: Path, *records: dict[str, Any] | str | bytes) -> Path:
    """A file with one line for each record."""
    raw = [r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in records]
    path.write_bytes(b"\n".join(raw) + b"\n")
    return path


def everything(path: Path, **options: Any) -> tuple[list[Answered], list[BadLine]]:
    bad: list[BadLine] = []
    return list(read_answers(path, on_bad=bad.append, **options)), bad


@pytest.mark.skipif(not CORPUS.is_file(), reason="the shared corpus is not beside this checkout")
def test_the_corpus_is_read_whole() -> None:
    answers, bad = everything(CORPUS)
    records = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    assert not bad
    assert [(a.id, a.model, a.text, a.sample.prompt, a.line) for a in answers] == [
        (r["id"], r["model"], r["response"], r["prompt"], n) for n, r in enumerate(records, start=1)
    ]
    for name in ("domain", "correct_answer", "best_answer", "risk_area"):
        assert [a.sample.reference.get(name) for a in answers] == [r.get(name) for r in records]
    assert [a.sample.metadata for a in answers] == [{"elapsed_seconds": r["elapsed_seconds"]} for r in records]


def test_a_record_becomes_a_sample_and_an_answer(tmp_path: Path) -> None:
    record = {
        **GOOD,
        "finish_reason": "max_tokens",
        "domain": "gsm8k",
        "correct_answer": 50,
        "target": 7.0,
        "best_answer": None,
        "risk_area": "none",
        "reference": {"hint": "x"},
        "elapsed_seconds": 1.5,
    }
    (found,), _ = everything(lines(tmp_path / "a.jsonl", record))
    assert (found.id, found.model, found.text, found.finish_reason) == ("a", "m", "Ho", "length")
    assert found.sample.reference == {
        "domain": "gsm8k",
        "correct_answer": "50",
        "target": "7",
        "risk_area": "none",
        "hint": "x",
    }
    assert (found.sample.group, found.sample.metadata) == ("gsm8k", {"elapsed_seconds": 1.5})


def test_other_names_for_prompt_and_response(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    path = lines(
        tmp_path / "a.jsonl",
        {"question": "Hi", "output": "Ho", "answer": "42"},
        {"messages": turns, "completion": ""},
        {"instruction": "Hi", "input": "there", "output": "Ho"},
        {"prompt": "Hi", "question": "ignored", "response": "Ho", "output": "ignored"},
    )
    answers, bad = everything(path)
    assert [a.id for a in answers] == ["1", "2", "4"]
    assert (answers[0].sample.prompt, answers[0].text, answers[0].model) == ("Hi", "Ho", "")
    assert answers[0].sample.metadata == {"answer": "42"}, "what a data set calls its answer is no model's response"
    assert answers[1].sample.prompt == (Message("system", "Be brief."), Message("user", "Hi"))
    assert answers[1].text == "", "an empty answer is an answer"
    assert answers[2].sample.metadata == {"question": "ignored", "output": "ignored"}
    assert [str(b) for b in bad] == [
        f"{path}:3: instruction and input could each be the prompt; name one of them 'prompt'"
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"id": "b", "prompt": "Hi"', "not valid JSON"),
        ("[1]", "not a JSON object but a list"),
        ("plain text", "not valid JSON"),
        ({"id": "b", "prompt": "Hi"}, "no 'response'; there are: "),
        ({"id": "b", "response": "Ho"}, "no 'prompt', nor another field that could be it"),
        ({"prompt": "Hi", "response": None}, "response holds nothing: there is no answer"),
        ({"prompt": "Hi", "response": None, "error": 0}, "response holds nothing: there is no answer"),
        ({"prompt": "Hi", "response": None, "output": "Ho"}, "response holds nothing: there is no answer"),
        ({"prompt": "Hi", "error": None}, "no 'response'; there are: prompt, error"),
        ("{}", "no 'response', nor another field that could be it"),
        ({"prompt": "Hi", "response": 7}, "response must be text, not the number 7"),
        ({"prompt": [], "response": "Ho"}, "prompt must be text or a list of messages"),
        ({"prompt": [{"role": "robot", "content": ""}], "response": "Ho"}, "unknown role 'robot'"),
        ({**GOOD, "id": 1.5}, "id must be text or a whole number, not the number 1.5"),
        (b'{"prompt": "Hi", "response": "a\0b"}', "not valid JSON: Invalid control character"),
        ({**GOOD, "id": [1]}, "id must be text or a whole number, not a list"),
        ({**GOOD, "model": 7}, "model must be text, not the number 7"),
        ({**GOOD}, "a second answer of the model 'm' under the id 'a'"),
        (b'{"prompt": "Hi", "response": "\xff"}', "not UTF-8 text"),
        (b'{"prompt": "Hi", "response": "\\ud800"}', "half of a surrogate pair"),
        (b'{"x": ' + b"[" * 100_000, "nested too deeply"),
        ({"custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": {}}, "give the batch's output"),
    ],
)
def test_one_bad_line_is_told_of_and_the_others_go_on(
    tmp_path: Path, line: dict[str, Any] | str | bytes, sentence: str
) -> None:
    path = lines(tmp_path / "a.jsonl", GOOD, b"  ", line, {**GOOD, "id": "z"})
    answers, bad = everything(path)
    assert [a.id for a in answers] == ["a", "z"]
    assert [b.place.line for b in bad] == [3]
    assert str(bad[0]).startswith(f"{path}:3: ")
    assert sentence in str(bad[0])
    with pytest.raises(SuiteError) as caught:
        list(read_answers(path, strict=True))
    assert str(caught.value) == str(bad[0])


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ({"error": "no such model"}, NoAnswer("permanent", "the request failed: no such model")),
        ({"error": True, "response": None, "output": ""}, NoAnswer("permanent", "the request failed: no reason given")),
        (
            {"response": "", "error": {"message": "Slow down.", "type": "tokens"}, "status": 429},
            NoAnswer("transient", "the request failed with HTTP 429: Slow down."),
        ),
        ({"error": {"code": "server_error"}}, NoAnswer("transient", "the request failed: server_error")),
        (
            {"response": "Ho", "finish_reason": "content_filter"},
            NoAnswer("refused", "the answer was withheld by a content filter"),
        ),
    ],
)
def test_a_request_that_failed_was_asked_all_the_same(tmp_path: Path, line: dict[str, Any], failure: NoAnswer) -> None:
    path = lines(tmp_path / "a.jsonl", GOOD, {"id": "b", "model": "m", "prompt": "Hi", "target": "Ho", **line})
    answers, bad = everything(path, strict=True)
    assert not bad
    assert [(a.id, a.model, a.text) for a in answers] == [("a", "m", "Ho"), ("b", "m", "")]
    assert (answers[0].failure, answers[1].failure) == (None, failure)
    assert (answers[1].sample.prompt, answers[1].sample.reference) == ("Hi", {"target": "Ho"})


def test_a_failure_needs_no_prompt_and_beside_an_answer_error_is_metadata(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"error": "gone"}, {**GOOD, "error": 0.25, "status": "done"})
    failed, good = everything(path, strict=True)[0]
    assert (failed.id, failed.sample.prompt, failed.failure) == (
        "line 1",
        "",
        NoAnswer("permanent", "the request failed: gone"),
    )
    assert (good.failure, good.sample.metadata) == (None, {"error": 0.25, "status": "done"})


def test_a_question_that_was_asked_again_did_not_fail(tmp_path: Path) -> None:
    gone = {"id": "a", "model": "m", "prompt": "Hi", "error": "gone"}
    never = {**gone, "id": "never"}
    again = {**GOOD, "id": "z"}
    path = lines(
        tmp_path / "a.jsonl", gone, never, gone, GOOD, again, {**gone, "id": "z"}, never, {**gone, "model": "n"}
    )
    answers, bad = everything(path)
    assert [(a.id, a.model, a.failure is None) for a in answers] == [
        ("never", "m", False),
        ("a", "m", True),
        ("z", "m", True),
        ("a", "n", False),
    ]
    assert not bad


def test_a_bad_first_line_does_not_hide_the_format(tmp_path: Path) -> None:
    answers, bad = everything(lines(tmp_path / "a.jsonl", "// notes", "[]", GOOD))
    assert ([a.id for a in answers], [b.place.line for b in bad]) == (["a"], [1, 2])


def test_bad_lines_are_logged_where_nobody_asked_for_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        list(read_answers(lines(tmp_path / "a.jsonl", GOOD, "{")))
    assert f"{tmp_path / 'a.jsonl'}:2: not valid JSON" in caplog.text


def test_a_list_of_records_is_read_like_lines(tmp_path: Path) -> None:
    records: list[Any] = [GOOD, 7, {**GOOD, "id": "b"}, GOOD]
    for data in (
        json.dumps(records, indent=2),
        "\ufeff \n" + json.dumps(records),
        json.dumps([*records, float("nan")]),
    ):
        path = tmp_path / "a.json"
        path.write_text(data, encoding="utf-8")
        answers, bad = everything(path)
        assert [(a.id, a.line) for a in answers] == [("a", 1), ("b", 3)]
        assert [str(b) for b in bad][:2] == [
            f"{path}: row 2: not a JSON object but the number 7",
            f"{path}: row 4: a second answer of the model 'm' under the id 'a'",
        ]


def test_marks_line_ends_and_odd_numbers_of_other_tools(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = b'{"id": "a", "prompt": "x\xe2\x80\xa8y", "response": "1", "loss": NaN, "big": 1' + b"0" * 30 + b"}"
    path.write_bytes(b"\xef\xbb\xbf" + first + b'\r\n\r\n{"id": 7, "prompt": "", "response": "2"}')
    answers, bad = everything(path)
    assert not bad
    assert [(a.id, a.line, a.sample.prompt) for a in answers] == [("a", 1, "x\u2028y"), ("7", 3, "")]
    assert answers[0].sample.metadata["loss"] is None


def test_a_line_without_end_is_passed_over_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_LINE", 2**20)
    long = {**GOOD, "id": "long", "response": "x" * (3 * 2**20)}
    just = {**GOOD, "id": "just", "response": "x" * (2**20 - 200)}
    answers, bad = everything(lines(tmp_path / "a.jsonl", GOOD, long, just, long))
    assert [(a.id, a.line) for a in answers] == [("a", 1), ("just", 3)]
    assert [(b.place.line, b.reason) for b in bad] == [(n, "longer than 1 MiB, which no record is") for n in (2, 4)]


def test_one_id_may_stand_once_for_each_model(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", GOOD, {**GOOD, "model": "n"}, {**GOOD, "model": ""}, {**GOOD, "model": "n"})
    answers, bad = everything(path)
    assert [(a.id, a.model) for a in answers] == [("a", "m"), ("a", "n"), ("a", "")]
    assert [(b.place.line, b.id, b.model) for b in bad] == [(4, "a", "n")]


def test_many_pairs_are_told_apart_in_little_memory() -> None:
    seen = Seen()
    pairs = [(str(number), model) for number in range(50_000) for model in ("", "m")]
    assert not any(seen.add(*pair) for pair in pairs)
    assert all(seen.add(*pair) for pair in pairs)
    assert len(seen._slots) * 8 <= 40 * len(pairs)


def writing(data: bytes, name: str = "a.jsonl") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: folder / "missing.jsonl", "missing.jsonl: there is no such file"),
        (lambda folder: folder, "a folder; name a file in it"),
        (writing(b""), "a.jsonl: the file is empty"),
        (writing(b"\n \n"), "a.jsonl: the file is empty"),
        (writing(b"\xef\xbb\xbf"), "a.jsonl: the file is empty"),
        (writing(b"\n# Notes\ntext\n"), "a.jsonl:2: not valid JSON: "),
        (writing(b'[\n{"prompt": "Hi", "response": "Ho"}'), "a.jsonl: a JSON list that is not whole, or not valid: "),
        (writing(b"[]"), "a.jsonl: the file is empty"),
        (writing(b"[7]"), "a.jsonl: row 1: not a JSON object but the number 7; answers are read from"),
        (writing(b'{\n "prompt": "Hi"\n}'), "a.jsonl:1: not valid JSON: "),
        (writing(b'{"prompt": "Hi"}\n{"prompt": "Hi"}\n{}'), "a.jsonl:1: no 'response'; there are: prompt; none of"),
        (writing(b'{"response": "Ho"}\n'), "a.jsonl:1: no 'prompt', nor another field that could be it"),
        (writing('{"prompt": ""}'.encode("utf-16")), "a.jsonl:1: UTF-16 text; save the file as UTF-8"),
        (writing(b"\x1f\x8b and more"), "a.jsonl: damaged, though it begins as gzip does: "),
        (writing(b"\x28\xb5\x2f\xfd and more"), "a.jsonl: damaged, though it begins as zstd does: "),
        (writing(gzip.compress(b"")), "a.jsonl: the file is empty"),
        (writing(gzip.compress(b"PAR1")), "a.jsonl: compressed with gzip, which this format is already; unpack it"),
        (writing(b"text", "a.parquet"), "a.parquet: not a Parquet file"),
        (writing(b"PAR1 and more", "a.parquet"), "a.parquet: cannot be read as Parquet"),
        (writing(b"PK\x03\x04 and more", "a.eval"), "a.eval: not a whole .eval log"),
    ],
)
def test_a_file_that_holds_no_answers(tmp_path: Path, make: Callable[[Path], Path], sentence: str) -> None:
    told: list[BadLine] = []
    with pytest.raises(SuiteError) as caught:
        list(read_answers(make(tmp_path), on_bad=told.append))
    assert sentence in str(caught.value)
    assert str(caught.value) not in map(str, told), "nothing is said twice"
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_a_file_is_said_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(SuiteError):
        read_answers(tmp_path / "missing.jsonl")
    with pytest.raises(BadInput, match="requests belong to OpenAI Batch output"):
        read_answers(lines(tmp_path / "a.jsonl", GOOD), requests=tmp_path / "a.jsonl")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        for number in range(60_000):
            file.write(json.dumps({"id": str(number), "prompt": "Hi", "response": "word " * 300}) + "\n")
    assert path.stat().st_size > 90e6
    code = (
        "import resource, sys; from assay.suites.answers import read_answers\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)\n"
        "answers = read_answers(sys.argv[1]); next(answers); before = peak()\n"
        "count = sum(1 for _ in answers); print(count, peak() - before)"
    )
    out = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=120)
    count, grown = map(int, out.stdout.split())
    assert count == 59_999
    assert grown < 8 * 2**20


def test_answers_to_one_question_are_told_apart_by_their_repeat(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        {**GOOD, "repeat": 1},
        {**GOOD, "repeat": 2},
        GOOD,
        {**GOOD, "repeat": 2},
        {**GOOD, "repeat": 1, "model": "n"},
        {**GOOD, "id": "b"},
    )
    answers, bad = everything(path)
    assert [(a.id, a.model, a.repeat, a.sample.id) for a in answers] == [
        ("a", "m", 1, "a"),
        ("a", "m", 2, "a"),
        ("a", "m", 0, "a"),
        ("a", "n", 1, "a"),
        ("b", "m", 0, "b"),
    ]
    assert [str(b) for b in bad] == [f"{path}:4: a second answer of the model 'm' under the id 'a', repeat 2"]
    assert answers[0].sample.metadata == {}


def test_a_line_without_an_id_takes_none_that_another_has(tmp_path: Path) -> None:
    nameless = {key: value for key, value in GOOD.items() if key != "id"}
    answers, bad = everything(lines(tmp_path / "a.jsonl", {**GOOD, "id": "2"}, nameless, {**GOOD, "id": 3}))
    assert [(a.id, a.sample.id, a.numbered) for a in answers] == [
        ("2", "2", False),
        ("line 2", "line 2", True),
        ("3", "3", False),
    ]
    assert [a.id for a in everything(lines(tmp_path / "b.jsonl", nameless, nameless))[0]] == ["1", "2"]
    assert [a.id for a in answers_of([{**GOOD, "id": "2"}, nameless])] == ["2", "line 2"]
    assert bad == []


def test_the_column_of_an_error_is_its_own(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", GOOD)
    path.write_text(path.read_text() + '{"id": "b", "response": "x"\n')
    assert [str(b) for b in everything(path)[1]] == [f"{path}:2: not valid JSON: Expecting ',' delimiter (column 28)"]


def test_a_file_without_repeats_asks_each_question_once(tmp_path: Path) -> None:
    """Though it may speak of them, within a text or behind any number of lines."""
    many = [{**GOOD, "id": str(n), "response": 'say "repeat" ' + "x" * 5000} for n in range(500)]
    answers, bad = everything(lines(tmp_path / "a.jsonl", *many))
    assert ({a.repeat for a in answers}, bad) == ({None}, [])
    answers, _ = everything(lines(tmp_path / "b.jsonl", *many, {**GOOD, "repeat": 7}))
    assert {a.repeat for a in answers} == {0, 7}


def test_the_name_is_found_wherever_it_stands_in_a_file(tmp_path: Path) -> None:
    """It is looked for a block at a time, and may stand across the border of two."""
    for shift in range(12):
        head = json.dumps({**GOOD, "id": "long", "response": "x" * (2**20 - 90 + shift)})
        answers, _ = everything(lines(tmp_path / "a.jsonl", head, '{"repeat": 3, ' + json.dumps(GOOD)[1:]))
        assert [a.repeat for a in answers] == [0, 3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"repeat": -1}, "repeat must be a whole number from 0 up, not the number -1"),
        ({"repeat": 1.5}, "repeat must be a whole number from 0 up, not the number 1.5"),
        ({"repeat": True}, "repeat must be a whole number from 0 up, not the boolean true"),
        ({"repeat": "first"}, "repeat must be a whole number from 0 up, not the text 'first'"),
        ({"repeat": 2**31}, "repeat must be a whole number from 0 up, not the number 2147483648"),
        ({"repeat": 1, "id": None}, "a repeat, but no id that says of which question"),
    ],
)
def test_a_repeat_is_a_number_of_an_answer_to_a_known_question(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = lines(tmp_path / "a.jsonl", GOOD, {**GOOD, **change})
    answers, bad = everything(path)
    assert [str(b) for b in bad] == [f"{path}:2: {said}"]
    assert len(answers) == 1
