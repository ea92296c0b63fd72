"""Logs of inspect_ai; those under tests/data were written by its version 0.3.285 and shorn of events and times."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import pytest

from assay.errors import SuiteError
from assay.suites.answers import Answered, BadLine, NoAnswer, read_answers
from assay.types import Message

DATA = Path(__file__).parents[1] / "data" / "answers"
ZSTD = sys.version_info >= (3, 14) or (
    importlib.util.find_spec("backports") is not None and importlib.util.find_spec("backports.zstd") is not None
)


def everything(path: Path) -> tuple[list[Answered], list[BadLine]]:
    bad: list[BadLine] = []
    return list(read_answers(path, on_bad=bad.append)), bad


def log(path: Path, *samples: dict[str, Any] | bytes, header: str = "header.json", **spec: Any) -> Path:
    """An `.eval` log of one model, made by hand."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(header, json.dumps({"version": 2, "eval": {"model": "m", "task": "t", **spec}}))
        for number, sample in enumerate(samples, start=1):
            data = sample if isinstance(sample, bytes) else json.dumps(sample).encode()
            archive.writestr(f"samples/{number}_epoch_1.json", data)
    return path


def sample(**change: Any) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": "Ho"}, "stop_reason": "stop"}
    return {"id": "a", "epoch": 1, "input": "Hi", "target": "Ho", "output": {"choices": [choice]}, **change}


@pytest.mark.parametrize(
    "name",
    [
        "lands-deflate.eval",
        "lands.json",
        pytest.param("lands.eval", marks=pytest.mark.skipif(not ZSTD, reason="nothing here unpacks zstd")),
    ],
)
def test_logs_as_inspect_writes_them(name: str) -> None:
    answers, bad = everything(DATA / name)
    found = {a.id: a for a in answers if a.repeat == 0}
    again = {a.id: a for a in answers if a.repeat == 1}
    assert sorted(found) == sorted(again) == ["2", "broken", "capital", "river"]
    assert {a.model for a in answers} == {"mockllm/model"}
    first = found["capital"]
    assert (first.text, first.finish_reason, first.repeat) == ("It is Strelsau.", "stop", 0)
    assert (first.sample.prompt, first.sample.group) == ("What is the capital of Ruritania?", "lands")
    assert (first.sample.reference, first.sample.metadata) == ({"target": "Strelsau"}, {"kind": "lands"})
    assert again["capital"].sample == first.sample
    assert found["river"].finish_reason == "length"
    assert found["2"].text == "24 legs", "the reasoning that the engine set apart is no part of the answer"
    assert found["2"].sample.reference == {"target": ["24", "twenty-four"]}
    assert found["2"].sample.prompt == (
        Message("system", "Be brief."),
        Message("user", "How many legs have three spiders?"),
    )
    assert not bad
    failure = NoAnswer("permanent", "the sample failed: RuntimeError('the sandbox went away')")
    assert [found["broken"].failure, again["broken"].failure, found["river"].failure] == [failure, failure, None]


def test_a_json_log_may_hold_nan_be_left_half_way_or_break_off(tmp_path: Path) -> None:
    text = (DATA / "lands.json").read_text(encoding="utf-8")
    path = tmp_path / "log.json"
    path.write_text(text.replace('"kind": "lands"', '"kind": NaN'), encoding="utf-8")
    answers = read_answers(path, on_bad=lambda bad: None)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert len(everything(path)[0]) == 8
    path.write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(SuiteError, match=r"log.json: not a log of inspect_ai: not valid JSON"):
        list(read_answers(path))


def test_without_a_way_to_unpack_zstd_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("this Python unpacks zstd itself")
    monkeypatch.setitem(sys.modules, "backports", None)
    with pytest.raises(SuiteError, match=r"lands.eval: this log is compressed with zstd, .* backports.zstd"):
        list(read_answers(DATA / "lands.eval"))


def test_what_was_asked_is_what_the_model_saw_last(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "attachment://" + "0" * 32},
        {"role": "user", "content": [{"type": "text", "text": "See: "}, {"type": "image", "image": "data:x"}]},
        {"role": "assistant", "content": "Calling."},
        {"role": "tool", "content": "5"},
        {"role": "assistant", "content": "Ho"},
    ]
    path = log(tmp_path / "a.eval", sample(messages=turns, attachments={"0" * 32: "Be brief."}))
    ((found,), bad) = everything(path)
    assert not bad
    assert found.sample.prompt == (
        Message("system", "Be brief."),
        Message("user", "See: [image]"),
        Message("assistant", "Calling."),
        Message("tool", "5"),
    )


def test_fields_for_standard_scorers_and_choices(tmp_path: Path) -> None:
    path = log(tmp_path / "a.eval", sample(target=["B"], choices=["x", "y"], metadata={"risk_area": "R", "n": 1}))
    ((found,), _) = everything(path)
    assert found.sample.reference == {"risk_area": "R", "target": "B", "choices": ["x", "y"]}
    assert found.sample.metadata == {"n": 1}


def test_a_log_still_being_written_has_a_part(tmp_path: Path) -> None:
    ((found,), _) = everything(log(tmp_path / "a.eval", sample(), header="_journal/start.json"))
    assert (found.id, found.model) == ("a", "m")


def test_samples_without_an_answer_are_told_of(tmp_path: Path) -> None:
    withheld = {"choices": [{"message": {"role": "assistant", "content": ""}, "stop_reason": "content_filter"}]}
    path = log(
        tmp_path / "a.eval",
        sample(),
        b"{",
        sample(id="b", output={"choices": []}),
        sample(id="c", output=withheld),
        sample(id="d", messages=[{"role": "robot", "content": "x"}]),
        {"epoch": 1},
        sample(),
    )
    answers, bad = everything(path)
    assert [(a.id, a.failure) for a in answers] == [
        ("a", None),
        ("b", NoAnswer("permanent", "the sample has no output")),
        ("c", NoAnswer("refused", "the answer was withheld by a content filter")),
    ]
    assert [b.id for b in bad] == ["", "d", "", "a"]
    assert str(bad[0]).startswith(f"{path}/samples/2_epoch_1.json: not valid JSON")
    assert "unknown role 'robot'" in bad[1].reason
    assert "missing required field `id`" in bad[2].reason
    assert bad[3].reason == "a second answer of the model 'm' under the id 'a'"


def ended(stop_reason: str, content: str = "Ho") -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content}, "stop_reason": stop_reason}]}


@pytest.mark.parametrize(
    ("change", "failure", "finish"),
    [
        # As inspect's version 0.3.285 writes what its limits, cancellation and `invalidate_samples` do.
        ({"limit": {"type": "message", "limit": 3.0}, "output": ended("tool_calls")}, None, "length"),
        (
            {"limit": {"type": "time", "limit": 2.0}, "output": {"choices": []}},
            NoAnswer("truncated", "the sample came to its time limit before an answer"),
            None,
        ),
        (
            {"error": {"message": 'CancelledError("Cancelled via cancel scope 7f")'}},
            NoAnswer("transient", "the sample was cancelled"),
            None,
        ),
        (
            {"invalidation": {"author": "me", "reason": "It leaked."}},
            NoAnswer("permanent", "the sample was made invalid: It leaked."),
            None,
        ),
        ({"output": ended("stop", ""), "limit": None, "error": None, "invalidation": None}, None, "stop"),
    ],
)
def test_samples_that_did_not_end_by_themselves(
    tmp_path: Path, change: dict[str, Any], failure: NoAnswer | None, finish: str | None
) -> None:
    ((found,), bad) = everything(log(tmp_path / "a.eval", sample(**change)))
    assert (found.failure, found.finish_reason, bad) == (failure, finish, [])


def test_an_answer_is_that_of_the_model_which_gave_it(tmp_path: Path) -> None:
    path = log(tmp_path / "a.eval", sample(model_fallbacks=[{"model": "m", "fallback_model": "n", "count": 1}]))
    assert [a.model for a in everything(path)[0]] == ["n"]


def test_samples_that_a_log_lacks_are_told_of(tmp_path: Path) -> None:
    spec = {"dataset": {"samples": 9, "sample_ids": ["a", 2]}, "config": {"epochs": 2}}
    path = log(tmp_path / "a.eval", sample(), sample(epoch=2), sample(id=2), header="_journal/start.json", **spec)
    answers, bad = everything(path)
    assert [(a.id, a.repeat) for a in answers] == [("a", 0), ("a", 1), ("2", 0)]
    assert [str(b) for b in bad] == [f"{path}: 1 of its 4 samples are not in the log of this run (started)"]
    with pytest.raises(SuiteError, match="1 of its 4 samples"):
        list(read_answers(path, strict=True))
    whole = log(tmp_path / "b.eval", sample(), sample(epoch=2), sample(id=2), sample(id=2, epoch=2), **spec)
    assert everything(whole)[1] == []


def test_damage_within_a_log_costs_only_the_damaged_sample(tmp_path: Path) -> None:
    path = log(tmp_path / "a.eval", sample(), sample(id="b"))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("samples/2_epoch_1.json")
    start = info.header_offset + 30 + len(info.filename)
    data[start + 4 : start + 14] = bytes(10)
    path.write_bytes(data)
    answers, bad = everything(path)
    assert [a.id for a in answers] == ["a"]
    assert [b.reason.partition(":")[0] for b in bad] == ["damaged"]


def test_other_zip_files_are_not_logs(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.eval", "w") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(SuiteError, match="a zip file, but not a log of inspect_ai"):
        list(read_answers(tmp_path / "a.eval"))
    with pytest.raises(SuiteError, match="there are no answers in it"):
        list(read_answers(log(tmp_path / "b.eval")))


def test_not_a_number_where_none_can_be_is_a_bad_line(tmp_path: Path) -> None:
    good = json.dumps(sample()).encode()
    for field in ("id", "epoch", "messages", "output"):
        wrong = json.dumps({**sample(), field: float("nan")}).encode()
        answers, bad = everything(log(tmp_path / f"{field}.eval", wrong, good))
        assert (len(answers), len(bad)) == (1, 1), field


def test_a_log_damaged_anywhere_is_one_sentence(tmp_path: Path) -> None:
    whole = log(tmp_path / "whole.eval", sample(), sample(id=2)).read_bytes()
    path = tmp_path / "damaged.eval"
    said: list[str] = []
    for seed in range(400):
        draw = Random(seed)
        data = bytearray(whole)
        for _ in range(draw.randint(1, 6)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(bytes(data))
        try:
            everything(path)
        except SuiteError as error:
            said.append(str(error))
    assert said
    assert all("damaged.eval" in sentence for sentence in said)


def test_one_epoch_is_no_repeat(tmp_path: Path) -> None:
    for epochs, repeat in ((1, None), (3, 0), (None, 0)):
        path = tmp_path / "a.eval"
        with zipfile.ZipFile(path, "w") as archive:
            head = {"version": 2, "eval": {"model": "m", "task": "t", "config": {"epochs": epochs}}}
            archive.writestr("header.json", json.dumps(head))
            archive.writestr("samples/a_epoch_1.json", json.dumps(sample()))
        ((found,), _) = everything(path)
        assert found.repeat == repeat
