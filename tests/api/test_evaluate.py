"""Asking a model from Python: models, suites and adapters by name, and results that show themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay import AssayError, BadInput, evaluate, evaluate_sync, load_suite, open_model
from assay.adapters.files import read_adapter
from assay.evaluation import Subject
from assay.results.index import Ledger
from assay.results.lens import Lens
from tests.conftest import ROOT
from tests.making import SUITE, written

LAB = ROOT / "examples" / "lab"
SEVENTY = LAB / "checkpoints" / "0000070_adapters.safetensors"
SCRIPT = """\
answers:
  - {prompt: bad, fail: error}
default: right
"""


def model(folder: Path) -> str:
    return f"scripted:{written(folder / 'script.yaml', SCRIPT)}"


async def test_models_and_suites_by_name_path_or_as_they_are(tmp_path: Path) -> None:
    suite = written(tmp_path / "suite.yaml", SUITE)
    open_one = await open_model(model(tmp_path))
    found = [
        await evaluate(asked, by)
        for asked in (model(tmp_path), open_one)
        for by in (suite, str(suite), load_suite(suite))
    ]
    assert (await evaluate(open_one, suite)).scored == 4, "a model that was open stays open"
    await open_one.aclose()
    assert len({json.dumps(one.to_dicts()) for one in found}) == 1
    assert (await evaluate(model(tmp_path), "capability", limit=3)).asked == 3
    data = written(tmp_path / "mine.jsonl", '{"prompt": "left or right?", "completion": "right"}')
    assert [one.values for one in await evaluate(model(tmp_path), data)] == [{"correct": True}]


async def test_what_comes_back_shows_itself(tmp_path: Path) -> None:
    data = written(
        tmp_path / "mine.jsonl",
        '{"id": "a", "prompt": "good", "completion": "right"}\n{"id": "b", "prompt": "bad", "completion": "<right>"}\n',
    )
    found = await evaluate(model(tmp_path), data)
    text = str(found)
    assert text.splitlines()[0].split() == ["group", "metric", "average"]
    assert "all    correct  100% [21%–100%] (n=1, 1 failed)" in text
    assert "all: 1 without a score (permanent; b): " in text
    assert "100% [21%–100%] (n=1, 1 failed)" in found._repr_html_()
    assert repr(found) == "<Evaluation of 2 samples; print it for the table>"
    assert (len(found), found[0].id, found[0].text, found[0].values) == (2, "a", "right", {"correct": True})
    assert (found[1].text, found[1].values) == ("", {})
    assert [(row["id"], row["value"], row["error_class"]) for row in found.to_dicts()] == [
        ("a", True, None),
        ("b", None, "permanent"),
    ]
    (row,) = found.averages()
    assert row["model"] == found.model == model(tmp_path)
    assert (row["group"], row["mean"], row["asked"], row["failed"]) == ("all", 1.0, 2, 1)


def test_an_adapter_is_attached_proven_and_detached() -> None:
    pytest.importorskip("xllamacpp")
    base, suite = f"llama:{LAB / 'base'}", LAB / "suite.yaml"
    adapter = read_adapter(SEVENTY, SEVENTY.with_name("adapter_config.json"))
    bare = evaluate_sync(base, suite, limit=6)
    tuned = [evaluate_sync(base, suite, adapter=given, limit=6) for given in (SEVENTY, adapter)]
    assert (bare.proof, {one.proof for one in tuned}) == ("", {"live"})
    assert [one.values for one in tuned[0]] == [one.values for one in tuned[1]] != [one.values for one in bare]
    assert str(tuned[0]).endswith("adapter: live")


def test_what_an_adapter_answered_is_journaled_as_proven(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    ledger = Ledger(tmp_path / "ws")
    subject = Subject("r", "r @70", 70, "d")
    found = evaluate_sync(
        f"llama:{LAB / 'base'}", LAB / "suite.yaml", adapter=SEVENTY, limit=3, ledger=ledger, subject=subject
    )
    ledger.close()
    with Lens(tmp_path / "ws") as lens:
        assert lens.query("select verdict from batches").rows == (("live",),)
        assert len(lens.query("select * from all_cells").rows) == len(found)


@pytest.mark.parametrize(
    ("given", "options", "sentence"),
    [
        (("nowhere.gguf", "capability"), {}, "there is no model at nowhere.gguf"),
        (("MODEL", "capabilty"), {}, "did you mean 'capability'?"),
        (("MODEL", "nowhere.jsonl"), {}, "nowhere.jsonl: there is no such file"),
        (
            ("MODEL", "capability"),
            {"adapter": "nowhere"},
            "there is no folder nowhere; name a folder that holds adapters",
        ),
        (
            ("MODEL", "capability"),
            {"adapter": Path(__file__)},
            "test_evaluate.py is a file; name a folder that holds",
        ),
        (("MODEL", "capability"), {"limit": 0}, "limit"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, given: tuple[str, str], options: dict[str, Any], sentence: str
) -> None:
    asked = model(tmp_path) if given[0] == "MODEL" else given[0]
    with pytest.raises(BadInput) as caught:
        evaluate_sync(asked, given[1], **options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, AssayError)
