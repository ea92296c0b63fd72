"""Answers in Parquet and CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from assay.errors import SuiteError
from assay.suites.answers import Answered, BadLine, NoAnswer, read_answers
from assay.types import Message


def everything(path: Path) -> tuple[list[Answered], list[BadLine]]:
    bad: list[BadLine] = []
    return list(read_answers(path, on_bad=bad.append)), bad


def parquet(path: Path, select: str) -> Path:
    with duckdb.connect() as connection:
        connection.sql(select).write_parquet(str(path))
    return path


def csv(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_parquet_rows_are_answers(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a[1]*.parquet",
        """SELECT * FROM (VALUES
             (1, 'm', 'Hi', 'Ho', 50, 'gsm8k', 1.5::DOUBLE, DATE '2020-02-02', {'n': 1}),
             (2, 'm', 'Hi', NULL, NULL, NULL, NULL, NULL, NULL),
             (3, NULL, 'Hi', '', NULL, NULL, 'nan'::DOUBLE, NULL, NULL),
             (1, 'm', 'Hi', 'again', NULL, NULL, NULL, NULL, NULL)
           ) t(id, model, prompt, response, correct_answer, "domain", seconds, day, extra)""",
    )
    answers, bad = everything(path)
    assert [(a.id, a.model, a.text, a.line) for a in answers] == [("1", "m", "Ho", 1), ("3", "", "", 3)]
    first = answers[0].sample
    assert (first.reference, first.group) == ({"correct_answer": "50", "domain": "gsm8k"}, "gsm8k")
    assert first.metadata == {"seconds": 1.5, "day": "2020-02-02", "extra": {"n": 1}}
    assert answers[1].sample.metadata == {}, "NaN is how a data frame says null"
    assert str(bad[0]) == f"{path}: row 2: response holds nothing: there is no answer"
    assert str(bad[1]) == f"{path}: row 4: a second answer of the model 'm' under the id '1'"


def test_columns_as_data_frames_write_them(tmp_path: Path) -> None:
    """Whole numbers in columns with gaps are floats, and fields of structs that a row lacks are null."""
    path = parquet(
        tmp_path / "a.parquet",
        r"""SELECT * FROM (VALUES
             (1::DOUBLE, 'Hi', 'Ho'::BLOB, 7::DOUBLE, {'best_answer': NULL, 'hint': 'x'}),
             (NULL, 'Hi', '\xFF'::BLOB, 7.5::DOUBLE, NULL),
             (3::DOUBLE, 'Hi', 'H\xC3\xB6'::BLOB, 7.5::DOUBLE, {'best_answer': 'y', 'hint': NULL})
           ) t(id, prompt, response, target, reference)""",
    )
    answers, bad = everything(path)
    assert [(a.id, a.text, dict(a.sample.reference)) for a in answers] == [
        ("1", "Ho", {"target": "7", "hint": "x"}),
        ("3", "Hö", {"target": "7.5", "best_answer": "y"}),
    ]
    assert [str(b) for b in bad] == [f"{path}: row 2: response must be text, not a value of type bytes"]


def test_messages_in_parquet_may_have_parts_and_gaps(tmp_path: Path) -> None:
    select = """SELECT 'Ho' AS response, [
        {'role': 'system', 'content': [{'type': 'text', 'text': 'Be brief.'}], 'tool_calls': NULL},
        {'role': 'user', 'content': [{'type': 'text', 'text': 'See: '}, {'type': 'image_url', 'text': NULL}],
         'tool_calls': NULL},
        {'role': 'assistant', 'content': NULL, 'tool_calls': ['x']}] AS messages"""
    ((found,), _) = everything(parquet(tmp_path / "a.parquet", select))
    assert found.sample.prompt == (
        Message("system", "Be brief."),
        Message("user", "See: [image_url]"),
        Message("assistant", ""),
    )


def test_a_prompt_may_be_a_list_of_messages_in_parquet(tmp_path: Path) -> None:
    select = "SELECT [{'role': 'user', 'content': 'Hi'}] AS messages, 'Ho' AS output FROM range(3)"
    answers, _ = everything(parquet(tmp_path / "a.parquet", select))
    assert [(a.id, a.sample.prompt, a.text) for a in answers] == [(str(n), "Hi", "Ho") for n in (1, 2, 3)]


def test_more_rows_than_one_batch(tmp_path: Path) -> None:
    select = "SELECT i AS id, 'Hi' AS prompt, 'Ho ' || i AS response FROM range(5000) t(i) ORDER BY i"
    answers, bad = everything(parquet(tmp_path / "a.parquet", select))
    assert [(a.id, a.text) for a in answers] == [(str(n), f"Ho {n}") for n in range(5000)]
    assert not bad


def test_csv_rows_are_answers(tmp_path: Path) -> None:
    text = (
        "\ufeffid,model,prompt,response,correct_answer\r\n"
        '7,m,"Two\nlines, one cell","said ""Ho""",50\r\n'
        "\r\n"
        "8,m,Hi,,\r\n"
        "9,m,,Ho,\r\n"
        "10,m,Hi\r\n"
        "11,m,Hi,Ho,\r\n"
    )
    path = csv(tmp_path / "a.csv", text)
    answers, bad = everything(path)
    assert [(a.id, a.sample.prompt, a.text, a.line) for a in answers] == [
        ("7", "Two\nlines, one cell", 'said "Ho"', 2),
        ("11", "Hi", "Ho", 8),
    ]
    assert [dict(a.sample.reference) for a in answers] == [{"correct_answer": "50"}, {}]
    assert [str(b).partition(";")[0] for b in bad] == [
        f"{path}:5: response holds nothing: there is no answer",
        f"{path}:6: no 'prompt', nor another field that could be it",
        f"{path}:7: 3 values, but 5 columns",
    ]


def test_an_empty_cell_is_no_answer_and_beside_an_error_it_failed(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "prompt,output,error\nHi,Ho,\nHi,,\nHi,,timed out\n")
    answers, bad = everything(path)
    assert [(a.id, a.text) for a in answers] == [("2", "Ho"), ("4", "")]
    assert answers[1].failure == NoAnswer("permanent", "the request failed: timed out")
    assert [str(b) for b in bad] == [f"{path}:3: output holds nothing: there is no answer"]


def test_a_quotation_mark_that_is_never_closed_swallows_nothing_in_silence(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", 'prompt,response\nHi,a "word" in it\nHi,"Ho" he said\nHi,"Ho\nHi,Ho\nHi,Ho\n')
    answers, bad = everything(path)
    assert [(a.id, a.text) for a in answers] == [("2", 'a "word" in it')]
    assert [str(b) for b in bad] == [
        f"{path}:3: not valid CSV: ',' expected after '\"'",
        f"{path}:4: a quotation mark in this row is never closed, and the 2 lines after it are lost",
    ]
    with pytest.raises(SuiteError, match=r"b.csv:1: a quotation mark in this row is never closed"):
        everything(csv(tmp_path / "b.csv", 'prompt,"response\nHi,Ho\n'))


def test_line_ends_of_all_kinds_and_characters_of_control(tmp_path: Path) -> None:
    for end in ("\n", "\r\n", "\r"):
        path = csv(tmp_path / "a.csv", end.join(["prompt,response", "Hi,H\0o", '"a', 'b",Ho', "Hi", "Hi,Ho", ""]))
        answers, bad = everything(path)
        assert [(a.line, a.text) for a in answers] == [(2, "H\0o"), (3, "Ho"), (6, "Ho")]
        assert [b.place.line for b in bad] == [5]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_head_shows_what_separates_columns(tmp_path: Path, mark: str) -> None:
    rows = [["question", "generated_text", "a,b;c"], ["Hi", "Ho", "x"]]
    text = "\n".join(mark.join(f'"{cell}"' for cell in row) for row in rows)
    ((found,), _) = everything(csv(tmp_path / "a.tsv", text))
    assert (found.sample.prompt, found.text, found.sample.metadata) == ("Hi", "Ho", {"a,b;c": "x"})


def test_bad_bytes_cost_one_row_and_long_cells_are_fine(tmp_path: Path) -> None:
    long = b"x" * 1_000_000
    path = csv(tmp_path / "a.csv", b"prompt,response\nHi,\xff\nHi," + long + b"\n")
    answers, bad = everything(path)
    assert [(a.id, len(a.text)) for a in answers] == [("3", 1_000_000)]
    assert [str(b) for b in bad] == [f"{path}:2: not UTF-8 text"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,prompt\n1,Hi\n", "a.csv:1: no column 'response' (nor 'output', 'completion', 'generated_text')"),
        ("id,response\n1,Ho\n", "a.csv:1: no column 'prompt' (nor 'question'"),
        ("prompt,output,completion\n", "a.csv:1: output and completion could each be the response; name one"),
        ("prompt,prompt,response\n", "a.csv:1: two columns are named 'prompt'"),
        ("prompt,response\n", "a.csv: there are no answers in it"),
        ("\n\n", "a.csv:1: no column 'response'"),
        ("", "a.csv: the file is empty"),
    ],
)
def test_csv_files_without_answers(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SuiteError) as caught:
        list(read_answers(csv(tmp_path / "a.csv", text), on_bad=lambda bad: None))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("select", "sentence"),
    [
        ("SELECT 'Hi' AS prompt", "a.parquet: no column 'response'"),
        ("SELECT 'Ho' AS response", "a.parquet: no column 'prompt'"),
        ("SELECT 'Hi' AS prompt, 7 AS response", "a.parquet: row 1: response must be text, not the number 7"),
        ("SELECT 'Hi' AS prompt, 'Ho' AS response WHERE false", "a.parquet: there are no answers in it"),
    ],
)
def test_parquet_files_without_answers(tmp_path: Path, select: str, sentence: str) -> None:
    with pytest.raises(SuiteError) as caught:
        list(read_answers(parquet(tmp_path / "a.parquet", select), on_bad=lambda bad: None))
    assert sentence in str(caught.value)


def test_a_parquet_file_that_breaks_off(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", "SELECT 'Hi' AS prompt, 'Ho' AS response FROM range(10)")
    whole: Any = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SuiteError, match="cannot be read as Parquet"):
        list(read_answers(path))


def test_repeats_in_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,repeat,prompt,response\nq,1,Hi,Ho\nq,2,Hi,He\nr,,Hi,Ho\n")
    query = "select id, repeat::double as repeat, 'Hi' as prompt, 'Ho' as response from read_csv('a.csv')"
    query = query.replace("a.csv", str(tmp_path / "a.csv"))
    duckdb.execute(f"copy ({query}) to '{tmp_path / 'a.parquet'}'")
    for name in ("a.csv", "a.parquet"):
        found = [(a.id, a.repeat) for a in read_answers(tmp_path / name, strict=True)]
        assert found == [("q", 1), ("q", 2), ("r", 0)]
    (tmp_path / "b.csv").write_text("id,prompt,response\nq,Hi,Ho\n")
    assert [a.repeat for a in read_answers(tmp_path / "b.csv", strict=True)] == [None]
