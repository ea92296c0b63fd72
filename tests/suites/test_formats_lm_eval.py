"""lm-evaluation-harness's sample files; those under tests/data were written by its version 0.4.13."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.errors import SuiteError
from assay.suites.answers import BadLine, read_answers
from assay.types import Message, Raw

RUN = Path(__file__).parents[1] / "data" / "answers" / "acme__lands-1"
DATE = "2025-01-01T00-00-00.000000"
LINE: dict[str, Any] = {
    "doc_id": 3,
    "doc": {"question": "Hi?"},
    "target": "Ho",
    "arguments": {"gen_args_0": {"arg_0": "Q: Hi?", "arg_1": {}}},
    "resps": [["Ho"]],
    "filter": "none",
}


def test_each_doc_counts_once_and_each_of_its_answers_is_a_repeat() -> None:
    path = RUN / f"samples_tiny_lands_{DATE}.jsonl"
    assert len(path.read_text(encoding="utf-8").splitlines()) == 6, "three docs under two filters"
    answers = list(read_answers(path, strict=True))
    assert [(a.id, a.sample.id, a.repeat, a.text) for a in answers] == [
        ("tiny_lands/0", "tiny_lands/0", 0, " Strelsau, I believe."),
        ("tiny_lands/0", "tiny_lands/0", 1, " Streslau."),
        ("tiny_lands/1", "tiny_lands/1", 0, " 24"),
        ("tiny_lands/1", "tiny_lands/1", 1, " 8 + 8 + 8 = 24"),
        ("tiny_lands/2", "tiny_lands/2", 0, " The Teichel – „quoted“"),
        ("tiny_lands/2", "tiny_lands/2", 1, ""),
    ]
    first = answers[0]
    assert (first.model, first.sample.group, first.finish_reason) == ("acme/lands-1", "tiny_lands", None)
    assert isinstance(first.sample.prompt, Raw)
    assert first.sample.prompt == "Q: What is the capital of Ruritania?\nA:"
    assert first.sample.reference == {"target": "Strelsau", "best_answer": "Strelsau"}
    assert first.sample.metadata == {"question": "What is the capital of Ruritania?"}


def test_log_likelihoods_are_no_answers() -> None:
    path = RUN / f"samples_tiny_choice_{DATE}.jsonl"
    bad: list[BadLine] = []
    with pytest.raises(SuiteError, match=r"log-likelihoods of given choices.*none of the other 2"):
        list(read_answers(path, on_bad=bad.append))
    assert [(b.place.line, b.id) for b in bad] == [(1, "tiny_choice/0"), (2, "tiny_choice/1"), (3, "tiny_choice/2")]


@pytest.mark.parametrize(
    ("results", "model"),
    [
        ('{"model_name": "acme/named"}', "acme/named"),
        ('{"config": {"model": "dummy", "model_args": ""}}', "dummy"),
        ("{}", "acme/from-folder"),
        ("not JSON", "acme/from-folder"),
        (None, "acme/from-folder"),
    ],
)
def test_where_the_models_name_comes_from(tmp_path: Path, results: str | None, model: str) -> None:
    folder = tmp_path / "acme__from-folder"
    folder.mkdir()
    if results is not None:
        (folder / f"results_{DATE}.json").write_text(results)
    (folder / f"samples_a_task_{DATE}.jsonl").write_text(json.dumps(LINE))
    (found,) = read_answers(folder / f"samples_a_task_{DATE}.jsonl", strict=True)
    assert (found.id, found.model) == ("a_task/3", model)


def test_a_renamed_file_has_no_task_and_no_model(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(json.dumps(LINE))
    (found,) = read_answers(tmp_path / "mine.jsonl", strict=True)
    assert (found.id, found.model, found.sample.group) == ("3", "", "all")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"arguments": [["Q: Hi?", {"until": []}]]}, Raw("Q: Hi?")),
        ({"arguments": {"gen_args_0": {"arg_0": ['[{"role": "user", "content": "Hi?"}]']}}}, "Hi?"),
        (
            {
                "arguments": {
                    "gen_args_0": {"arg_0": ['[{"role":"system","content":"S"},{"role":"user","content":"U"}]']}
                }
            },
            (Message("system", "S"), Message("user", "U")),
        ),
        (
            {"resps": [["-12.25"]], "arguments": {"gen_args_0": {"arg_0": "Hi."}}},
            "the log-likelihood of a whole text, not an answer that the model wrote",
        ),
        (
            {"resps": [[-12.25]], "arguments": [["Hi."]]},
            "the log-likelihood of a whole text, not an answer that the model wrote",
        ),
        ({"arguments": {}}, "arguments doesn't hold the prompt"),
        ({"resps": []}, "resps holds no answer"),
        ({"resps": [[7]]}, "an answer in resps must be text, not the number 7"),
        ({"resps": "Ho"}, "expected `array`, got `str` in resps"),
    ],
)
def test_other_versions_and_damaged_lines(tmp_path: Path, change: dict[str, Any], expected: Any) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(LINE) + "\n" + json.dumps({**LINE, "doc_id": 4, **change}))
    bad: list[BadLine] = []
    answers = list(read_answers(path, on_bad=bad.append))
    if bad:
        assert [str(b) for b in bad] == [f"{path}:2: {expected}"]
    else:
        assert answers[1].sample.prompt == expected
        assert isinstance(answers[1].sample.prompt, type(expected))


def test_a_list_of_targets_is_one_however_it_was_written(tmp_path: Path) -> None:
    targets: list[Any] = ["['2', 'two']", ["2", "two"], "['2']", [2], "[2, 3]", "['2'", "plain", 7]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({**LINE, "doc_id": n, "target": t}) for n, t in enumerate(targets)))
    found = [a.sample.reference["target"] for a in read_answers(path, strict=True)]
    assert found == [["2", "two"], ["2", "two"], "2", "2", "[2, 3]", "['2'", "plain", "7"]


def test_several_tasks_in_one_file_lose_nothing(tmp_path: Path) -> None:
    """Each task begins its filters and its docs anew."""
    records = [
        {
            **LINE,
            "doc_id": doc,
            "doc": {"q": task},
            "doc_hash": f"{task}{doc}" * 9,
            "filter": name,
            "filtered_resps": [name],
        }
        for task, filters in (("a", ("strict", "flexible")), ("b", ("none",)))
        for name in filters
        for doc in range(2)
    ]
    path = tmp_path / "all.jsonl"
    path.write_text("\n".join(map(json.dumps, [*records, records[0]])))
    bad: list[BadLine] = []
    answers = list(read_answers(path, on_bad=bad.append))
    assert [(a.id, a.line) for a in answers] == [
        ("0-a0a0a0a0", 1),
        ("1-a1a1a1a1", 2),
        ("0-b0b0b0b0", 5),
        ("1-b1b1b1b1", 6),
    ]
    assert [b.place.line for b in bad] == [7]


def test_samples_of_versions_before_0_4_3(tmp_path: Path) -> None:
    """One list, indented; a doc stands there once for each filter, which is not named."""
    old = {"arguments": [["Q: Hi?", {"until": []}]], "filtered_resps": ["Ho"], "target": ["Ho", "Hey"]}
    docs = [{**{k: v for k, v in LINE.items() if k != "filter"}, **old, "doc_id": doc} for doc in (0, 1)]
    path = tmp_path / "pretrained__acme__lands-1,dtype__float_big_lands.jsonl"
    path.write_text(json.dumps([*docs, *docs], indent=2))
    config = {"model": "hf", "model_args": "pretrained=acme/lands-1,dtype=float"}
    results = {"results": {}, "configs": {"lands": {}, "big_lands": {}, "other": {}}, "config": config}
    for known in (True, False):
        answers = list(read_answers(path, strict=True))
        assert [a.id for a in answers] == ["0", "1"] if known else ["big_lands/0", "big_lands/1"]
        assert {a.model for a in answers} == {""} if known else {"acme/lands-1"}
        assert answers[0].sample.reference == {"target": ["Ho", "Hey"]}
        (tmp_path / "results.json").write_text(json.dumps(results))


def test_an_answer_that_is_none_takes_no_other_with_it(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(json.dumps({**LINE, "resps": [["Ho", None, "Hu"]]}))
    bad: list[BadLine] = []
    answers = list(read_answers(tmp_path / "mine.jsonl", on_bad=bad.append))
    assert [(a.id, a.repeat, a.text) for a in answers] == [("3", 0, "Ho"), ("3", 2, "Hu")]
    assert [(b.id, b.reason) for b in bad] == [("3", "an answer in resps must be text, not null")]


def test_a_doc_with_one_answer_was_asked_once(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(json.dumps(LINE))
    assert [a.repeat for a in read_answers(tmp_path / "mine.jsonl")] == [None]
