"""Sample files: JSON lines and Parquet, as other tools write them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from assay.errors import SuiteError
from assay.suites.readers import plain, read_jsonl, read_parquet
from assay.suites.suite import load_suite
from assay.types import Message

HEAD = "name: s\nversion: 1\nscorer: contains_word\n"


def parquet(path: Path, select: str) -> Path:
    with duckdb.connect() as connection:
        connection.sql(select).write_parquet(str(path))
    return path


def test_json_lines_keep_their_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "prompt": "x\xe2\x80\xa8y"}\r\n\r\n  \n{"id": "b", "target": null}')
    first, second = read_jsonl(path)
    assert plain(first) == {"id": "a", "prompt": "x\u2028y"}
    assert plain(second) == {"id": "b"}
    assert (first.place.line, second.place.line) == (1, 4)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"id": "a"', "not valid JSON"),
        ("[1]", "each line must be a JSON object"),
        ('{"id": "a", "id": "b"}', "the key 'id' stands twice"),
        ('{"id": "a", "metadata": {"x": NaN}}', "not a finite number"),
        ('{"id": "\\ud800"}', "half of a surrogate pair"),
        ('{"id": ' + "1" * 5000 + "}", "too many digits"),
        ('{"id": ' + "[" * 100_000, "nested too deeply"),
        ('{"id": "a", "prompt": "Hi", "targett": "x"}', "unknown key 'targett' in a sample; did you mean 'target'?"),
        ('{"id": "a", "prompt": "Hi", "target": 7.5}', "target must be text, not the number 7.5"),
        ('{"id": "a", "prompt": "Hi", "scorer": {"name": "final_numer"}}', "did you mean 'final_number'?"),
    ],
)
def test_a_mistake_in_json_lines_names_its_line(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"id": "ok", "prompt": "Hi"}\n\n' + line + "\n")
    (tmp_path / "suite.yaml").write_text(HEAD + "samples: facts.jsonl\n")
    with pytest.raises(SuiteError) as caught:
        load_suite(tmp_path / "suite.yaml")
    assert str(caught.value).startswith(f"{path}:3: ")
    assert sentence in str(caught.value)


def test_parquet_rows_are_samples(tmp_path: Path) -> None:
    folder = tmp_path / "run=[1] *?"  # neither a glob pattern nor a partition
    folder.mkdir()
    parquet(
        folder / "facts.parquet",
        """SELECT * FROM (VALUES
            (1, 'old', [{'role': 'user', 'content': 'Hi', 'name': NULL}], 7, {'source': 'atlas', 'page': NULL}),
            (2, NULL, [{'role': 'user', 'content': 'Ho', 'name': NULL}], NULL, NULL)
        ) AS t(id, "group", messages, target, metadata)""",
    )
    (folder / "suite.yaml").write_text(HEAD + "samples: facts.parquet\n")
    one, two = load_suite(folder / "suite.yaml").samples
    assert (one.id, one.group, one.reference, one.metadata) == ("1", "old", {"target": "7"}, {"source": "atlas"})
    assert one.prompt == (Message("user", "Hi"),)
    assert (two.id, two.group, two.reference, two.metadata) == ("2", "all", {}, {})


@pytest.mark.parametrize(
    ("select", "sentence"),
    [
        ("SELECT 'a' AS id, 'Hi' AS promt", "row 1: unknown key 'promt' in a sample; did you mean 'prompt'?"),
        ("SELECT 'a' AS id, 'Hi' AS prompt, DATE '2024-01-01' AS target", "row 1: a value of type date can't be used"),
        ("SELECT 'a' AS id, 'Hi' AS prompt, 1.5::DOUBLE AS target", "row 1: target must be text, not the number 1.5"),
        ("SELECT 'a' AS id, 'Hi' AS prompt FROM range(2)", "row 2: the id 'a' is already that of the sample in row 1"),
        ("SELECT 'a' AS id, 'Hi' AS prompt LIMIT 0", "there are no samples"),
    ],
)
def test_a_mistake_in_parquet_names_its_row(tmp_path: Path, select: str, sentence: str) -> None:
    parquet(tmp_path / "facts.parquet", select)
    (tmp_path / "suite.yaml").write_text(HEAD + "samples: facts.parquet\n")
    with pytest.raises(SuiteError) as caught:
        load_suite(tmp_path / "suite.yaml")
    assert sentence in str(caught.value)


def test_parquet_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    with pytest.raises(SuiteError, match="there is no such file"):
        read_parquet(path)
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(SuiteError, match="cannot be read as Parquet"):
        read_parquet(path)


def test_no_heavy_library_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, assay.suites.suite, assay.config\n"
        "heavy = {'duckdb', 'ruamel.yaml', 'numpy', 'assay.scorers.match'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
