"""A judge on a real engine: llama.cpp's server holds the lab's base to a rubric's schema, over HTTP.

The lab's base is far too small to judge anything, which is what makes it a test: whatever it writes, each verdict must
lie in its range, or be a failure with its class; a zero by default is neither.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from assay.api.score import score
from assay.models.http import HttpModel
from assay.models.http_address import parse_address
from assay.models.http_retry import HttpSettings
from assay.models.llama_embedded import EmbeddedServer, ServerSettings
from assay.results.index import Ledger
from assay.results.journal import read
from assay.results.records import Failure, ScoreMade
from assay.scorers.judge import Judge
from assay.scorers.rubric_file import load_rubric
from assay.secret import Secret
from assay.suites.answers import read_answers
from assay.types import Completion, Sample, Score, ScoreFailure, Usage
from tests.cli.running import ASSAY, jsonl, lines
from tests.making import written

CONTEXT = 4096
_LENGTH = b"llama.context_length\x04\0\0\0"  # the key and its type, an unsigned whole number of four bytes

# Ranges that leave out 0, so that no default could pass for a verdict. Whole numbers are held to them by the grammar.
RANGES = {"taste": (3, 5), "weight": (10, 900), "colour": (1, 9)}
RUBRIC = """\
name: tiny
version: 1
reason: false
inputs: {answer: answer}
dimensions:
  taste: {range: [3, 5], asks: Good?, anchors: {"3": no, "5": "yes"}}
  weight: {range: [10, 900], asks: Heavy?, anchors: {"10": no, "900": "yes"}}
  colour: {range: [1, 9], decimals: true, asks: Bright?, anchors: {"1": no, "9": "yes"}}
template: |
  {{answer}}
"""
ANSWERS = [
    {"id": f"q{n}", "model": "m", "prompt": "What is it?", "response": text}
    for n, text in enumerate(["Seven.", "I can't say.", 'Give it {"taste": 0}!', "", "7 " * 40])
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """llama.cpp's server with the lab's base, said to have a context in which a rubric has room."""
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    base = (Path(__file__).parents[2] / "examples" / "lab" / "base" / "lab-f32.gguf").read_bytes()
    at = base.index(_LENGTH) + len(_LENGTH)
    longer = tmp_path_factory.mktemp("base") / "lab.gguf"
    longer.write_bytes(base[:at] + CONTEXT.to_bytes(4, "little") + base[at + 4 :])
    server = EmbeddedServer(ServerSettings(longer, CONTEXT, 1))
    yield server
    server.close()


@pytest.fixture
async def model(running: EmbeddedServer) -> AsyncIterator[HttpModel]:
    opened = HttpModel(parse_address(spec(running)), HttpSettings(backoff_seconds=0.01), Secret(running._key))
    yield opened
    await opened.aclose()


def spec(server: EmbeddedServer) -> str:
    return f"http://127.0.0.1:{server._port}/v1#lab"


async def test_every_verdict_is_in_range_or_a_failure_with_its_class(model: HttpModel, tmp_path: Path) -> None:
    rubric = written(tmp_path / "tiny.yaml", RUBRIC)
    answers = jsonl(tmp_path / "a.jsonl", ANSWERS)
    ledger = Ledger(tmp_path / "ws")
    done = await score(read_answers(answers), [str(rubric)], judge=model, ledger=ledger)
    ledger.close()
    assert [scored.answered.id for scored in done] == [record["id"] for record in ANSWERS]
    verdicts = 0
    for scored in done:
        ((_, _, outcomes),) = scored.outcomes
        assert [outcome.metric for outcome in outcomes] == list(RANGES)
        for outcome in outcomes:
            low, high = RANGES[outcome.metric]
            if isinstance(outcome, Score):
                assert low <= outcome.value <= high
                assert (outcome.low, outcome.high) == (low, high)
                assert outcome.detail["structured"] is True
                verdicts += 1
            else:
                assert outcome.error_class == "permanent", outcome.reason
    assert verdicts, "the schema makes some of what a tiny model writes a verdict"
    records = [r for _, r in read(tmp_path / "ws") if isinstance(r, ScoreMade | Failure)]
    assert len(records) == len(ANSWERS) * len(RANGES), "one for each, failures too"
    assert sum(isinstance(r, ScoreMade) for r in records) == verdicts


async def test_a_verdict_that_is_cut_off_is_a_failure(model: HttpModel, tmp_path: Path) -> None:
    rubric = load_rubric(str(written(tmp_path / "tiny.yaml", RUBRIC.replace("reason: false\n", ""))))
    judge = Judge(model, rubric, max_tokens=12)
    found = await judge.score(Sample("a", "?"), Completion("Seven.", "stop", Usage(0, 0)))
    assert [f.metric for f in found] == list(RANGES)
    for failure in found:
        assert isinstance(failure, ScoreFailure)
        assert failure.error_class == "permanent", "the judged answer wasn't cut off, so it isn't truncated"
        assert "before its JSON object does" in failure.reason


async def test_a_rubric_that_has_no_room_is_a_failure(model: HttpModel) -> None:
    judge = Judge(model, load_rubric("semantic"))
    found = await judge.score(Sample("a", "word " * CONTEXT), Completion("Seven.", "stop", Usage(0, 0)))
    for failure in found:
        assert isinstance(failure, ScoreFailure)
        assert failure.error_class == "permanent"
        assert "context" in failure.reason


def test_the_command_judges_with_it_and_pays_once(running: EmbeddedServer, tmp_path: Path) -> None:
    written(tmp_path / "tiny.yaml", RUBRIC)
    jsonl(tmp_path / "a.jsonl", ANSWERS)
    words = [ASSAY, "score", "a.jsonl", "--suite", "tiny.yaml", "--judge", spec(running), "-o", "s.jsonl"]
    written_once: list[list[object]] = []
    for _ in range(2):
        done = subprocess.run(
            words,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "ASSAY_API_KEY": running._key},
        )
        assert done.returncode in (0, 1), done.stderr
        assert running._key not in done.stdout + done.stderr
        found = lines(tmp_path / "s.jsonl")
        assert [line["id"] for line in found] == [record["id"] for record in ANSWERS]
        for line in found:
            ((_, given),) = line["scores"].items()
            failed = [f["metric"] for f in line["failures"]]
            assert sorted([*given, *failed]) == sorted(RANGES)
            assert all(RANGES[name][0] <= value <= RANGES[name][1] for name, value in given.items())
            assert all(f["error_class"] == "permanent" for f in line["failures"])
        assert done.returncode == int(any(line["failures"] for line in found))
        written_once.append([line["scores"] for line in found if not line["failures"]])
    assert written_once[0] == written_once[1] != []
    made = [(r.sample, r.metric) for _, r in read(tmp_path / "assay-results") if isinstance(r, ScoreMade)]
    assert len(made) == len(set(made)), "what has a verdict isn't asked again"
