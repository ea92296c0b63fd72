"""Compressed files of every format, whole and broken off."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import pytest

from assay.errors import SuiteError
from assay.suites.answers import Answered, BadLine, read_answers
from assay.suites.own_data import suite_from_data

DATA = Path(__file__).parents[1] / "data" / "answers"
ZSTD = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
PACKS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": ZSTD.compress,
    ".bz2": bz2.compress,
    ".xz": partial(lzma.compress, preset=0),
}


def everything(path: Path) -> tuple[list[Answered], list[BadLine]]:
    bad: list[BadLine] = []
    return list(read_answers(path, on_bad=bad.append)), bad


def noise(count: int) -> list[dict[str, str]]:
    """Answers that compress badly, so that a file of them has many blocks."""
    draw = Random(7)
    return [{"id": f"q{n}", "prompt": "Hi", "response": draw.randbytes(2000).hex()} for n in range(count)]


def jsonl(records: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.mark.parametrize("ending", PACKS)
def test_lines_are_read_as_if_they_were_not_compressed(tmp_path: Path, ending: str) -> None:
    text = jsonl(noise(3)).replace(b'"q1"', b"q1")
    plain, packed = tmp_path / "a.jsonl", tmp_path / f"a.jsonl{ending}"
    plain.write_bytes(text)
    packed.write_bytes(PACKS[ending](text[:5000]) + PACKS[ending](text[5000:]))
    answers, bad = everything(packed)
    assert (answers, [b.reason for b in bad]) == (everything(plain)[0], [b.reason for b in everything(plain)[1]])
    assert [a.id for a in answers] == ["q0", "q2"]
    assert str(bad[0]).startswith(f"{packed}:2: not valid JSON")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_tables(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbfprompt,response\r\nHi,"two\nlines"\r\n'))
    ((found,), bad) = everything(path)
    assert (found.text, found.line, bad) == ("two\nlines", 2, [])


def test_files_whose_names_tell_something(tmp_path: Path) -> None:
    folder = tmp_path / "acme__lands-2"
    folder.mkdir()
    source = next((DATA / "acme__lands-1").glob("samples_tiny_lands_*.jsonl"))
    (folder / f"{source.name}.gz").write_bytes(gzip.compress(source.read_bytes()))
    answers, _ = everything(folder / f"{source.name}.gz")
    assert (answers[0].id, answers[0].model) == ("tiny_lands/0", "acme/lands-2")

    (tmp_path / "lands.json.gz").write_bytes(gzip.compress((DATA / "lands.json").read_bytes()))
    assert everything(tmp_path / "lands.json.gz")[0] == everything(DATA / "lands.json")[0]

    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl([{"prompt": "2 + 2?", "completion": "4"}])))
    suite = suite_from_data(path)
    assert (suite.name, suite.samples[0].prompt) == ("mine", "2 + 2?")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_batch_and_its_requests(tmp_path: Path, ending: str) -> None:
    def request(name: str) -> dict[str, Any]:
        return {"custom_id": name, "body": {"messages": [{"role": "user", "content": f"{name}?"}]}}

    def reply(name: str) -> dict[str, Any]:
        body = {"model": "m", "choices": [{"message": {"content": name.upper()}}]}
        return {"custom_id": name, "response": {"status_code": 200, "body": body}}

    pack = PACKS.get(ending, bytes)
    (tmp_path / f"input.jsonl{ending}").write_bytes(pack(jsonl([request("a"), request("b")])))
    path = tmp_path / "output.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl([reply("b"), reply("a")])))
    answers, bad = everything(path)
    assert ([(a.sample.prompt, a.text) for a in answers], bad) == ([("b?", "B"), ("a?", "A")], [])


@pytest.mark.parametrize("ending", PACKS)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_what_stands_before_a_break_is_read(tmp_path: Path, ending: str, kind: str) -> None:
    records = noise(600)
    rows = [b"id,prompt,response\n", *(f"{r['id']},{r['prompt']},{r['response']}\n".encode() for r in records)]
    text = jsonl(records) if kind == "jsonl" else b"".join(rows)
    whole = PACKS[ending](text)
    path = tmp_path / f"a.{kind}{ending}"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    answers, bad = everything(path)
    assert 100 < len(answers) < 600
    assert [(a.id, a.text) for a in answers] == [(r["id"], r["response"]) for r in records[: len(answers)]]
    assert len(bad) == 1
    assert str(bad[0]).startswith(f"{path}:{len(answers) + 1 + (kind == 'csv')}: the file can't be read from here on: ")


def test_damage_elsewhere_is_one_sentence(tmp_path: Path) -> None:
    log = (DATA / "lands.json").read_text(encoding="utf-8")
    whole = gzip.compress(log.replace("Strelsau", "".join(r["response"] for r in noise(700)), 1).encode())
    (tmp_path / "lands.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SuiteError, match=r"lands.json.gz: can't be read to its end: "):
        everything(tmp_path / "lands.json.gz")
    train = gzip.compress(jsonl([{"prompt": r["response"], "completion": "4"} for r in noise(100)]))
    (tmp_path / "train.jsonl.gz").write_bytes(train[: len(train) // 2])
    with pytest.raises(SuiteError, match=r"train.jsonl.gz:\d+: the file can't be read from here on: "):
        suite_from_data(tmp_path / "train.jsonl.gz")


def test_a_line_that_fills_the_memory_when_unpacked_is_passed_over(tmp_path: Path) -> None:
    from assay.suites.formats import records

    path = tmp_path / "a.jsonl.gz"
    huge = b'{"prompt": "' + b"x" * (records.MAX_LINE + 10) + b'"}\n'
    path.write_bytes(gzip.compress(huge + jsonl(noise(1)), compresslevel=1))
    answers, bad = everything(path)
    assert [a.id for a in answers] == ["q0"]
    assert [b.reason for b in bad] == ["longer than 64 MiB, which no record is"]
