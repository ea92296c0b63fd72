"""Asking again: which faults are worth it, how long is waited, deadlines, push-backs, and servers that are gone."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from assay.errors import ConfigError, GenerationError, ModelError, Unreachable
from assay.models.base import complete
from assay.models.http import HttpModel
from assay.models.http_faults import Fault, retry_after
from assay.models.http_retry import Attempts, HttpSettings
from assay.types import Completion, GenerateOptions
from tests.models.http_opened import opened
from tests.models.openai_server import Ask, OpenAIServer, Reply, error_body

_FILES = 24


@pytest.mark.parametrize(
    "bad",
    [
        Reply(status=500, raw=error_body("oops")),
        Reply(status=502, raw=b"<html>Bad Gateway</html>", headers={"Content-Type": "text/html"}),
        Reply(status=503, raw=b"", headers={"Retry-After": "0"}),
        Reply(status=529, raw=error_body("overloaded")),
        Reply(status=408, raw=b""),
        Reply(status=429, raw=error_body("slow down")),
        Reply(raw=b'{"choices": [{"message": {"content": "Ye'),
        Reply(raw=error_body("upstream failed", code=503)),
        Reply(cut=30),
        Reply(cut=0),
        Reply(finish=None),
    ],
    ids=repr,
)
async def test_faults_of_the_moment_are_asked_again(bad: Reply) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: bad if ask.number < 3 else Reply()
        assert (await complete(model, "?")).text == "Fine."
        assert len(server.asked) == 4


async def test_a_fault_that_stays_ends_classed_after_so_many_attempts() -> None:
    async with OpenAIServer() as server, opened(server, attempts=4) as model:
        server.script = lambda ask: Reply(status=500, raw=error_body("oops"))
        with pytest.raises(GenerationError, match=r"answered 500: oops \(4 attempts\)") as caught:
            await complete(model, "?")
        assert caught.value.error_class == "transient"
        assert len(server.asked) == 4


async def test_the_wait_that_a_server_asks_for_is_kept() -> None:
    for least in (1.0, 0.5):
        later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)  # whole seconds, rounded down
        value = "1" if least == 1.0 else later
        async with OpenAIServer() as server, opened(server) as model:
            busy = Reply(status=429, raw=b"", headers={"Retry-After": value})
            server.script = lambda ask, busy=busy: Reply() if ask.number else busy
            began = time.monotonic()
            await complete(model, "?")
            assert time.monotonic() - began >= least
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply(status=429, raw=b"", headers={"Retry-After": "3600"})
        with pytest.raises(GenerationError, match="429; it asks for a wait of 3600 s") as caught:
            await complete(model, "?")
        assert caught.value.error_class == "transient"
        assert len(server.asked) == 1, "an hour is more than the question has left"


def test_what_retry_after_can_hold() -> None:
    assert retry_after("7") == 7
    assert retry_after("0.5") == 0.5
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    ahead = retry_after(format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True))
    assert ahead is not None
    assert 55 < ahead <= 60
    sent = "Wed, 21 Oct 2015 07:27:00 GMT"
    for date in ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00", "Wednesday, 21-Oct-15 07:28:00 GMT"):
        assert retry_after(date, sent) == 60, "by the server's clock"
    for value in (None, "", "soon", "-1", "nan", "inf", "1e9", "Wed, 99 Oct 2015 07:28:00 GMT"):
        assert retry_after(value) is None


async def test_how_waits_grow() -> None:
    settings = HttpSettings(attempts=100, backoff_seconds=1.0, backoff_cap_seconds=4.0, total_seconds=1e6)
    longest = [0.0] * 6
    for _ in range(300):
        attempts = Attempts(settings)
        for number in range(6):
            attempts.start()
            pause = attempts.pause(Fault("failing", "oops"))
            assert pause is not None
            assert 0 <= pause <= min(4.0, 2.0**number)
            longest[number] = max(longest[number], pause)
    assert longest[0] > 0.9
    assert longest[1] > 1.8
    assert longest[5] > 3.6


async def test_a_wait_of_no_time_at_all_is_drawn_like_any_other() -> None:
    settings = HttpSettings(backoff_seconds=1.0, backoff_cap_seconds=4.0, total_seconds=1e6)
    attempts = Attempts(settings)
    pauses = []
    for _ in range(200):
        attempts.start()
        pauses.append(attempts.pause(Fault("busy", "slow down", after=0.0)) or 0.0)
    assert max(pauses) > 2, "who says 0 for ever is not asked for ever without a pause"


async def test_push_backs_do_not_use_up_the_attempts() -> None:
    async with OpenAIServer() as server, opened(server, attempts=2) as model:
        server.script = lambda ask: Reply(status=429, raw=b"") if ask.number < 6 else Reply()
        assert (await complete(model, "?")).text == "Fine."


async def test_a_hanging_question_ends_at_its_deadlines_and_the_others_go_on() -> None:
    async with OpenAIServer() as server, opened(server, call_seconds=0.4, total_seconds=None) as model:
        server.script = lambda ask: Reply(hang=ask.question == "hang")
        began = time.monotonic()
        questions = [f"{n}" if n % 5 else "hang" for n in range(20)]
        ends = await asyncio.gather(*(complete(model, q) for q in questions), return_exceptions=True)
        took = time.monotonic() - began
        for question, end in zip(questions, ends, strict=True):
            if question == "hang":
                assert isinstance(end, GenerationError)
                assert end.error_class == "transient"
                # The limit that was set, and not what was left of it for the last try.
                assert str(end).endswith("no complete answer came within 0.4 s (2 attempts)")
            else:
                assert isinstance(end, Completion)
        assert 0.59 < took < 3, "0.4 s, and 0.2 s of what is left for a second try"
        assert sum(ask.question == "hang" for ask in server.asked) == 8
        assert model.limit.used == 0


async def test_the_total_deadline_bounds_a_single_call_too() -> None:
    async with OpenAIServer() as server, opened(server, call_seconds=30, total_seconds=0.3) as model:
        server.script = lambda ask: Reply(hang=True)
        with pytest.raises(GenerationError, match=r"within 0\.3 s"):
            await complete(model, "?")


@pytest.mark.parametrize("stays", [False, True])
async def test_a_thousand_calls_through_all_faults_at_once_are_answered_or_classed(stays: bool) -> None:
    def reply(ask: Ask) -> Reply:
        # Drawn for the question and the attempt at it, so that who comes first changes nothing.
        attempt = 0 if stays else sum(earlier.question == ask.question for earlier in server.asked)
        chance = Random(f"{ask.question}/{attempt}").random()
        bounds = (0.05, Reply(status=500, raw=b"")), (0.07, Reply(status=429, raw=b"", headers={"Retry-After": "0.2"}))
        more = (0.08, Reply(hang=True)), (0.09, Reply(raw=b'{"choices": [{"mess'))
        return next((bad for bound, bad in (*bounds, *more) if chance < bound), Reply(latency=0.01))

    async with OpenAIServer() as server, opened(server, concurrency=64, call_seconds=3, total_seconds=None) as model:
        server.script = reply
        asked = iter(range(1000))
        ends: dict[int, Completion | GenerationError] = {}

        async def work() -> None:
            for number in asked:
                try:
                    ends[number] = await complete(model, f"{number}")
                except GenerationError as error:
                    ends[number] = error

        await asyncio.gather(*(work() for _ in range(64)))
    assert len(ends) == 1000
    failed = {number: end for number, end in ends.items() if not isinstance(end, Completion)}
    assert {end.error_class for end in failed.values()} <= {"transient"}
    if stays:
        assert set(failed) == {n for n in range(1000) if Random(f"{n}/0").random() < 0.09}
    else:
        assert len(failed) < 20, "a hang and then an error leaves no time for more: about one in a thousand"


@pytest.mark.parametrize(("limit", "peak"), [(1, 1), (5, 5)])
async def test_never_more_are_under_way_than_allowed(limit: int, peak: int) -> None:
    async with OpenAIServer() as server, opened(server, concurrency=limit) as model:

        def script(ask: Ask) -> Reply:
            return Reply(status=500, raw=b"") if ask.number % 7 == 3 else Reply(ask.question, latency=0.005)

        server.script = script
        calls = [complete(model, f"{n}", None, (lambda _: None) if n % 2 else None) for n in range(30)]
        ends = await asyncio.gather(*calls)
        assert [end.text for end in ends] == [f"{n}" for n in range(30)]
        assert server.peak == peak


async def test_push_backs_lower_the_concurrency_and_it_recovers() -> None:
    async with OpenAIServer() as server, opened(server, concurrency=32) as model:

        def script(ask: Ask) -> Reply:
            return Reply(status=429, raw=b"") if server.active >= 4 else Reply(latency=0.02)

        server.script = script
        ends = await asyncio.gather(*(complete(model, f"{n}") for n in range(150)))
        assert len(ends) == 150
        low = model.limit.bound
        assert low < 12
        refused = len(server.asked) - 150
        assert refused < 150, f"{refused} of {len(server.asked)} requests came only to be refused"
        server.script = lambda ask: Reply()
        await asyncio.gather(*(complete(model, f"{n}") for n in range(150)))
        assert model.limit.bound == 32


async def test_a_limit_of_open_files_lowers_the_concurrency_and_loses_nothing() -> None:
    script = f"""
import asyncio, os, resource, sys
from assay.models.base import complete
from tests.models.http_opened import opened

async def main():
    async with opened(sys.argv[1], concurrency=60) as model:
        await complete(model, "?")  # what is loaded on first use is loaded
        soft = len(os.listdir("/dev/fd")) + {_FILES}
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
        ends = await asyncio.gather(*(complete(model, f"{{n}}") for n in range(200)), return_exceptions=True)
    print({{repr(end) if isinstance(end, Exception) else end.text for end in ends}})

asyncio.run(main())
"""
    async with OpenAIServer() as server:
        server.script = lambda ask: Reply(latency=0.02)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, server.spec),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        out, err = await child.communicate()
        assert (out.decode().strip(), err) == ("{'Fine.'}", b"")
        assert _FILES / 2 < server.peak < _FILES + 5, "and not 60"


async def test_a_server_that_is_not_there() -> None:
    async with OpenAIServer() as server:
        spec = server.spec
    async with opened(spec) as model:
        with pytest.raises(Unreachable, match=r"no connection could be made: .*\(5 attempts\)"):
            await complete(model, "?")


async def test_a_server_that_dies_is_unreachable_and_one_that_comes_back_is_not() -> None:
    async with OpenAIServer() as server, opened(server, concurrency=4, backoff_seconds=0.2) as model:
        port = server.port
        await complete(model, "?")
        assert server._server is not None
        server._server.close()
        for task in server._tasks:
            task.cancel()
        waiting = asyncio.create_task(complete(model, "?"))
        await asyncio.sleep(0.05)
        server._server = await asyncio.start_server(server._accept, "127.0.0.1", port)
        assert (await waiting).text == "Fine."
        server._server.close()
        for task in server._tasks:
            task.cancel()
        with pytest.raises(Unreachable):
            await complete(model, "?")


async def test_a_question_that_breaks_the_connection_is_one_samples_fault() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply(cut=0) if ask.question == "bad" else Reply()
        await complete(model, "?")
        for _ in range(5):
            with pytest.raises(GenerationError) as caught:
                await complete(model, "bad")
            assert caught.value.error_class == "transient"
            await complete(model, "?")


async def _ends(model: HttpModel, questions: Sequence[str], schema: bool = False) -> Counter[str]:
    """Ask one after the other; how often what came of it."""
    ends: Counter[str] = Counter()
    for question in questions:
        try:
            if schema:
                await model.complete_structured(question, {"type": "object"}, GenerateOptions())
            else:
                await complete(model, question)
            ends["answer"] += 1
        except GenerationError as error:
            ends[error.error_class] += 1
    return ends


@pytest.mark.parametrize("bad", [Reply(status=500, raw=b""), Reply(cut=0)], ids=["error", "broken"])
@pytest.mark.parametrize("first", [[], ["good"]], ids=["resumed", "begun"])
async def test_questions_that_no_server_survives_are_failures_however_many_come_in_a_row(
    first: list[str], bad: Reply
) -> None:
    async with OpenAIServer() as server, opened(server, attempts=2) as model:
        server.script = lambda ask: bad if "poison" in ask.question else Reply()
        ends = await _ends(model, [*first, *(f"poison {n}" for n in range(65)), "good"])
        assert ends == {"transient": 65, "answer": len(first) + 1}
        others = [ask.question for ask in server.asked if "poison" not in ask.question]
        assert 3 <= len(others) - len(first) - 1 <= 5, "it is asked each time that it is doubted, and no oftener"
        assert first == [] or set(others) == {"good"}, "what it has answered before is asked again"


async def test_many_at_once_share_one_trial_question() -> None:
    async with OpenAIServer() as server, opened(server, attempts=1, concurrency=64) as model:
        server.script = lambda ask: Reply(status=500, raw=b"") if "poison" in ask.question else Reply(latency=0.05)
        ends = await asyncio.gather(*(_ends(model, [f"poison {n}"]) for n in range(64)))
        assert sum(ends, Counter()) == {"transient": 64}
        assert len(server.asked) == 64 + 1


@pytest.mark.parametrize("first", [[], ["good"]], ids=["resumed", "begun"])
async def test_a_server_that_fails_the_trial_question_too_is_gone(first: list[str]) -> None:
    async with OpenAIServer() as server, opened(server, attempts=2) as model:
        server.script = lambda ask: Reply(status=502, raw=b"") if ask.number >= len(first) else Reply()
        with pytest.raises(Unreachable, match="20 questions in a row came to nothing"):
            await _ends(model, [*first, *(f"{n}" for n in range(30))])
        assert len(server.asked) == len(first) + 2 * 20 + 2


@pytest.mark.parametrize("few", [6, 60])
@pytest.mark.parametrize("bad", [Reply(raw=b"<html>A proxy.</html>"), Reply(raw=b"")], ids=["page", "empty"])
async def test_what_replies_as_no_such_server_does_is_found_out_after_three_questions(bad: Reply, few: int) -> None:
    async with OpenAIServer() as server, opened(server, attempts=1, concurrency=1) as model:
        server.script = lambda ask: bad if ask.number else Reply()
        await complete(model, "good")
        asking = (complete(model, f"{n}") for n in range(few))
        ends = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(ends[2], Unreachable)
        assert "3 questions in a row came to nothing" in str(ends[2])
        places = [ask.number for ask in server.asked if ask.question == "good"]
        assert places[:2] == [0, 5], "the trial question goes before those that wait"


async def test_questions_under_way_since_before_the_last_answer_are_counted_too() -> None:
    async with OpenAIServer() as server, opened(server, attempts=2, concurrency=32, backoff_seconds=0.01) as model:
        server.script = lambda ask: Reply(status=502, raw=b"") if ask.question != "good" or ask.number else Reply()
        asking = (complete(model, "good" if not n else f"{n}") for n in range(30))
        ends = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(ends[0], Completion)
        assert any(isinstance(end, Unreachable) for end in ends)


async def test_a_form_that_the_server_always_fails_ends_the_work_and_is_not_gone_through_to_the_end() -> None:
    async with OpenAIServer() as server, opened(server, attempts=1) as model:
        server.script = lambda ask: Reply(status=500, raw=b"") if "response_format" in ask.body else Reply()
        with pytest.raises(Unreachable, match="20 questions in a row"):
            await _ends(model, [f"{n}" for n in range(30)], schema=True)


async def test_a_server_that_refuses_the_trial_question_is_there() -> None:
    async with OpenAIServer() as server, opened(server, attempts=1) as model:

        def script(ask: Ask) -> Reply:
            poison = "poison" in ask.question
            return Reply(status=500, raw=b"") if poison else Reply(status=400, raw=error_body("too short"))

        server.script = script
        assert await _ends(model, [f"poison {n}" for n in range(45)]) == {"transient": 45}


TURNED_AWAY = [
    (Reply(status=403, raw=error_body("Forbidden")), "refused"),
    (Reply(status=400, raw=error_body("API key not valid. Please pass a valid API key.")), "permanent"),
    (Reply(status=422, raw=error_body("This template knows no such role.")), "permanent"),
    (Reply(status=400, raw=error_body("max tokens above this model's context length")), "permanent"),
]


@pytest.mark.parametrize(("bad", "error_class"), TURNED_AWAY, ids=repr)
async def test_a_server_that_turns_every_question_away_is_the_users_to_mend(bad: Reply, error_class: str) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: bad
        assert await _ends(model, ["1", "2"]) == {error_class: 2}
        with pytest.raises(ModelError, match="a plain question fares no better"):
            await complete(model, "3")
        assert [ask.question for ask in server.asked] == ["1", "2", "3", "Say yes."]
        assert {ask.body["max_tokens"] for ask in server.asked} == {512}, "which may be what is wrong"


@pytest.mark.parametrize(("bad", "error_class"), TURNED_AWAY, ids=repr)
async def test_questions_that_a_server_turns_away_are_failures_however_many_come_in_a_row(
    bad: Reply, error_class: str
) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: bad if "bad" in ask.question else Reply()
        ends = await _ends(model, [*(f"bad {n}" for n in range(30)), "good", *(f"bad {n}" for n in range(30))])
        assert ends == {error_class: 60, "answer": 1}
        assert len(server.asked) - 61 <= 3, "it is doubted now and then"


@pytest.mark.parametrize(
    "bad",
    [
        Reply(status=401, raw=error_body("The token is expired.")),
        Reply(status=402, raw=error_body("Insufficient balance.")),
        Reply(status=404, raw=error_body("The model was unloaded.")),
        Reply(status=429, raw=error_body("You exceeded your current quota.", code="insufficient_quota")),
    ],
    ids=repr,
)
async def test_a_server_that_turns_everything_away_in_mid_work_ends_it(bad: Reply) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: bad if ask.number else Reply()
        assert await _ends(model, ["good", "1", "2"]) == {"answer": 1, "permanent": 2}
        with pytest.raises(Unreachable, match="3 questions in a row were turned away"):
            await complete(model, "3")
        assert [ask.question for ask in server.asked] == ["good", "1", "2", "3", "good"]


async def test_a_quota_that_was_spent_before_the_first_question_is_no_mistake_in_it() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply(status=429, raw=error_body("Spent.", code="insufficient_quota"))
        with pytest.raises(Unreachable, match="Spent"):
            await _ends(model, ["1", "2", "3"])


@pytest.mark.parametrize("answer", [b"", None])
async def test_what_listens_there_but_never_answers(answer: bytes | None) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await reader.read()
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as listener:
        spec = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1#m"
        async with opened(spec, call_seconds=0.2, attempts=2, total_seconds=0.4) as model:
            for _ in range(2):
                with pytest.raises(GenerationError):
                    await complete(model, "?")
            with pytest.raises(Unreachable, match="has not answered anything"):
                await complete(model, "?")


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"attempts": 0},
        {"call_seconds": 0},
        {"call_seconds": float("inf")},
        {"call_seconds": float("nan")},
        {"total_seconds": -1.0},
        {"backoff_seconds": 0},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        HttpSettings(**wrong)
