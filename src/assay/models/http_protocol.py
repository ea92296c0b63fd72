"""OpenAI's chat and completions API, as servers speak it: a question becomes a request, a reply becomes a completion.

Nothing here touches a network. `Dialect` holds what a server turned out to want otherwise than most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

from assay.errors import UnsupportedOption
from assay.models.base import messages_of
from assay.models.http_faults import Fault, Refusal, fault_of_error, in_short, refusal_of
from assay.models.sse import EventReader
from assay.models.stopping import StopFinder
from assay.types import Completion, FinishReason, GenerateOptions, Prompt, Raw, SparingOptions, Token, Usage

# Each option under the names that servers know it by. Both of the last are sent: llama.cpp takes the first, vLLM and
# SGLang the second, and they pass over the other; who refuses one of them is asked with the other.
NAMES: Mapping[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "max_tokens": ("max_tokens", "max_completion_tokens"),
    "top_p": ("top_p",),
    "stop": ("stop",),
    "seed": ("seed",),
    "logprobs": ("logprobs",),
    "top_k": ("top_k",),
    "repeat_penalty": ("repeat_penalty", "repetition_penalty"),
}

_FINISHED: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "complete": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
}
_WITHHELD = ("content_filter", "safety", "refusal", "recitation", "blocklist", "prohibited_content", "spii")
_BROKEN_OFF = ("error", "abort", "cancelled", "insufficient_system_resource")

_EVENTS = (b"data:", b"event:", b": ", b":\n")  # how a stream can begin, whatever its type is said to be
_END = "[DONE]"  # the data of its last event

# Reasoning that comes in a field of its own is put before the answer in the form that models write it in.
THINK, THOUGHT = "<think>", "</think>"
_MARKERS = re.compile(r"<(?=/?think>)", re.IGNORECASE)  # a thought that names them must not end by its words

UNKNOWN_ID = -1  # a token's id where the server does not tell it


class Dialect(msgspec.Struct):
    """What a server was found to want: learnt from its refusals, for all later requests."""

    max_tokens: str = "max_tokens"
    stream_options: bool = True
    schemas: bool = True
    neutral_top_p: bool = True
    penalties: tuple[str, ...] = NAMES["repeat_penalty"]
    text_logprobs: int = (
        1  # of how many tokens at each place; mlx-lm's server wants True, as the API has it for messages
    )

    def learn(self, sent: Mapping[str, Any], refusal: Refusal) -> bool:
        """Take a refusal; True if the same question should be asked in another form."""
        if "max_tokens" in sent and "max_completion_tokens" in refusal.message:
            self.max_tokens = "max_completion_tokens"
        elif "stream_options" in sent and refusal.names("stream_options"):
            self.stream_options = False
        elif sent.get("top_p") == 1.0 and refusal.names("top_p"):  # it only said that nothing is to be cut
            self.neutral_top_p = False
        elif type(sent.get("logprobs")) is int and refusal.names("logprobs"):
            self.text_logprobs = True
        elif other := _other_penalty(sent, refusal):
            self.penalties = other
        else:
            return False
        return True


def _other_penalty(sent: Mapping[str, Any], refusal: Refusal) -> tuple[str, ...]:
    """The spelling that is left, where both were sent and one is refused."""
    names = NAMES["repeat_penalty"]
    left = tuple(name for name in names if not refusal.names(name))
    return left if len(left) == 1 and all(name in sent for name in names) else ()


class Request(msgspec.Struct, frozen=True):
    """What is sent: the API's path, and the body before it becomes JSON. root: the path is one beside the API's ("/v1")."""

    path: str
    body: dict[str, Any]
    root: bool = False


def request_for(
    model: str,
    prompt: Prompt,
    options: GenerateOptions,
    dialect: Dialect,
    *,
    stream: bool = False,
    schema: Mapping[str, Any] | None = None,
) -> Request:
    """The request for one answer.

    Temperature and `max_tokens` are always sent, `top_p` wherever it matters: servers' defaults aren't neutral. `top_k` and
    the penalty are no part of the API, and are sent only where they do something.
    """
    body: dict[str, Any] = {"model": model}
    raw = isinstance(prompt, Raw)
    if raw:
        body["prompt"] = str(prompt)
    else:
        body["messages"] = [{"role": m.role, "content": m.content} for m in messages_of(prompt)]
    body["temperature"] = options.temperature
    body[dialect.max_tokens] = options.max_tokens
    if options.top_p != 1.0 or (options.temperature > 0 and dialect.neutral_top_p):
        body["top_p"] = options.top_p
    if options.stop:
        body["stop"] = list(options.stop)
    if options.seed is not None:
        body["seed"] = options.seed
    if options.top_k:
        body["top_k"] = options.top_k
    if options.repeat_penalty != 1.0:
        body.update(dict.fromkeys(dialect.penalties, options.repeat_penalty))
    if options.logprobs:
        body["logprobs"] = dialect.text_logprobs if raw else True
    for option in options.left_out if isinstance(options, SparingOptions) else ():
        for name in NAMES[option]:
            body.pop(name, None)
    if schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "reply", "strict": True, "schema": schema},
        }
    if stream:
        body["stream"] = True
        if dialect.stream_options:
            body["stream_options"] = {"include_usage": True}
    return Request("/completions" if raw else "/chat/completions", body)


def refused_option(sent: Mapping[str, Any], refusal: Refusal) -> str | None:
    """The sampling option that a server refuses, of those that were sent."""
    for option, names in NAMES.items():
        if any(name in sent and refusal.names(name) for name in names):
            return option
    return None


def refuses_schema(sent: Mapping[str, Any], refusal: Refusal, *, surely: bool = False) -> bool:
    """Is the refusal about the schema that was sent? surely: by words that can mean nothing else."""
    if "response_format" not in sent:
        return False
    said = refusal.message.lower()
    words = ("response_format", "json_schema", "grammar", "guided decoding", "structured output")
    return any(word in said for word in words) or (
        not surely and ("schema" in said or refusal.names("response_format"))
    )


def read_reply(body: bytes, options: GenerateOptions, seconds: float, model: str = "") -> Completion:
    """The completion that a whole reply holds, which may be a stream that came as one. Raises `Fault`, `UnsupportedOption`.

    model: see `Answer`.
    """
    if body.lstrip().startswith(_EVENTS):
        answer = Answer(options, streamed=True, model=model)
        reader = EventReader()
        events = events_of([*reader.feed(body), *reader.finish()])
        text = "".join([answer.take(event) for event in events if not answer.stopped])
    else:
        try:
            reply = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Fault("garbled", f"the server's reply is not whole JSON ({len(body)} bytes)") from None
        answer = Answer(options, model=model)
        text = answer.take(reply)
    text += answer.end()
    return Completion(text, answer.finish_reason(), answer.usage(seconds), answer.all_tokens())


def events_of(told: Iterable[str]) -> Iterator[Any]:
    """The events of a stream as JSON, from their data, up to the one that ends it. Raises `Fault`."""
    for data in told:
        if is_end(data):
            return
        if data.strip():  # some keep the connection alive with events that say nothing
            try:
                found = msgspec.json.decode(data)
            except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
                raise Fault("garbled", f"the server's stream holds what is no JSON: {in_short(data, 80)!r}") from None
            yield found


def is_end(data: str) -> bool:
    """Is it the data of a stream's last event?"""
    return data.strip() == _END


class Answer:
    """One answer, from a whole reply or from events as they come. Text that leaves here was not cut at a stop string.

    model: the only one whose answer will do, "" for any; servers that know one model only answer with it whatever is asked.
    """

    def __init__(self, options: GenerateOptions, *, streamed: bool = False, model: str = "") -> None:
        self._options = options
        self._model = model
        self._streamed = streamed
        self._stops = StopFinder(options.stop) if options.stop else None
        self._finish: FinishReason | None = None
        self._thinking = False
        self._tokens: list[Token] = []
        self._reported = 0
        self._pieces = 0
        self._said = self._called = False
        self._told: Mapping[str, Any] = {}

    @property
    def finished(self) -> bool:
        """Has the reason for its end been told?"""
        return self._finish is not None

    @property
    def stopped(self) -> bool:
        """Did a stop string end it here, which the server went past?"""
        return self._stops is not None and self._stops.hit

    def take(self, reply: Any) -> str:
        """Take a reply, or one event's part of it; the text that it adds. Raises `Fault`."""
        if not isinstance(reply, dict):
            raise Fault("garbled", "the server's reply is not a JSON object")
        if reply.get("error") or reply.get("object") == "error":
            raise _reported_error(reply)
        if self._model and reply.get("model", self._model) != self._model:
            raise Fault(
                "unsuited", f"{self._model} was asked, and {in_short(reply['model'], 80)} answered in its place"
            )
        if isinstance(reply.get("usage"), dict):
            self._told = reply["usage"]
        choices = reply.get("choices")
        if not isinstance(choices, list):
            if choices is not None or not self._streamed:
                raise Fault("garbled", f"the server's reply has no choices: {in_short(reply)}")
            return ""  # servers put counts, pings and news of their own between the pieces
        return "".join([self._choice(choice) for choice in choices[:1] if isinstance(choice, dict)])

    def end(self) -> str:
        """The text that was held back, once nothing more comes.

        Raises `UnsupportedOption` for log-probabilities left out, `Fault` for calls of tools in place of an answer.
        """
        text = "" if self._stops is None else self._stops.flush()
        if self._called and not self._said:
            raise Fault("unsuited", "the answer holds no text but calls of tools, of which there are none")
        if self._options.logprobs and self._said and not self._tokens:
            raise UnsupportedOption("the server reports no log-probabilities (logprobs); leave them out", "logprobs")
        return text

    def finish_reason(self) -> FinishReason:
        """Why it ended. Raises `Fault` if that was never told: a connection that closed early is not an answer."""
        if self.stopped:
            return "stop"
        if self._finish is None:
            raise Fault("broken", "the server's answer ended without a finish reason")
        return self._finish

    def usage(self, seconds: float) -> Usage:
        """Token counts as the server tells them. Where it tells none: 0 for the prompt; for the answer what can be counted.

        Raises `Fault` where the prompt was to be truncated: an answer that the context has ended is another than was asked for.
        """
        prompt, completion = self._told.get("prompt_tokens"), self._told.get("completion_tokens")
        if not _is_count(completion):
            # A streamed piece is a token with nearly every server, and one that was cut off has all it may have.
            limited = self._finish == "length" and not self.stopped
            counted = len(self._tokens) or self._pieces
            completion = self._options.max_tokens if limited else counted
        cut_off = self._finish == "length" and not self.stopped and completion < self._options.max_tokens
        if self._options.truncate_prompt and cut_off:
            raise Fault(
                "unsuited",
                f"the prompt leaves no room for {self._options.max_tokens} tokens in the context, and a server can't be told "
                "to take the end of it",
            )
        return Usage(prompt if _is_count(prompt) else 0, completion, seconds)

    def tokens(self) -> tuple[Token, ...]:
        """The tokens not reported yet."""
        fresh, self._reported = self._tokens[self._reported :], len(self._tokens)
        return tuple(fresh)

    def all_tokens(self) -> tuple[Token, ...]:
        return tuple(self._tokens)

    def _choice(self, choice: Mapping[str, Any]) -> str:
        part = choice.get("delta") or choice.get("message") or choice
        if not isinstance(part, dict) or not (self._streamed or "text" in choice or part is not choice):
            raise Fault("garbled", "the server's reply has no message")
        if part.get("refusal"):
            raise Fault("refused", f"the model refused: {in_short(part['refusal'])}")
        if part.get("tool_calls") or part.get("function_call"):
            self._called = True
        text = self._text(part)
        if self._options.logprobs:
            self._tokens += _tokens(choice.get("logprobs"))
        if (finish := choice.get("finish_reason")) is not None and finish != "":
            self._finish = _finish(finish)
        return text

    def _text(self, part: Mapping[str, Any]) -> str:
        said = _content(part["text"] if "text" in part else part.get("content"))
        thought = part.get("reasoning_content") or part.get("reasoning")
        before = ""
        if isinstance(thought, str) and thought:
            # Further on a block is one only where its marker has a line to itself.
            opening = "" if self._thinking else f"\n{THINK}\n" if self._said else THINK
            before = opening + _MARKERS.sub("‹", thought)
            self._thinking = True
        if said or before:
            self._pieces += self._streamed
        if not said:
            return before
        self._said = True
        if self._thinking:
            before, self._thinking = before + THOUGHT, False
        return before + (said if self._stops is None else self._stops.push(said))


def _content(content: Any) -> str:
    """Plain text, or the texts of a list of parts."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        return "".join([str(part["text"]) for part in content if isinstance(part, dict) and "text" in part])
    raise Fault("garbled", "the server's reply holds no text where it should")


def _is_count(told: Any) -> TypeGuard[int]:
    return isinstance(told, int) and not isinstance(told, bool) and told >= 0


def _finish(told: Any) -> FinishReason:
    if not isinstance(told, str):
        raise Fault("garbled", f"the answer's finish reason is no text: {in_short(told, 80)}")
    reason = told.lower()
    if reason in _WITHHELD:
        raise Fault("refused", f"the answer was withheld by the server ({reason})")
    if reason in _BROKEN_OFF:
        raise Fault("failing", f"the server broke the answer off ({reason})")
    if reason not in _FINISHED:
        raise Fault("unsuited", f"the answer ended in a way that is none for text: {in_short(told, 80)!r}")
    return _FINISHED[reason]


def _tokens(told: Any) -> Sequence[Token]:
    """Chat's form, which newer servers use for both, or the older one of completions."""
    if not isinstance(told, dict):
        return ()
    if isinstance(content := told.get("content"), list):
        return [Token(_id(entry), _probability(entry.get("logprob"))) for entry in content if isinstance(entry, dict)]
    values = told.get("token_logprobs")
    return [Token(UNKNOWN_ID, _probability(value)) for value in values] if isinstance(values, list) else ()


def _id(entry: Mapping[str, Any]) -> int:
    found = entry.get("id")
    return found if isinstance(found, int) else UNKNOWN_ID


def _probability(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Fault("garbled", "the server's reply has no number where a log-probability should be")
    return min(0.0, float(value))


def _reported_error(reply: Mapping[str, Any]) -> Fault:
    """An error that came with a status of success, or in the middle of a stream."""
    error = reply.get("error") or reply
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    if isinstance(code, str) and code.isdigit() and 400 <= int(code) < 600:
        status = int(code)
    return fault_of_error(status, refusal_of(reply), told="the server reported an error")
