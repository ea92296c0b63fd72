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
    WITHHELD,
    Answered,
    BadLine,
    NoAnswer,
    Unfit,
    as_prompt,
    content_text,
    decoded,
    failed,
    finished,
    identity,
    kind,
    taken_reference,
)
from assay.suites.formats.packed import seekable, unpacked_name
from assay.suites.formats.records import numbered_lines, read_lines
from assay.types import Message, Prompt, Raw, Sample


def fits(record: dict[str, Any]) -> bool:
    """Is this a line of a batch's output?"""
    return "custom_id" in record and ("response" in record or "error" in record)


def requests_beside(path: Path) -> Path | None:
    """The file of requests that an output's name leads to, if it is there."""
    for word in ("input", "requests"):
        for name in dict.fromkeys((path.name, unpacked_name(path), unpacked_name(path) + ".gz")):
            other = path.with_name(name.replace("output", word))
            if word in other.name and other != path and other.is_file():
                return other
    return None


def read(path: Path, requests: Path | None = None) -> Iterator[Answered | BadLine]:
    """The file's answers, and those of its requests that failed. requests: the batch's input."""
    requests = requests if requests is not None else requests_beside(path)
    index = _Requests(requests) if requests is not None else None
    models = _Models(path, index)
    try:
        yield from read_lines(path, lambda line, number: _answers(decoded(line), number, index, models))
    finally:
        if index is not None:
            index.close()


def _answers(record: dict[str, Any], number: int, index: _Requests | None, models: _Models) -> list[Answered]:
    name, model = identity(record.get("custom_id"), number), ""
    try:
        request = index.body(name) if index is not None else {}
        asked = request["model"] if isinstance(request.get("model"), str) else ""
        sample = _sample(name, request)
        body = _body(record)
        if isinstance(body, NoAnswer):
            return [Answered(name, models.of(asked), sample, "", None, number, failure=body)]
        model = body["model"] if isinstance(body.get("model"), str) else asked
        choices = _choices(body)
    except Unfit as unfit:
        raise Unfit(str(unfit), id=name, model=model) from None
    if len(choices) == 1:
        return [_one(choices[0], sample, model, number, None)]
    return [_one(choice, sample, model, number, repeat) for repeat, choice in enumerate(choices)]


def _one(choice: dict[str, Any], sample: Sample, model: str, number: int, repeat: int | None) -> Answered:
    found = _text(choice)
    text, failure = ("", found) if isinstance(found, NoAnswer) else (found, None)
    return Answered(sample.id, model, sample, text, finished(_end(choice)), number, repeat, failure)


def _body(record: dict[str, Any]) -> dict[str, Any] | NoAnswer:
    """The response's body, or why there is none."""
    response = record.get("response")
    if record.get("error"):
        return failed(record["error"])
    if not isinstance(response, dict):
        raise Unfit(f"response must be a mapping, not {kind(response)}")
    body, status = response.get("body"), response.get("status_code", 200)
    if type(status) is not int:
        raise Unfit(f"status_code must be a whole number, not {kind(status)}")
    error = body.get("error") if isinstance(body, dict) else None
    if status != 200 or error:
        return failed(error or body, 0 if status == 200 else status)
    if not isinstance(body, dict):
        raise Unfit(f"response.body must be a mapping, not {kind(body)}")
    return body


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
    if choices is None and isinstance(body.get("data"), list):
        raise Unfit("embeddings, not an answer that the model wrote")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise Unfit("response.body holds no choices")
    return choices


def _text(choice: dict[str, Any]) -> str | NoAnswer:
    """The choice's text, or why it has none. Cut off before the first word, as within its reasoning, it is ""."""
    message = choice.get("message")
    if _end(choice) == "content_filter":
        return WITHHELD
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    if not isinstance(message, dict):
        raise Unfit("a choice holds neither a message nor text")
    if message.get("content") is not None:
        return content_text(message["content"])
    if message.get("refusal"):
        return NoAnswer("refused", f"the model refused: {message['refusal']}")
    if message.get("tool_calls"):
        return NoAnswer("permanent", "the message holds no text but tool calls")
    return "" if finished(_end(choice)) == "length" else NoAnswer("permanent", "the message holds no text")


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
        self.file = seekable(path)
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


class _Models:
    """Which model a failed request was meant for. Only answers say it, and by another name than requests (`x`, `x-2025`)."""

    def __init__(self, path: Path, index: _Requests | None) -> None:
        self._found: dict[str, str] = {}  # from the model that was asked for to the one that answered
        self._rest = self._pairs(path, index)

    def of(self, asked: str) -> str:
        """The model by which the file's first such request was answered; the one asked for if none was."""
        while asked not in self._found and (pair := next(self._rest, None)) is not None:
            self._found.setdefault(*pair)
        return self._found.get(asked, asked)

    @staticmethod
    def _pairs(path: Path, index: _Requests | None) -> Iterator[tuple[str, str]]:
        head = msgspec.json.Decoder(_Reply).decode
        for _, line in numbered_lines(path):
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError, Unfit):
                found = head(line or b"")
                request = index.body(found.custom_id) if index is not None else {}
                yield request.get("model", ""), found.response.body.model


class _ReplyBody(msgspec.Struct):
    model: str


class _Response(msgspec.Struct):
    body: _ReplyBody


class _Reply(msgspec.Struct):
    custom_id: str
    response: _Response


class _Head(msgspec.Struct):
    custom_id: str
