"""Output of OpenAI's Batch API, with and without the requests that it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.errors import SuiteError
from assay.suites.answers import Answered, BadLine, read_answers
from assay.types import Message, Raw


def reply(name: str, *texts: str | None, status: int = 200, **choice: Any) -> dict[str, Any]:
    """A line of output, with a choice for each text."""
    choices = [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop", **choice} for text in texts]
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
        ("b#2", 1, "BB", "length", "gpt-x", 1),
        ("a", 0, "A", "stop", "gpt-x", 2),
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
        reply("tools", None, finish_reason="tool_calls"),
        {"custom_id": "void", "response": {"status_code": 200, "body": {"choices": []}}},
    )
    answers, bad = everything(path)
    assert [a.id for a in answers] == ["good"]
    assert [(b.id, b.error_class) for b in bad] == [
        ("late", "transient"),
        ("bad", "permanent"),
        ("busy", "transient"),
        ("400", "permanent"),
        ("filtered", "refused"),
        ("tools", None),
        ("void", None),
    ]
    assert str(bad[2]) == f"{path}:4: the request failed with HTTP 503: Overloaded."
    with pytest.raises(SuiteError, match=r"out.jsonl:2: the request failed: Too late"):
        list(read_answers(path, strict=True))


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
    assert [(a.text, a.finish_reason, a.sample.prompt) for a in answers] == [
        (" A", "length", "Once"),
        ("B", "stop", (Message("system", "Be brief."), Message("user", "Hi"))),
    ]
    assert isinstance(answers[0].sample.prompt, Raw)
    assert [(b.reason, b.error_class) for b in bad] == [("the model refused: I can't.", "refused")]
