"""A model behind a URL: what is asked, what comes back, and what a refusal becomes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from assay.errors import AssayError, GenerationError, ModelError, UnsupportedOption
from assay.models.base import TextModel, WholeModel, complete, rendered
from assay.models.http_open import open_http
from assay.models.http_protocol import NAMES, UNKNOWN_ID, Answer
from assay.models.http_retry import HttpSettings
from assay.models.structured import StructuredModel
from assay.reasoning import final_answer
from assay.types import Completion, GenerateOptions, Message, Raw, Token, Usage
from tests.models.http_opened import opened
from tests.models.openai_server import OpenAIServer, Reply, error_body
from tests.models.raw_server import RawServer, response

SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]}


def listen(_: object) -> None:
    """Whoever listens gets the answer in pieces."""


async def test_who_it_is() -> None:
    model = open_http("http://127.0.0.1:9/v1/#org/m", context_length=4096)
    assert isinstance(model, TextModel)
    assert isinstance(model, WholeModel)
    assert isinstance(model, StructuredModel)
    info = model.info
    assert (info.name, info.engine, info.declared) == ("http://127.0.0.1:9/v1#org/m", "http", True)
    assert (info.concurrency, info.context_length) == (128, 4096)
    assert open_http("http://127.0.0.1:9/v1#m", HttpSettings(concurrency=1)).info.concurrency == 1
    assert info.identity == open_http("HTTP://127.0.0.1:9/v1#org/m").info.identity
    others = ("http://127.0.0.1:9/v1#m", "http://127.0.0.1:8/v1#org/m", "https://127.0.0.1:9/v1#org/m")
    assert len({open_http(spec).info.identity for spec in others} | {info.identity}) == 4
    await model.aclose()


@pytest.mark.parametrize("listener", [None, listen])
async def test_an_answer_whole_or_in_pieces(listener: Any) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply("Zwölf, 12 🍎.", pieces=["Zwölf", ", ", "12 🍎", "."])
        done = await complete(model, "How many?", GenerateOptions(max_tokens=9), listener)
        assert (done.text, done.finish_reason) == ("Zwölf, 12 🍎.", "stop")
        assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (7, 3)
        assert 0 < done.usage.seconds < 5
        assert bool(server.asked[0].body.get("stream")) == (listener is not None)


@pytest.mark.parametrize("listener", [None, listen])
async def test_every_option_arrives(listener: Any) -> None:
    options = GenerateOptions(
        temperature=0.7,
        max_tokens=11,
        top_p=0.9,
        top_k=40,
        repeat_penalty=1.1,
        stop=("\n", "END"),
        seed=3,
        logprobs=True,
    )
    async with OpenAIServer() as server, opened(server) as model:
        done = await complete(model, "How many?", options, listener)
        body = server.asked[0].body
        sent = {k: v for k, v in body.items() if k not in ("stream", "stream_options", "messages")}
        assert sent == {
            "model": "m",
            "temperature": 0.7,
            "max_tokens": 11,
            "top_p": 0.9,
            "top_k": 40,
            "repeat_penalty": 1.1,
            "repetition_penalty": 1.1,
            "stop": ["\n", "END"],
            "seed": 3,
            "logprobs": True,
        }
        assert body["messages"] == [{"role": "user", "content": "How many?"}]
        assert done.tokens == ((Token(0, -0.5),) if listener is None else (Token(5, -1.5),))


async def test_neutral_options_are_sent_where_servers_have_defaults_of_their_own() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        await complete(model, "?")
        await complete(model, "?", GenerateOptions(temperature=1.0))
        greedy, sampled = (ask.body for ask in server.asked)
        assert greedy == {"model": "m", "messages": greedy["messages"], "temperature": 0.0, "max_tokens": 512}
        assert sampled["top_p"] == 1.0


async def test_messages_and_raw_text_go_to_their_own_places() -> None:
    talk = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "12?"))
    async with OpenAIServer() as server, opened(server) as model:
        await complete(model, talk)
        raw = await complete(model, Raw("Once upon"), GenerateOptions(logprobs=True))
        streamed = await complete(model, Raw("Once upon"), GenerateOptions(), listen)
        chat, text, again = server.asked
        assert chat.body["messages"] == [{"role": m.role, "content": m.content} for m in talk]
        assert (text.path, text.body["prompt"], text.body["logprobs"]) == ("/v1/completions", "Once upon", 1)
        assert again.path == "/v1/completions"
        assert raw.text == streamed.text == "Fine."
        assert raw.tokens == (Token(UNKNOWN_ID, -0.25),)
        assert await rendered(model, talk) != await rendered(model, talk[1:])


@pytest.mark.parametrize(
    ("option", "value"),
    [("top_k", 5), ("repeat_penalty", 1.2), ("seed", 1), ("logprobs", True), ("stop", ("x",)), ("temperature", 3.0)],
)
@pytest.mark.parametrize("listener", [None, listen])
async def test_an_option_that_the_server_refuses_is_an_error(option: str, value: Any, listener: Any) -> None:
    rejected = () if option == "temperature" else NAMES[option]
    async with OpenAIServer(rejects=rejected) as server, opened(server) as model:
        with pytest.raises(UnsupportedOption, match=f"does not take {option}="):
            await complete(model, "?", GenerateOptions(**{option: value}), listener)
        assert (await complete(model, "?", GenerateOptions())).text == "Fine."


@pytest.mark.parametrize("left", ["repeat_penalty", "repetition_penalty"])
async def test_a_server_that_takes_one_spelling_of_the_penalty_gets_that(left: str) -> None:
    (other,) = {"repeat_penalty", "repetition_penalty"} - {left}
    options = GenerateOptions(repeat_penalty=1.2)
    async with OpenAIServer(rejects=(other,)) as server, opened(server) as model:
        ends = await asyncio.gather(*(complete(model, f"{n}", options) for n in range(8)))
        assert {end.text for end in ends} == {"Fine."}
        assert {ask.body[left] for ask in server.asked} == {1.2}
        assert not any(other in ask.body for ask in server.asked)
        server.rejects = (left,)
        with pytest.raises(GenerationError, match=left):
            await complete(model, "?", options)
    for rejects in (("repeat_penalty", "repetition_penalty"), ("repetition_penalty", "repeat_penalty")):
        async with OpenAIServer(rejects=rejects) as server, opened(server) as model:
            with pytest.raises(UnsupportedOption, match=r"does not take repeat_penalty=1\.2"):
                await complete(model, "?", options)


@pytest.mark.parametrize("listener", [None, listen])
async def test_a_server_that_wants_yes_or_no_for_log_probabilities_of_raw_text_is_told_yes(listener: Any) -> None:
    async with OpenAIServer() as server, opened(server) as model:

        def script(ask: Any) -> Reply:
            if ask.body.get("logprobs") is True:
                return Reply()
            return Reply(status=400, raw=b'{"error": "logprobs must be of type bool"}')

        server.script = script
        for _ in range(2):
            assert (await complete(model, Raw("Count:"), GenerateOptions(logprobs=True), listener)).tokens
        assert [ask.body["logprobs"] for ask in server.asked] == [1, True, True]


async def test_an_option_is_named_by_its_own_name_and_value() -> None:
    async with OpenAIServer(rejects=("max_completion_tokens",)) as server, opened(server) as model:
        said = error_body("Use 'max_completion_tokens' instead.", param="max_tokens")
        server.script = lambda ask: Reply(status=400, raw=said)
        with pytest.raises(UnsupportedOption, match="does not take max_tokens=77"):
            await complete(model, "?", GenerateOptions(max_tokens=77))


async def test_a_refusal_that_quotes_the_question_is_not_about_an_option_that_was_taken_before() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        await complete(model, "?")
        said = error_body("Invalid prompt: what is the temperature at which to stop?")
        server.script = lambda ask: Reply(status=400, raw=said)
        with pytest.raises(GenerationError, match="Invalid prompt") as caught:
            await complete(model, "what is the temperature at which to stop?")
        assert caught.value.error_class == "permanent"
        with pytest.raises(UnsupportedOption):
            await complete(model, "?", GenerateOptions(temperature=0.5))


async def test_log_probabilities_that_the_server_leaves_out_are_an_error() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        whole = {"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]}
        server.script = lambda ask: Reply(raw=json.dumps(whole).encode())
        with pytest.raises(UnsupportedOption, match="no log-probabilities"):
            await complete(model, "?", GenerateOptions(logprobs=True))


async def test_other_servers_words_for_an_option_they_refuse() -> None:
    fastapi = {
        "detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted", "type": "extra_forbidden"}]
    }
    bodies = [
        (422, json.dumps(fastapi).encode()),
        (400, error_body("Unsupported parameter.", param="top_k")),
        (400, json.dumps({"object": "error", "message": "top_k must be -1 or at least 1", "code": 400}).encode()),
    ]
    for status, raw in bodies:
        async with OpenAIServer() as server, opened(server) as model:
            server.script = lambda ask, status=status, raw=raw: Reply(status=status, raw=raw)
            with pytest.raises(UnsupportedOption, match="top_k=5"):
                await complete(model, "?", GenerateOptions(top_k=5, stop=("x",)))


async def test_a_server_that_wants_another_name_or_less_is_understood_once() -> None:
    async with OpenAIServer(rejects=("stream_options", "top_p")) as server, opened(server) as model:

        def script(ask: Any) -> Reply:
            if "max_tokens" in ask.body:
                said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
                return Reply(status=400, raw=error_body(said, param="max_tokens", code="unsupported_parameter"))
            return Reply(usage=None, pieces=["Fi", "ne", "."])

        server.script = script
        for _ in range(2):
            done = await complete(model, "?", GenerateOptions(temperature=0.5, max_tokens=20), listen)
            assert done.usage.completion_tokens == 3, "one a piece, where the server counts none"
        assert [ask.body.get("max_completion_tokens") for ask in server.asked] == [None, 20, 20]


@pytest.mark.parametrize("listener", [None, listen])
@pytest.mark.parametrize(
    ("said", "room"),
    [
        ("max_tokens=512 cannot be greater than max_model_len=256. Please request fewer output tokens.", 256),
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is 256 tokens "
            "and your request has 18 input tokens (512 > 256 - 18).",
            238,
        ),
        (
            "This model's maximum context length is 256 tokens. However, you requested 530 tokens (18 in the messages, 512 "
            "in the completion). Please reduce the length of the messages or completion.",
            238,
        ),
    ],
)
async def test_an_answer_may_be_as_long_as_the_context_has_room(said: str, room: int, listener: Any) -> None:
    async with OpenAIServer() as server, opened(server) as model:

        def script(ask: Any) -> Reply:
            fits = ask.body["max_tokens"] <= room
            return Reply() if fits else Reply(status=400, raw=error_body(said, param="max_tokens"))

        server.script = script
        await complete(model, "?", GenerateOptions(max_tokens=512), listener)
        await complete(model, "?", GenerateOptions(max_tokens=20), listener)
        assert [ask.body["max_tokens"] for ask in server.asked] == [512, room, 20]


@pytest.mark.parametrize("prompt", [256, 300])
async def test_a_prompt_that_fills_the_context_is_asked_once(prompt: int) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        said = f"This model's maximum context length is 256 tokens and your request has {prompt} input tokens."
        server.script = lambda ask: Reply(status=400, raw=error_body(said))
        with pytest.raises(GenerationError, match="maximum context length"):
            await complete(model, "?")
        assert len(server.asked) == 1


@pytest.mark.parametrize("listener", [None, listen])
async def test_a_prompt_that_should_be_truncated_is_no_shorter_answer(listener: Any) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        options = GenerateOptions(max_tokens=9, truncate_prompt=True)
        server.script = lambda ask: Reply("One.", finish="length", usage={"prompt_tokens": 3, "completion_tokens": 8})
        with pytest.raises(GenerationError, match="leaves no room for 9 tokens in the context") as caught:
            await complete(model, "?", options, listener)
        assert caught.value.error_class == "permanent"
        server.script = lambda ask: Reply("One.", finish="length", usage={"prompt_tokens": 3, "completion_tokens": 9})
        assert (await complete(model, "?", options, listener)).text == "One."
        said = error_body("max_tokens=9 cannot be greater than max_model_len=8.", param="max_tokens")
        server.script = lambda ask: Reply(status=400, raw=said)
        with pytest.raises(GenerationError, match="cannot be greater than max_model_len=8"):
            await complete(model, "?", options, listener)


async def test_a_stop_string_that_the_server_goes_past_still_stops() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply("One. Two. Three.", pieces=["One. T", "wo", ". Th", "ree."])
        options = GenerateOptions(stop=("Two",))
        whole, pieces = await complete(model, "?", options), await complete(model, "?", options, listen)
        assert whole.text == pieces.text == "One. "
        assert whole.finish_reason == pieces.finish_reason == "stop"


@pytest.mark.parametrize("listener", [None, listen])
async def test_reasoning_in_a_field_of_its_own_is_kept_before_the_answer(listener: Any) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        for name in ("reasoning_content", "reasoning"):
            server.script = lambda ask, name=name: Reply("12.", fields={name: "5 + 7 …"})
            assert (await complete(model, "?", None, listener)).text == "<think>5 + 7 …</think>12."
        server.script = lambda ask: Reply("", fields={"reasoning_content": "5 + 7"}, finish="length")
        cut = await complete(model, "?", None, listener)
        assert (cut.text, cut.finish_reason) == ("<think>5 + 7", "length"), "left open: it was cut off while it thought"
        for thought in ("It ends with </think>.\nSo 12?", "<think> begins one", "</THINK>11"):
            server.script = lambda ask, thought=thought: Reply("Use </think>.", fields={"reasoning": thought})
            text = (await complete(model, "?", None, listener)).text
            assert final_answer(text) == "Use </think>.", "a thought that names the marker doesn't end by it"


def test_reasoning_between_two_parts_of_an_answer_is_none_of_it() -> None:
    answer = Answer(GenerateOptions())
    deltas = [{"reasoning": "5"}, {"reasoning": " + 7"}, {"content": "It is"}, {"reasoning": "13?"}, {"content": "12."}]
    text = "".join(answer.take({"choices": [{"delta": delta}]}) for delta in deltas)
    assert final_answer(text) == "It is\n12."


@pytest.mark.parametrize(
    ("told", "end"),
    [
        ("STOP", "stop"),
        ("eos_token", "stop"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("SAFETY", "refused"),
        ("recitation", "refused"),
        ("abort", "transient"),
        ("error", "transient"),
        ("insufficient_system_resource", "transient"),
        ("function_call", "permanent"),
        ("\x1b[2J\nwhat", "permanent"),
    ],
)
@pytest.mark.parametrize("listener", [None, listen])
async def test_other_words_for_an_end(told: str, end: str, listener: Any) -> None:
    async with OpenAIServer() as server, opened(server, attempts=2) as model:
        server.script = lambda ask: Reply("", finish=told)
        if end in ("stop", "length"):
            assert (await complete(model, "?", None, listener)).finish_reason == end
        else:
            with pytest.raises(GenerationError) as caught:
                await complete(model, "?", None, listener)
            assert caught.value.error_class == end
            assert str(caught.value).isprintable()
        assert len(server.asked) == (2 if end == "transient" else 1)


@pytest.mark.parametrize("listener", [None, listen])
async def test_how_an_answer_ended(listener: Any) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply("Twelve", finish="length", usage=None)
        cut = await complete(model, "?", GenerateOptions(max_tokens=8), listener)
        assert (cut.finish_reason, cut.usage.completion_tokens) == ("length", 8)
        assert Usage(0, 8, cut.usage.seconds) == cut.usage
        server.script = lambda ask: Reply("I", finish="content_filter")
        with pytest.raises(GenerationError, match="withheld") as caught:
            await complete(model, "?", None, listener)
        assert caught.value.error_class == "refused"
        server.script = lambda ask: Reply("", finish="tool_calls")
        with pytest.raises(GenerationError, match="tool_calls") as caught:
            await complete(model, "?", None, listener)
        assert caught.value.error_class == "permanent"


async def test_forms_of_a_message_that_servers_send() -> None:
    async with OpenAIServer() as server, opened(server, attempts=1) as model:
        parts = [{"type": "text", "text": "Ye"}, {"type": "image"}, {"type": "text", "text": "s."}]
        for fields, text in (({"content": parts}, "Yes."), ({"content": None}, "")):
            server.script = lambda ask, fields=fields: Reply(fields=fields)
            assert (await complete(model, "?")).text == text
        server.script = lambda ask: Reply(fields={"content": None, "refusal": "I can't help with that."})
        with pytest.raises(GenerationError, match="refused: I can't") as caught:
            await complete(model, "?")
        assert caught.value.error_class == "refused"
        whole = [b"[]", b'{"choices": 3}', b"{}", b'{"choices": []}', b'{"choices": [{"message": 3}]}', b"\xff"]
        ended = [
            b'{"choices": [{"message": null, "finish_reason": "stop"}]}',
            b'{"choices": [{"finish_reason": "stop"}]}',
        ]
        for raw in whole + ended:
            server.script = lambda ask, raw=raw: Reply(raw=raw) if ask.question == "?" else Reply()
            with pytest.raises(GenerationError) as caught:
                await complete(model, "?")
            assert caught.value.error_class == "transient"
            await complete(model, "Another?")  # three in a row would be the server's fault


@pytest.mark.parametrize("listener", [None, listen])
@pytest.mark.parametrize("called", [{"tool_calls": [{"id": "1"}]}, {"function_call": {"name": "f"}}], ids=str)
async def test_calls_of_tools_are_no_answer_and_beside_one_no_matter(listener: Any, called: dict[str, Any]) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        for thought in ({}, {"reasoning": "Which tool?"}):
            fields = {"content": None, **thought, **called}
            server.script = lambda ask, fields=fields: Reply("", pieces=[], fields=fields)
            with pytest.raises(GenerationError, match="no text but calls of tools") as caught:
                await complete(model, "?", None, listener)
            assert caught.value.error_class == "permanent"
        server.script = lambda ask: Reply("Yes.", fields={**called, "reasoning": "Hm."})
        assert (await complete(model, "?", None, listener)).text == "<think>Hm.</think>Yes."


async def test_json_held_to_a_schema() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply('{"score": 3}')
        done = await model.complete_structured("Rate it.", SCHEMA, GenerateOptions())
        assert done.text == '{"score": 3}'
        sent = server.asked[0].body["response_format"]
        assert sent == {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "This model does not support response_format of type 'json_schema'."),
        (422, "Invalid schema for response_format 'reply'"),
        (400, "failed to parse grammar"),
        (500, "failed to parse grammar"),
        (501, "json_schema is not implemented"),
        (404, "No model here supports response_format."),
    ],
)
async def test_a_server_that_takes_no_schema_is_asked_only_once(status: int, message: str) -> None:
    async with OpenAIServer() as server, opened(server) as model:

        def script(ask: Any) -> Reply:
            refused = "response_format" in ask.body
            return Reply(status=status, raw=error_body(message)) if refused else Reply("3")

        server.script = script
        for _ in range(2):
            with pytest.raises(UnsupportedOption, match="JSON schema"):
                await model.complete_structured("Rate it.", SCHEMA, GenerateOptions())
        assert not model.takes_schemas
        assert len(server.asked) == 1
        assert (await complete(model, "Rate it.")).text == "3"


@pytest.mark.parametrize(
    ("status", "raw", "error_class"),
    [
        (400, error_body("This model's maximum context length is 4096 tokens; max_tokens is too large"), "permanent"),
        (400, error_body("Blocked.", code="content_filter"), "refused"),
        (400, error_body("The response was filtered by our content management policy."), "refused"),
        (403, error_body("Not for you."), "refused"),
        (429, error_body("You exceeded your current quota.", code="insufficient_quota"), "permanent"),
        (402, error_body("Insufficient balance."), "permanent"),
        (413, b"Payload Too Large", "permanent"),
        (422, b'"odd"', "permanent"),
        (200, error_body("Blocked.", code="content_policy_violation"), "refused"),
        (200, b'{"object": "error", "message": "the prompt is too long", "code": 400}', "permanent"),
    ],
)
async def test_errors_that_asking_again_does_not_help(status: int, raw: bytes, error_class: str) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply(status=status, raw=raw)
        with pytest.raises(GenerationError) as caught:
            await complete(model, "?")
        assert caught.value.error_class == error_class
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (error_body("No."), "answered 400: No."),
        (b'[{"error": {"code": 400, "message": "No."}}]', "answered 400: No."),
        (b'{"error": null, "message": "No."}', "answered 400: No."),
        (b'{"error": "No."}', "answered 400: No."),
        (b'{"error": {"message": {"reason": "No."}}}', 'answered 400: {"reason":"No."}'),
        (b'{"detail": "No."}', "answered 400: No."),
        (b'{"why": ["No."]}', 'answered 400: {"why":["No."]}'),
        (b"<html><head><style>p {}</style><title> No\n way </title></head><p>x</p></html>", "answered 400: No way"),
        (b"<p>No.</p>", "answered 400: No."),
        (error_body("No.\n\x1b[2J\u202e\x00way"), "answered 400: No. \ufffd[2J\ufffd\ufffdway"),
        (b"", "answered 400"),
        (b"x" * 100_000, "answered 400: " + "x" * 299 + "…"),
    ],
)
async def test_a_servers_words_are_one_line_that_is_safe_to_show(raw: bytes, said: str) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply(status=400, raw=raw)
        with pytest.raises(GenerationError) as caught:
            await complete(model, "?")
        assert str(caught.value) == f"{server.spec}: the server {said}"


@pytest.mark.parametrize("listener", [None, listen])
async def test_an_answer_that_is_called_a_page_is_an_answer(listener: Any) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        raw = b'\n {"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]}'
        server.script = lambda ask: Reply(raw=raw, headers={"Content-Type": "text/html; charset=utf-8"})
        assert (await complete(model, "?", None, listener)).text == "Yes."


async def test_a_wrong_address_key_or_name_is_the_users_to_mend() -> None:
    page = {"Content-Type": "text/html; charset=utf-8"}
    async with OpenAIServer(key="right") as server, opened(server) as model:
        with pytest.raises(ModelError, match=r"401.*ASSAY_API_KEY"):
            await complete(model, "?")
    async with OpenAIServer() as server:
        for spec, said in (
            (f"{server.url}#other", "`other` does not exist"),
            (f"{server.url}/v1#m", "Unknown request URL"),
        ):
            async with opened(spec) as model:
                with pytest.raises(ModelError, match=said):
                    await complete(model, "?")
        for reply, said in (
            (Reply(raw=b"<!DOCTYPE html><html>Hi</html>", headers=page), "web page"),
            (Reply(raw=b"\n <HTML>Hi</HTML>"), "web page"),
            (Reply(raw=b"<html>404</html>", status=404, headers=page), "web page"),
            (Reply(raw=b"", status=404), "404 to /chat/completions; are the address"),
            (Reply(raw=b"", status=308, headers={"Location": "https://x/v1"}), "redirects to 'https://x/v1'"),
        ):
            server.script = lambda ask, reply=reply: reply
            for listener in (None, listen):
                async with opened(server) as model:
                    with pytest.raises(ModelError, match=said) as caught:
                        await complete(model, "?", None, listener)
                    assert "\n" not in str(caught.value)
                    assert ("/v1#MODEL" in str(caught.value)) == (said == "web page" or "are the address" in said)


async def test_once_it_has_answered_such_an_error_is_one_samples() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        await complete(model, "?")
        server.script = lambda ask: Reply(raw=b"<html>Log in</html>")
        with pytest.raises(GenerationError, match="web page") as caught:
            await complete(model, "?")
        assert "/v1#MODEL" not in str(caught.value), "the address has proved right"


async def test_the_key_is_sent_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ASSAY_API_KEY", "sk-sekrit")
    async with OpenAIServer(key="sk-sekrit") as server, opened(server) as model:
        await complete(model, "?")
        assert server.asked[0].headers["authorization"] == "Bearer sk-sekrit"
        server.key = "another"  # the server's words repeat the key that it got
        with pytest.raises(GenerationError, match=r"Incorrect API key provided: \*\*\*") as caught:
            await complete(model, "?")
        shown = [repr(model), repr(vars(model)), repr(model.info), str(caught.value), repr(caught.value), caplog.text]
        assert "sekrit" not in "".join(shown)


@pytest.mark.parametrize("listener", [None, listen])
async def test_a_key_that_a_server_repeats_is_not_shown_in_part(listener: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-" + "0123456789abcdef" * 4
    monkeypatch.setenv("ASSAY_API_KEY", key)
    async with OpenAIServer(key=key) as server, opened(server, attempts=1) as model:
        for before in range(200, 320, 5):
            said = "." * before + key
            stream = {"Content-Type": "text/event-stream"}
            for reply in (
                Reply(status=400, raw=error_body(said)),
                Reply(status=500, raw=said.encode()),
                Reply(raw=error_body(said)),
                Reply(fields={"refusal": said}),
                Reply(finish=said[-150:]),
                Reply(raw=f"data: {said[-150:]}\n\n".encode(), headers=stream),
                Reply(raw=b"", status=307, headers={"Location": f"http://x/?{said}"}),
            ):
                server.script = lambda ask, reply=reply: reply
                with pytest.raises(AssayError) as caught:
                    await complete(model, "?", None, listener)
                assert key[:4] not in repr(caught.value)


async def test_connections_are_kept_and_closed() -> None:
    async with OpenAIServer() as server:
        async with opened(server) as model:
            for number in range(5):
                await complete(model, "?", None, listen if number % 2 else None)
            assert server.connections == 1
            await asyncio.gather(*(complete(model, "?") for _ in range(8)))
            assert server.connections <= 8
        await model.aclose()
        with pytest.raises(GenerationError, match="is closed"):
            await complete(model, "?")


@pytest.mark.parametrize("listener", [None, listen])
async def test_closing_ends_what_is_under_way_and_what_waits(listener: Any) -> None:
    async with OpenAIServer() as server, opened(server, concurrency=3) as model:
        later = Reply(status=503, raw=b"", headers={"Retry-After": "15"})
        server.script = lambda ask: later if ask.question == "fail" else Reply(hang=True)
        questions = ["hang", "hang", "hang", "hang", "fail"]
        tasks = [asyncio.create_task(complete(model, question, None, listener)) for question in reversed(questions)]
        while len(server.asked) < 4:
            await asyncio.sleep(0.01)
        await model.aclose()
        for end in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5):
            assert isinstance(end, GenerationError)
            assert (str(end), end.error_class) == (f"{server.spec}: the model is closed", "transient")
        assert len(server.asked) == 4, "who waits for a turn asks nothing any more"
        assert model.limit.used == 0
        while server.active:
            await asyncio.sleep(0.01)


async def test_closing_while_an_answer_is_read_keeps_no_connection() -> None:
    async with RawServer(lambda _: [response()[:50], 0.1, response()[50:]]) as server, opened(server.spec) as model:
        asking = asyncio.create_task(complete(model, "?"))
        while not server.asked:
            await asyncio.sleep(0.01)
        await model.aclose()
        with pytest.raises(GenerationError, match="closed"):
            await asking
        while server.open:
            await asyncio.sleep(0.01)
        assert server.connections == 1


async def test_a_question_that_no_request_can_carry_is_one_samples_failure() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        with pytest.raises(GenerationError, match="half a character") as caught:
            await complete(model, "\ud83d")
        assert caught.value.error_class == "permanent"
        assert (await complete(model, "🍎")).text == "Fine."


async def test_a_kept_connection_that_the_server_closed_is_nobodys_fault() -> None:
    async with OpenAIServer() as server, opened(server, attempts=1) as model:
        for _ in range(3):
            server.script = lambda ask: Reply(headers={"Connection": "close"})
            assert isinstance(await complete(model, "?"), Completion)
            server.script = lambda ask: Reply()
            assert isinstance(await complete(model, "?"), Completion)
            for task in server._tasks:
                task.cancel()  # the server drops its idle connections


@pytest.mark.parametrize(
    "raw",
    [
        b'{"choices": [{"message": {"content": "Ho"}, "finish_reason": ["stop"]}]}',
        b"[" * 100_000,
        b'{"choices": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
async def test_a_reply_of_a_strange_shape_is_asked_again_and_classed(raw: bytes) -> None:
    async with OpenAIServer() as server, opened(server, attempts=2, backoff_seconds=0.01) as model:
        server.script = lambda ask: Reply(raw=raw)
        with pytest.raises(GenerationError) as caught:
            await complete(model, "?")
        assert caught.value.error_class == "transient"
        assert len(server.asked) == 2


async def test_counts_that_are_none_are_not_taken() -> None:
    reply = {"choices": [{"message": {"content": "Ho ho"}, "finish_reason": "stop"}]}
    for told in (True, -3, "7", None, 2.5):
        async with OpenAIServer() as server, opened(server) as model:
            usage = {"prompt_tokens": told, "completion_tokens": told}
            server.script = lambda ask, usage=usage: Reply(raw=json.dumps({**reply, "usage": usage}).encode())
            assert (await complete(model, "?")).usage.prompt_tokens == 0
