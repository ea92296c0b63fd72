"""The output file of OpenAI's Batch API, and of the servers that copy it: `custom_id`, `response`, `error` on each line.

The output holds no questions: they lie in the file of requests. It is given beside the output, or found there: an
output named `…output….jsonl` goes with `…input….jsonl` or `…requests….jsonl` of the same folder. Without it the prompts
are unknown ("").
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from assay.suites.formats.base import (
    Answered,
    BadLine,
    Unfit,
    as_prompt,
    content_text,
    decoded,
    finished,
    identity,
    kind,
    opened,
    read_lines,
    repeated,
    taken_reference,
)
from assay.types import FailureClass, Message, Prompt, Raw, Sample

_AGAIN = ("batch_expired", "batch_cancelled", "rate_limit_exceeded", "server_error")


def fits(record: dict[str, Any]) -> bool:
    """Is this a line of a batch's output?"""
    return "custom_id" in record and ("response" in record or "error" in record)


def requests_beside(path: Path) -> Path | None:
    """The file of requests that an output's name leads to, if it is there."""
    for word in ("input", "requests"):
        other = path.with_name(path.name.replace("output", word))
        if other != path and other.is_file():
            return other
    return None


def read(path: Path, requests: Path | None = None) -> Iterator[Answered | BadLine]:
    """The file's answers. What the file records as failed is a `BadLine` with its class. requests: the batch's input."""
    requests = requests if requests is not None else requests_beside(path)
    index = _Requests(requests) if requests is not None else None
    try:
        yield from read_lines(path, lambda line, number: _answers(decoded(line), number, index))
    finally:
        if index is not None:
            index.close()


def _answers(record: dict[str, Any], number: int, index: _Requests | None) -> list[Answered]:
    name, model = identity(record.get("custom_id"), number), ""
    try:
        request = index.body(name) if index is not None else {}
        body = _body(record)
        model = next((m for m in (body.get("model"), request.get("model")) if isinstance(m, str)), "")
        sample = _sample(name, request)
        return [
            Answered(repeated(name, repeat), model, sample, _text(choice), finished(_end(choice)), number, repeat)
            for repeat, choice in enumerate(_choices(body))
        ]
    except Unfit as unfit:
        raise Unfit(str(unfit), unfit.error_class, id=name, model=model) from None


def _body(record: dict[str, Any]) -> dict[str, Any]:
    """The response's body; `Unfit` with a class where the file says that there was an error."""
    response = record.get("response")
    error = record.get("error")
    if isinstance(error, dict):
        raise _failed(error, 0)
    if not isinstance(response, dict):
        raise Unfit(f"response must be a mapping, not {kind(response)}")
    body, status = response.get("body"), response.get("status_code", 200)
    if not isinstance(status, int) or status != 200:
        error = body.get("error") if isinstance(body, dict) else None
        raise _failed(error if isinstance(error, dict) else {}, status if isinstance(status, int) else 0)
    if not isinstance(body, dict):
        raise Unfit(f"response.body must be a mapping, not {kind(body)}")
    return body


def _failed(error: dict[str, Any], status: int) -> Unfit:
    again = status in (408, 409, 429) or status >= 500 or error.get("code") in _AGAIN
    said = error.get("message") or error.get("code") or "no reason given"
    error_class: FailureClass = "transient" if again else "permanent"
    return Unfit(f"the request failed{f' with HTTP {status}' if status else ''}: {said}", error_class)


def _choices(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of a (chat) completion; a Responses body's output as one choice."""
    choices = body.get("choices")
    if choices is None and isinstance(body.get("output"), list):
        parts = [part for item in body["output"] if isinstance(item, dict) for part in item.get("content") or ()]
        parts = [part for part in parts if isinstance(part, dict)]
        refusal = next((part["refusal"] for part in parts if part.get("refusal")), None)
        reason = (body.get("incomplete_details") or {}).get("reason", "stop")
        texts = [part for part in parts if part.get("type") == "output_text"]
        return [{"message": {"content": texts or None, "refusal": refusal}, "finish_reason": reason}]
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise Unfit("response.body holds no choices")
    return choices


def _text(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    if not isinstance(message, dict):
        raise Unfit("a choice holds neither a message nor text")
    if _end(choice) == "content_filter":
        raise Unfit("the answer was withheld by a content filter", "refused")
    if message.get("content") is None:
        if message.get("refusal"):
            raise Unfit(f"the model refused: {message['refusal']}", "refused")
        raise Unfit("the message holds no text" + (" but tool calls" if message.get("tool_calls") else ""))
    return content_text(message["content"])


def _end(choice: dict[str, Any]) -> object:
    return choice.get("finish_reason")


def _sample(name: str, request: dict[str, Any]) -> Sample:
    metadata = dict(request["metadata"]) if isinstance(request.get("metadata"), dict) else {}
    reference = taken_reference(metadata)
    return Sample(name, _prompt(request) if request else "", reference=reference, metadata=metadata)


def _prompt(request: dict[str, Any]) -> Prompt:
    if "messages" in request:
        return as_prompt(request["messages"])
    if isinstance(request.get("prompt"), str):
        return Raw(request["prompt"])
    asked = as_prompt(request.get("input"))
    rules = request.get("instructions")
    if not isinstance(rules, str) or not rules:
        return asked
    messages = (Message("user", asked),) if isinstance(asked, str) else tuple(asked)
    return (Message("system", rules), *messages)


class _Requests:
    """A file of requests, indexed by where each id's line begins; the requests themselves stay on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = opened(path)
        self.starts: dict[str, int] = {}
        start = 0
        head = msgspec.json.Decoder(_Head).decode
        for line in self.file:
            # An answer that needs a line that can't be read will say that its request is not there.
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self.starts[head(line.removeprefix(b"\xef\xbb\xbf")).custom_id] = start
            start += len(line)

    def body(self, name: str) -> dict[str, Any]:
        if name not in self.starts:
            raise Unfit(f"its request is not in {self.path}")
        self.file.seek(self.starts[name])
        body = decoded(self.file.readline().removeprefix(b"\xef\xbb\xbf")).get("body")
        if not isinstance(body, dict):
            raise Unfit(f"its request in {self.path} has no body")
        return body

    def close(self) -> None:
        self.file.close()


class _Head(msgspec.Struct):
    custom_id: str
