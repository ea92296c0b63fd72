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
        ("tiny_lands/0#2", "tiny_lands/0", 1, " Streslau."),
        ("tiny_lands/1", "tiny_lands/1", 0, " 24"),
        ("tiny_lands/1#2", "tiny_lands/1", 1, " 8 + 8 + 8 = 24"),
        ("tiny_lands/2", "tiny_lands/2", 0, " The Teichel – „quoted“"),
        ("tiny_lands/2#2", "tiny_lands/2", 1, ""),
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
