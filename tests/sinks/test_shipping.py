"""From the journal to a sink: nothing before its proof, nothing lost, nothing twice, and no sink holds anything up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from assay.config import Config, SinkConfig
from assay.errors import Unreachable
from assay.results.index import Ledger
from assay.results.records import (
    Attempt,
    CompletionMade,
    Failure,
    Finished,
    Place,
    Proof,
    Run,
    ScoreMade,
    SuiteUse,
    Summary,
    place_of,
)
from assay.sinks.base import Fact, GroupFact, Poison, SampleFact, Sink
from assay.sinks.feed import Feed
from assay.sinks.forwarding import forward
from assay.sinks.open import open_sinks
from assay.sinks.shipper import Shipper, read_states, state_file
from tests.sinks.servers import influx1

DIGEST, IDENTITY = "d" * 64, "1" * 64


class Memory:
    """A sink that keeps facts by their key, as a store does, and can be down or refuse."""

    name = place = "memory"

    def __init__(self) -> None:
        self.rows: dict[tuple[Any, ...], Fact] = {}
        self.taken = 0
        self.store = "one"
        self.down = False
        self.refuses: Callable[[Fact], bool] = lambda fact: False

    async def check(self) -> str:
        return self.store

    async def take(self, facts: Sequence[Fact]) -> str:
        if self.down:
            raise Unreachable("it is down")
        bad = {i: "not this one" for i, fact in enumerate(facts) if self.refuses(fact)}
        if bad:
            raise Poison(bad)
        self.taken += len(facts)
        for fact in facts:
            assert isinstance(fact, SampleFact | GroupFact)
            which = fact.sample if isinstance(fact, SampleFact) else (fact.group, fact.overall)
            self.rows[fact.about.run, fact.about.digest, which] = fact
        return self.store

    async def aclose(self) -> None: ...

    @property
    def samples(self) -> dict[str, str]:
        """Each sample with its adapter's proof."""
        return {f.sample: f.about.proof for f in self.rows.values() if isinstance(f, SampleFact)}


def place(sample: str, batch: str, digest: str = DIGEST) -> dict[str, Any]:
    where = Place(
        run="lab", checkpoint="lab @10" if digest else "base", iteration=10 if digest else 0, digest=digest,
        identity=IDENTITY, suite="small", suite_version=1, suite_digest="s", sample=sample, group="new", index=0, batch=batch,
    )  # fmt: skip
    return place_of(where)


def answer(ledger: Ledger, sample: str, batch: str, digest: str = DIGEST) -> None:
    key = f"{abs(hash((sample, batch, digest))):064x}"[:64]
    ledger.append(
        CompletionMade(
            **place(sample, batch, digest),
            key=key,
            prompt=f"Question {sample}",
            options={},
            text=f"Answer {sample}",
            finish_reason="stop",
            prompt_tokens=1,
            completion_tokens=1,
            seconds=0.1,
        )
    )
    ledger.append(
        ScoreMade(
            **place(sample, batch, digest),
            key="k",
            completion=key,
            scorer="contains_word",
            scorer_version=1,
            metric="correct",
            value=True,
            low=0.0,
            high=1.0,
        )
    )


def finished() -> Finished:
    parts = (
        Summary(group="new", metric="correct", mean=0.5, correct=1, asked=3, scored=2, failed=1),
        Summary(group="old", metric="correct", mean=1.0, correct=4, asked=4, scored=4),
    )
    return Finished(
        run="lab",
        checkpoint="lab @10",
        iteration=10,
        digest=DIGEST,
        identity=IDENTITY,
        suite="small",
        suite_version=1,
        suite_digest="s",
        limit=0,
        asked=7,
        scored=6,
        failed=1,
        truncated=0,
        seconds=1.0,
        summaries=parts,
        proof="live",
    )


def proof(ledger: Ledger, batch: str, verdict: str) -> None:
    ledger.append(Proof(run="lab", digest=DIGEST, identity=IDENTITY, batch=batch, verdict=verdict))


def begun(ledger: Ledger) -> None:
    use = SuiteUse(name="small", version=1, digest="s", groups=("old", "new"))
    ledger.append(
        Run(
            run="lab",
            base="b",
            engine="scripted",
            engine_version="1",
            identity=IDENTITY,
            suites=(use,),
            tag="t",
            run_id="r",
        )
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    opened = Ledger(tmp_path)
    begun(opened)
    yield opened
    opened.close()


def shipper(workspace: Path, sink: Memory) -> tuple[Shipper, list[str]]:
    notes: list[str] = []
    return Shipper(workspace, sink, notes.append), notes


async def test_an_adapters_answers_wait_for_their_proof_and_void_ones_never_come(
    ledger: Ledger, tmp_path: Path
) -> None:
    sink = Memory()
    ship, _ = shipper(tmp_path, sink)
    answer(ledger, "of the base", "", digest="")
    proof(ledger, "one", "open")
    answer(ledger, "a", "one")
    await ship.drain()
    assert sink.samples == {"of the base": ""}
    proof(ledger, "one", "void")
    answer(ledger, "a", "two")
    answer(ledger, "b", "two")
    await ship.drain()
    assert sink.samples == {"of the base": ""}
    proof(ledger, "two", "live")
    answer(ledger, "c", "three")
    proof(ledger, "three", "unproven")
    await ship.drain()
    assert sink.samples == {"of the base": "", "a": "live", "b": "live", "c": "unproven"}
    fact = sink.rows["lab", DIGEST, "a"]
    assert isinstance(fact, SampleFact)
    assert (fact.prompt, fact.response, fact.about.tag, fact.about.engine) == (
        "Question a",
        "Answer a",
        "t",
        "scripted",
    )


async def test_what_is_held_back_is_remembered_over_restarts_and_over_segments(ledger: Ledger, tmp_path: Path) -> None:
    sink = Memory()
    answer(ledger, "a", "killed")
    await shipper(tmp_path, sink)[0].drain()
    ledger.close()
    later = Ledger(tmp_path)
    answer(later, "b", "second")
    await shipper(tmp_path, sink)[0].drain()
    assert sink.samples == {}
    proof(later, "killed", "live")
    proof(later, "second", "live")
    await shipper(tmp_path, sink)[0].drain()
    assert sink.samples == {"a": "live", "b": "live"}
    before = sink.taken
    await shipper(tmp_path, sink)[0].drain()
    assert sink.taken == before == 2, "nothing is sent again that was taken"
    later.close()


async def test_a_checkpoint_that_is_given_up_is_sent_as_unproven_until_a_proof_comes(
    ledger: Ledger, tmp_path: Path
) -> None:
    sink = Memory()
    answer(ledger, "a", "killed")
    answer(ledger, "b", "other", "e" * 64)
    fault = Attempt(
        run="lab", checkpoint="lab @10", iteration=10, host="", path="p", size=1, modified_ns=1, config_size=1,
        config_modified_ns=1, error="EngineKilled", reason="it killed the engine twice", digest=DIGEST, identity=IDENTITY,
    )  # fmt: skip
    ledger.append(fault)
    await shipper(tmp_path, sink)[0].drain()
    assert sink.samples == {}, "another try may prove it"
    ledger.append(msgspec.structs.replace(fault, final=True))
    await shipper(tmp_path, sink)[0].drain()
    assert sink.samples == {"a": "unproven"}
    proof(ledger, "killed", "live")
    await shipper(tmp_path, sink)[0].drain()
    assert sink.samples == {"a": "live"}


async def test_groups_and_the_whole_suite_come_when_it_is_finished(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append(finished())
    facts = Feed(tmp_path, {}).next(100).facts
    told = [(f.group, f.position, f.mean, f.correct, f.asked, f.overall) for f in facts if isinstance(f, GroupFact)]
    assert told == [
        ("new", 1, 0.5, 1, 3, False),
        ("old", 2, 1.0, 4, 4, False),
        ("overall", 0, 5 / 6, 5, 7, True),
    ]


async def test_a_sink_that_is_down_gets_all_of_it_later(ledger: Ledger, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("assay.sinks.shipper._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("assay.sinks.shipper._IDLE_SECONDS", 0.01)
    sink = Memory()
    sink.down = True
    ship, notes = shipper(tmp_path, sink)
    work = asyncio.create_task(ship.run())
    for number in range(50):
        answer(ledger, f"s{number}", "", digest="")
        await asyncio.sleep(0.001)
    while not notes:
        await asyncio.sleep(0.01)
    assert [state.reason for state in read_states(tmp_path)] == ["it is down"]
    sink.down = False
    async with asyncio.timeout(20):
        while len(sink.samples) < 50:
            await asyncio.sleep(0.01)
    work.cancel()
    assert len(notes) == 2, "once down, once up again"
    assert "it is down" in notes[0]
    assert sink.taken == 50


async def test_a_shipper_that_is_cancelled_at_any_moment_loses_nothing(ledger: Ledger, tmp_path: Path) -> None:
    sink = Memory()
    for number in range(200):
        answer(ledger, f"s{number}", "", digest="")
        ship, _ = shipper(tmp_path, sink)
        work = asyncio.create_task(ship.run())
        await asyncio.sleep(number % 10 * 0.0005)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        if number % 20 == 19:
            await ship.drain()
            assert len(sink.samples) == number + 1


async def test_a_crash_after_the_sink_took_a_batch_sends_it_again(ledger: Ledger, tmp_path: Path) -> None:
    sink = Memory()
    ship, _ = shipper(tmp_path, sink)
    answer(ledger, "a", "", digest="")
    await ship.drain()
    state = state_file(tmp_path, "memory").read_bytes()
    answer(ledger, "b", "", digest="")
    await ship.drain()
    state_file(tmp_path, "memory").write_bytes(state)
    await shipper(tmp_path, sink)[0].drain()
    assert sink.taken == 3
    assert set(sink.samples) == {"a", "b"}
    state_file(tmp_path, "memory").write_bytes(b'{"v":1,"cur')
    await shipper(tmp_path, sink)[0].drain()
    assert set(sink.samples) == {"a", "b"}, "a state that can't be read means: all of it again"


async def test_a_fact_that_a_sink_never_takes_is_set_aside_and_the_others_go_on(ledger: Ledger, tmp_path: Path) -> None:
    sink = Memory()
    sink.refuses = lambda fact: isinstance(fact, SampleFact) and fact.sample in ("s3", "s7")
    ship, notes = shipper(tmp_path, sink)
    for number in range(10):
        answer(ledger, f"s{number}", "", digest="")
    await ship.drain()
    assert set(sink.samples) == {f"s{n}" for n in range(10)} - {"s3", "s7"}
    assert ship.state.set_aside == 2
    lines = state_file(tmp_path, "memory").with_suffix(".refused.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line)["sample"] for line in lines] == ["s3", "s7"]
    assert "refuses 2 results (not this one)" in notes[0]


async def test_a_failure_is_forwarded_as_one_and_never_as_a_zero(ledger: Ledger, tmp_path: Path) -> None:
    failure = Failure(
        **place("f", "", digest=""), stage="generate", error_class="transient", reason="it broke", metric="correct",
        partial="So far",
    )  # fmt: skip
    ledger.append(failure)
    [fact] = Feed(tmp_path, {}).next(10).facts
    assert isinstance(fact, SampleFact)
    assert (fact.value, fact.outcome, fact.reason, fact.response) == (None, "failed", "it broke", "So far")


async def sent_to(workspace: Path, sinks: Sequence[Sink], *, again: bool = False) -> dict[str, int]:
    """How many facts each took; none may fail."""
    forwarded = await forward(workspace, sinks, lambda text: None, again=again)
    assert not [each for each in forwarded.values() if each.fault]
    return {name: each.sent for name, each in forwarded.items()}


async def test_each_place_has_a_cursor_of_its_own_and_a_file_that_is_gone_is_filled_again(
    ledger: Ledger, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        answer(ledger, name, "", digest="")
    one, two = tmp_path / "one.duckdb", tmp_path / "two.duckdb"
    archive = Config(tmp_path, sinks={"archive": SinkConfig("duckdb", path=one)})

    async def sent(*names: str) -> dict[str, int]:
        return await sent_to(tmp_path, open_sinks(names, archive))

    assert await sent(f"duckdb:{one}", f"duckdb:{tmp_path}/./one.duckdb", "archive") == {f"duckdb:{one}": 2}
    assert await sent(f"duckdb:{one}", f"duckdb:{two}") == {f"duckdb:{one}": 0, f"duckdb:{two}": 2}
    one.unlink()
    answer(ledger, "c", "", digest="")
    assert await sent("archive", f"duckdb:{two}") == {"archive": 3, f"duckdb:{two}": 1}
    assert [state.name for state in read_states(tmp_path)] == ["archive", f"duckdb:{two}"]
    two.unlink()
    assert await sent(f"duckdb:{two}") == {f"duckdb:{two}": 3}
    with duckdb.connect(two, read_only=True) as db:
        assert db.execute("select list(sample order by sample) from samples").fetchall() == [(["a", "b", "c"],)]


async def test_a_store_that_is_another_one_between_two_batches_gets_what_the_first_one_had(
    ledger: Ledger, tmp_path: Path
) -> None:
    sink = Memory()
    ship, _ = shipper(tmp_path, sink)
    answer(ledger, "a", "", digest="")
    await ship.drain()
    sink.store, sink.rows = "two", {}
    answer(ledger, "b", "", digest="")
    await ship.drain()
    assert set(sink.samples) == {"a", "b"}


async def test_a_store_that_cannot_be_told_apart_is_held_to_be_the_same(ledger: Ledger, tmp_path: Path) -> None:
    sink = Memory()
    ship, notes = shipper(tmp_path, sink)
    for store, name in (("one", "a"), ("", "b"), ("one", "c")):
        sink.store = store
        answer(ledger, name, "", digest="")
        await ship.check()
        await ship.drain()
    assert sink.taken == 3
    assert not notes


async def test_all_is_sent_again_when_it_is_asked_for(ledger: Ledger, tmp_path: Path) -> None:
    sink = Memory()
    sink.refuses = lambda fact: isinstance(fact, SampleFact) and fact.sample == "b"
    for name in ("a", "b", "c"):
        answer(ledger, name, "", digest="")
    assert await sent_to(tmp_path, [sink]) == {"memory": 2}
    assert await sent_to(tmp_path, [sink]) == {"memory": 0}
    assert await sent_to(tmp_path, [sink], again=True) == {"memory": 2}
    refused = state_file(tmp_path, "memory").with_suffix(".refused.jsonl")
    assert len(refused.read_bytes().splitlines()) == 1
    sink.refuses = lambda fact: False
    assert await sent_to(tmp_path, [sink], again=True) == {"memory": 3}
    assert not refused.exists()


async def test_a_sink_that_takes_nothing_keeps_none_of_the_others_from_it(ledger: Ledger, tmp_path: Path) -> None:
    answer(ledger, "a", "", digest="")
    places = "influx:http://127.0.0.1:9", f"duckdb:{tmp_path}", "duckdb"
    down, wrong, fine = (await forward(tmp_path, open_sinks(places, Config(tmp_path)), print)).values()
    assert str(down.fault) == "http://127.0.0.1:9 can't be reached: Connection refused"
    assert "is a folder" in str(wrong.fault)
    assert fine == (1, None)


async def test_an_influx_database_that_was_dropped_and_made_again_is_filled_again(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.append(finished())
    with influx1(tmp_path / "influx") as server:
        sinks = partial(open_sinks, [f"influx:{server.url}#training"], Config(tmp_path))
        [first] = (await sent_to(tmp_path, sinks())).values()
        there = server.ask("select * from suite_score", "training")
        assert there
        assert set((await sent_to(tmp_path, sinks())).values()) == {0}
        server.ask('drop database "training"')
        server.ask('create database "training"')
        assert set((await sent_to(tmp_path, sinks())).values()) == {first}
        assert server.ask("select * from suite_score", "training") == there
        server.ask("delete from suite_score", "training")
        assert set((await sent_to(tmp_path, sinks())).values()) == {0}, "it can't be known"
        assert set((await sent_to(tmp_path, sinks(), again=True)).values()) == {first}
        assert server.ask("select * from suite_score", "training") == there
