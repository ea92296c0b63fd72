"""Output of OpenAI's Batch API, with and without the requests that it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.errors import SuiteError
from assay.suites.answers import Answered, BadLine, NoAnswer, read_answers
from assay.types import Message, Raw


def reply(name: str, *texts: str | None, status: int = 200, tool_calls: bool = False, **choice: Any) -> dict[str, Any]:
    """A line of output, with a choice for each text."""
    extra = {"tool_calls": [{"id": "c"}]} if tool_calls else {}
    choices = [
        {"message": {"role": "assistant", "content": text, **extra}, "finish_reason": "stop", **choice}
        for text in texts
    ]
    body = {"object": "chat.completion", "model": "gpt-x", "choices": choices}
    return {"id": "r", "custom_id": name, "response": {"status_code": status, "body": body}, "error": None}


def request(name: str, **body: Any) -> dict[str, Any]:
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-asked", **body}}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def write(path: Path, *records: Any) -> Path:
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(record).encode() for record in records))
    return path


def everything(path: Path, **options: Any) -> tuple[list[Answered], list[BadLine]]:
    bad: list[BadLine] = []
    return list(read_answers(path, on_bad=bad.append, **options)), bad


def test_answers_find_their_questions_in_any_order(tmp_path: Path) -> None:
    write(
        tmp_path / "batch_1_input.jsonl",
        request("a", messages=[user("Question a?")], metadata={"target": "A", "kind": "letters"}),
        "damaged",
        request("b", messages=[{"role": "developer", "content": "Be brief."}, user("Question b?")]),
    )
    path = write(tmp_path / "batch_1_output.jsonl", reply("b", "B", "BB", finish_reason="length"), reply("a", "A"))
    answers, bad = everything(path)
    assert not bad
    assert [(a.id, a.repeat, a.text, a.finish_reason, a.model, a.line) for a in answers] == [
        ("b", 0, "B", "length", "gpt-x", 1),
        ("b", 1, "BB", "length", "gpt-x", 1),
        ("a", None, "A", "stop", "gpt-x", 2),
    ]
    assert answers[0].sample.prompt == (Message("system", "Be brief."), Message("user", "Question b?"))
    assert answers[2].sample.prompt == "Question a?"
    assert (answers[2].sample.reference, answers[2].sample.metadata) == ({"target": "A"}, {"kind": "letters"})


def test_requests_may_be_named_or_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", reply("a", "A"), reply("b", "B"))
    answers, bad = everything(path)
    assert ([a.sample.prompt for a in answers], bad) == (["", ""], [])
    requests = write(tmp_path / "asked.jsonl", request("a", messages=[user("Question a?")]))
    answers, bad = everything(path, requests=requests)
    assert [a.sample.prompt for a in answers] == ["Question a?"]
    assert [str(b) for b in bad] == [f"{path}:2: its request is not in {requests}"]
    with pytest.raises(SuiteError, match=r"nowhere.jsonl: there is no such file"):
        read_answers(path, requests=tmp_path / "nowhere.jsonl")


def test_failures_that_the_file_records_have_a_class(tmp_path: Path) -> None:
    path = write(
        tmp_path / "out.jsonl",
        reply("good", "A"),
        {"custom_id": "late", "response": None, "error": {"code": "batch_expired", "message": "Too late."}},
        {"custom_id": "bad", "response": None, "error": {"code": "invalid_request", "message": "No such model."}},
        {"custom_id": "busy", "response": {"status_code": 503, "body": {"error": {"message": "Overloaded."}}}},
        {"custom_id": "400", "response": {"status_code": 400, "body": {"error": {"message": "Too long."}}}},
        reply("filtered", None, finish_reason="content_filter"),
        reply("tools", None, tool_calls=True),
        reply("silent", None),
        reply("thinking", None, finish_reason="length"),
        {"custom_id": "void", "response": {"status_code": 200, "body": {"choices": []}}},
        {"custom_id": "vector", "response": {"status_code": 200, "body": {"data": [{"embedding": [0.1]}]}}},
    )
    answers, bad = everything(path, strict=False)
    assert {a.model for a in answers} == {"gpt-x"}, "a request that failed was meant for the model that answered others"
    assert [(a.id, a.text, a.failure) for a in answers] == [
        ("good", "A", None),
        ("late", "", NoAnswer("transient", "the request failed: Too late.")),
        ("bad", "", NoAnswer("permanent", "the request failed: No such model.")),
        ("busy", "", NoAnswer("transient", "the request failed with HTTP 503: Overloaded.")),
        ("400", "", NoAnswer("permanent", "the request failed with HTTP 400: Too long.")),
        ("filtered", "", NoAnswer("refused", "the answer was withheld by a content filter")),
        ("tools", "", NoAnswer("permanent", "the message holds no text but tool calls")),
        ("silent", "", NoAnswer("permanent", "the message holds no text")),
        ("thinking", "", None),
    ]
    assert answers[-1].finish_reason == "length"
    assert [str(b) for b in bad] == [
        f"{path}:10: response.body holds no choices",
        f"{path}:11: embeddings, not an answer that the model wrote",
    ]


def test_a_batch_of_failures_only_is_no_error(tmp_path: Path) -> None:
    write(tmp_path / "input.jsonl", request("a", messages=[user("Question a?")], metadata={"target": "A"}))
    path = write(tmp_path / "output.jsonl", {"custom_id": "a", "response": None, "error": {"message": "No."}})
    ((found,), _) = everything(path, strict=True)
    assert (found.model, found.sample.prompt, found.sample.reference) == ("gpt-asked", "Question a?", {"target": "A"})
    assert found.failure == NoAnswer("permanent", "the request failed: No.")


def test_a_failure_belongs_to_the_model_that_answered_such_requests(tmp_path: Path) -> None:
    def gone(name: str) -> dict[str, Any]:
        return {"custom_id": name, "response": {"status_code": 500, "body": "oops"}}

    asked = [
        {**request(name), "body": {"model": name[0], "messages": [user("Q?")]}} for name in ("x1", "x2", "y1", "z1")
    ]
    write(tmp_path / "input.jsonl", *asked)
    replies = [reply("x2", "A"), reply("y1", "B")]
    for line, model in zip(replies, ("x-2025", "y-2025"), strict=True):
        line["response"]["body"]["model"] = model
    answers, _ = everything(write(tmp_path / "output.jsonl", gone("z1"), gone("x1"), *replies), strict=True)
    assert [(a.id, a.model) for a in answers] == [("z1", "z"), ("x1", "x-2025"), ("x2", "x-2025"), ("y1", "y-2025")]


def test_the_other_endpoints(tmp_path: Path) -> None:
    def output(*content: dict[str, Any]) -> dict[str, Any]:
        body = {"model": "gpt-x", "output": [{"type": "reasoning"}, {"type": "message", "content": list(content)}]}
        return {"custom_id": "responses", "response": {"status_code": 200, "body": body}}

    completion = {"model": "gpt-x", "choices": [{"text": " A", "finish_reason": "length"}]}
    path = write(
        tmp_path / "output.jsonl",
        {"custom_id": "completions", "response": {"status_code": 200, "body": completion}},
        output({"type": "output_text", "text": "B"}),
        {**output({"type": "refusal", "refusal": "I can't."}), "custom_id": "refusal"},
    )
    asked = [request("completions", prompt="Once"), request("responses", input="Hi", instructions="Be brief.")]
    write(tmp_path / "requests.jsonl", *asked, request("refusal", input=[user("Hm")]))
    answers, bad = everything(path)
    assert [(a.text, a.finish_reason, a.sample.prompt) for a in answers[:2]] == [
        (" A", "length", "Once"),
        ("B", "stop", (Message("system", "Be brief."), Message("user", "Hi"))),
    ]
    assert isinstance(answers[0].sample.prompt, Raw)
    assert answers[2].failure == NoAnswer("refused", "the model refused: I can't.")
    assert not bad


def test_a_choice_without_an_answer_takes_no_other_with_it(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", reply("a", "A", None, "AA"))
    answers, bad = everything(path)
    assert [(a.id, a.repeat, a.text, a.failure is None) for a in answers] == [
        ("a", 0, "A", True),
        ("a", 1, "", False),
        ("a", 2, "AA", True),
    ]
    assert not bad
