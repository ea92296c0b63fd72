"""InfluxDB's three write paths: a real InfluxDB 1, a real VictoriaMetrics, and a server that parses with a foreign parser."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from line_protocol_parser import parse_line

from assay.config import SinkConfig
from assay.errors import BadInput, ConfigError, Unreachable
from assay.secret import Secret
from assay.sinks.base import Poison
from assay.sinks.influx import InfluxSink, open_sink
from assay.sinks.line_protocol import escaped_tag, lines_of
from tests.sinks.facts import about, group, loss, sample
from tests.sinks.servers import TOKEN, Influx1, Influx3, elsewhere, free_port, get, influx1, victoria

NANOSECONDS = 1_000_000_000
AT_100 = 1_739_577_600 + 100 * 1000
JUDGED = [
    sample(metric=m, value=v, scorer="capability", measure="m") for m, v in (("reasoning", 7.0), ("correctness", 8.5))
]
OVERALL = group(group="overall", overall=True, position=0, correct=3, scored=4, mean=0.75)


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx1]:
    with influx1(tmp_path_factory.mktemp("influx")) as running:
        yield running


@pytest.fixture
def influx3() -> Iterator[Influx3]:
    server = Influx3()
    yield server
    server.stop()


def sink(url: str, database: str = "training", token: str | None = None) -> InfluxSink:
    return InfluxSink("influx", url, database, token=Secret(token) if token else None)


async def test_go_mls_measurements_are_there_once_however_often_they_are_sent(influx: Influx1) -> None:
    last = sample(metric="clarity", value=10.0, scorer="capability", measure="m")
    content = sample(about=about(suite="content"), sample="taiwan", index=2, metric="engagement", value=4)
    facts = [sample(), group(), OVERALL, *JUDGED, last, content, loss()]
    for _ in range(3):
        await sink(influx.url).take(facts)
    whose = {"model": "gemma-3-12b", "run_id": "12b-capability-auto", "label": "G12 @0000100"}
    scores = influx.ask("select * from capability_score", "training")
    common = {**whose, "iteration": 100}
    assert scores == [
        {**common, "time": AT_100 * NANOSECONDS, "category": "overall", "accuracy": 75, "correct": 3, "total": 4},
        {
            **common,
            "time": (AT_100 + 5) * NANOSECONDS,
            "category": "geometry",
            "accuracy": 50,
            "correct": 1,
            "total": 2,
        },
    ]
    [probe] = influx.ask("select * from probe_score", "training")
    assert (probe["probe_id"], probe["passed"]) == ("geometry-1", 1)
    [judged] = influx.ask("select * from capability_judge", "training")
    assert [judged[n] for n in ("reasoning", "correctness", "clarity", "avg")] == [7, 8.5, 10, 8.5]
    [written] = influx.ask("select * from content_score", "training")
    assert written == {
        **common, "run_id": "12b-content-auto", "time": (AT_100 + 22) * NANOSECONDS, "dimension": "engagement",
        "has_kernel": "true", "score": 4,
    }  # fmt: skip
    [trained] = influx.ask("select * from training_loss", "training")
    assert (trained["loss"], trained["loss_type"], trained["iteration"]) == (1.25, "val", 100)


async def test_a_users_suite_stands_under_suite_score_and_two_digests_do_not_clobber_each_other(
    influx: Influx1,
) -> None:
    for digest in ("a" * 64, "b" * 64):
        mine = about(suite="mine", digest=digest)
        await sink(influx.url).take([group(about=mine, group="old facts", mean=0.5 if digest[0] == "a" else 1.0)])
    rows = influx.ask("select * from suite_score where suite = 'mine'", "training")
    assert [(row["digest"], row["mean"], row["group"], row["proof"]) for row in rows] == [
        ("a" * 12, 0.5, "old facts", "live"),
        ("b" * 12, 1.0, "old facts", "live"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "a,b=c",
        'say "x"',
        "it's",
        "ends\\",
        "C:\\x y",
        "back\\,slash",
        "two\nlines",
        "ümlaut 中文 😀",
        " lead",
        "=",
        "\\",
    ],
)
async def test_every_name_comes_back_from_a_real_server(influx: Influx1, name: str) -> None:
    mine = about(suite="names", run_id="names", label=name)
    await sink(influx.url).take([group(about=mine, group=name)])
    plain = name.replace("\n", "\\n")
    wanted = {plain, plain.replace("\\", "\N{REVERSE SOLIDUS OPERATOR}")}
    rows = influx.ask("select * from suite_score where run_id = 'names'", "training")
    assert [row for row in rows if row["label"] in wanted and row["group"] in wanted], rows


@settings(max_examples=300)
@given(st.text(min_size=1, alphabet=st.characters(codec="utf-8", exclude_characters="\x00")))
def test_any_text_is_one_tag_to_a_foreign_parser(name: str) -> None:
    [line] = lines_of(group(about=about(suite="any", label=name), group=name))
    assert "\n" not in line
    parsed = parse_line(line)
    assert parsed["tags"]["suite"] == "any"
    assert parsed["tags"]["run_id"] == "12b-capability-auto"
    assert parsed["fields"]["scored"] == 2
    assert parsed["time"] == (AT_100 + 5) * NANOSECONDS


def test_a_runs_name_may_say_capability_itself() -> None:
    mine = about(suite="content", run_id="12b-capability-v2-capability-auto")
    [line] = lines_of(sample(about=mine, metric="engagement", value=7.0))
    assert parse_line(line)["tags"]["run_id"] == "12b-capability-v2-content-auto"


def test_escapes() -> None:
    assert escaped_tag("a, b=c") == r"a\,\ b\=c"
    assert escaped_tag("plain") == "plain"


async def test_what_is_wrong_is_one_sentence(influx: Influx1, influx3: Influx3) -> None:
    with pytest.raises(BadInput, match=r"has no database 'nowhere'.*make it, or name another"):
        await sink(influx.url, "nowhere").check()
    await sink(influx.url).check()
    with pytest.raises(BadInput, match=r"refuses the token \(401.*INFLUX_TOKEN"):
        await sink(influx3.url, token="wrong").check()
    with pytest.raises(BadInput, match="wants a token"):
        await sink(influx3.url).check()
    with pytest.raises(BadInput, match="has no database 'other'"):
        await sink(influx3.url, "other", TOKEN).check()
    await sink(influx3.url, token=TOKEN).check()
    with pytest.raises(Unreachable, match="can't be reached"):
        await sink("http://127.0.0.1:9").check()


async def test_version_3_keeps_each_point_once_and_a_line_that_it_refuses_is_told_alone(
    influx3: Influx3, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = [group(group=f"g{i}", about=about(suite="mine")) for i in range(20)]
    await sink(influx3.url, token=TOKEN).take(facts)
    await sink(influx3.url, token=TOKEN).take(facts)
    assert influx3.results() == 20
    influx3.down = True
    with pytest.raises(Unreachable, match="503"):
        await sink(influx3.url, token=TOKEN).take(facts)
    influx3.down = False
    monkeypatch.setattr("assay.sinks.influx.lines_of", lambda f: ["no line"] if f.group == "g7" else lines_of(f))
    influx3.points.clear()
    with pytest.raises(Poison) as caught:
        await sink(influx3.url, token=TOKEN).take(facts)
    assert list(caught.value.reasons) == [7]
    assert influx3.results() == 19


async def test_a_database_that_was_dropped_and_made_again_is_told_from_the_first(influx: Influx1) -> None:
    influx.ask('create database "again"')
    store = sink(influx.url, "again")
    first = await store.check()
    assert first
    assert await store.take([group()]) == await sink(influx.url, "again").check() == first
    influx.ask('drop database "again"')
    with pytest.raises(BadInput, match="has no database 'again'"):
        await store.take([group()])
    influx.ask('create database "again"')
    second = await store.take([group()])
    assert second not in ("", first)
    assert await store.check() == second


async def test_version_3_tells_its_databases_apart_if_its_token_may_read(influx3: Influx3) -> None:
    store = sink(influx3.url, token=TOKEN)
    first = await store.check()
    assert first
    assert await store.take([group(about=about(suite="mine"))]) == first
    influx3.points.clear()
    assert await store.take([group(about=about(suite="mine"))]) not in ("", first)
    influx3.may_read = False
    assert await store.check() == ""
    assert await store.take([group(about=about(suite="mine"))]) == ""


async def test_a_user_who_may_only_write_is_served_and_one_who_may_not_is_told(tmp_path: Path) -> None:
    server = Influx1(tmp_path, free_port(), auth=True)
    server.start()
    try:
        server.ask("create user me with password 'all' with all privileges")
        for query in ("database training", "user writer with password 'w'", "user reader with password 'r'"):
            server.ask(f"create {query}", user="me:all")
        for right in ("write on training to writer", "read on training to reader"):
            server.ask(f"grant {right}", user="me:all")
        assert await sink(server.url, token="writer:w").take([group()]) == ""
        assert len(server.ask("select accuracy from capability_score", "training", user="me:all")) == 1
        for token in ("reader:r", "writer:wrong", "no such"):
            with pytest.raises(BadInput, match=r"refuses the token .* put USER:PASSWORD"):
                await sink(server.url, token=token).check()
        assert await sink(server.url, token="me:all").check()
    finally:
        server.stop()


async def test_a_database_that_keeps_nothing_so_old_is_said_at_the_start(influx: Influx1) -> None:
    influx.ask('create database "short" with duration 30d')
    with pytest.raises(BadInput, match="keeps what is in 'short' for too short a time"):
        await sink(influx.url, "short").check()
    with pytest.raises(BadInput, match="keeps what is in 'short' for too short a time"):
        await sink(influx.url, "short").take([group()])


async def test_a_server_that_sends_elsewhere_gets_no_second_request(influx3: Influx3) -> None:
    with elsewhere(influx3.url) as url, pytest.raises(BadInput, match=r"sends requests elsewhere \(302\)"):
        await InfluxSink("influx", url, "training", version=3, token=Secret(TOKEN)).check()
    assert influx3.requests == 0


async def test_what_speaks_no_http_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = threading.Thread(target=_greet, args=(server,))
        answer.start()
        with pytest.raises(Unreachable, match=r"can't be reached: SSH-2\.0"):
            await sink(f"http://127.0.0.1:{server.getsockname()[1]}").check()
        answer.join()


def _greet(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


async def test_victoriametrics_takes_versions_1_and_2(tmp_path: Path) -> None:
    with victoria(tmp_path) as url:
        for version in (1, 2):
            store = InfluxSink("vm", url, "training", "org", version)
            assert await store.check() == "", "it can't be asked"
            assert await store.take([group(about=about(suite="mine", run_id=f"v{version}"))]) == ""
        get(f"{url}/internal/force_flush")
        lines = get(f"{url}/api/v1/export?match[]=suite_score_mean").splitlines()
    found = {json.loads(line)["metric"]["run_id"]: json.loads(line) for line in lines}
    assert set(found) == {"v1", "v2"}
    assert found["v2"]["values"] == [0.5]
    assert found["v2"]["timestamps"] == [(AT_100 + 5) * 1000]


def test_settings_that_make_no_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for wrong, match in (
        (SinkConfig("influx", url="localhost:8086"), "no URL"),
        (SinkConfig("influx", url="http://me:secret@h"), "INFLUX_TOKEN"),
        (SinkConfig("influx", path=tmp_path), "is a server"),
    ):
        with pytest.raises(ConfigError, match=match) as caught:
            open_sink("influx", wrong, tmp_path)
        assert "secret" not in str(caught.value)
    (tmp_path / ".influx_token").write_text("from-the-file\n")
    monkeypatch.delenv("INFLUX_TOKEN", raising=False)
    assert open_sink("influx", SinkConfig("influx"), tmp_path)._token == Secret("from-the-file")
    monkeypatch.setenv("INFLUX_TOKEN", "from-the-environment")
    assert open_sink("influx", SinkConfig("influx"), tmp_path)._token == Secret("from-the-environment")
