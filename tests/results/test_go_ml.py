"""go-ml's buffer, taken into the journal and on to a store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.errors import BadInput
from assay.results.go_ml import take_in
from assay.results.index import Ledger
from assay.results.lens import Lens
from assay.sinks.base import GroupFact, SampleFact
from assay.sinks.feed import Feed

ENTRY = {
    "checkpoint": {
        "RemoteDir": "/runs/adapters-12b", "Filename": "0000100_adapters.safetensors", "Dirname": "adapters-12b",
        "Iteration": 100, "ModelTag": "gemma-3-12b", "Label": "G12 @0000100", "RunID": "12b-capability-auto",
    },
    "results": {
        "accuracy": 66.7, "correct": 2, "total": 3,
        "by_category": {"algebra": {"correct": 1, "total": 1}, "code": {"correct": 1, "total": 2}},
        "probes": {
            "algebra_01": {"passed": True, "response": "x = 3"},
            "code_01": {"passed": True, "response": "4"},
            "code_02": {"passed": False, "response": "no idea"},
        },
    },
    "timestamp": "2026-02-15T10:00:00Z",
}  # fmt: skip


def test_a_line_is_taken_in_once_and_says_what_it_said(tmp_path: Path) -> None:
    path = tmp_path / "influx_buffer.jsonl"
    path.write_text(json.dumps(ENTRY) + "\n\n")
    ledger = Ledger(tmp_path / "w")
    assert take_in(path, ledger) == 1
    assert take_in(path, ledger) == 0
    ledger.close()
    facts = Feed(tmp_path / "w", {}).next(100).facts
    samples = {f.sample: (f.value, f.response, f.about.proof) for f in facts if isinstance(f, SampleFact)}
    assert samples == {
        "algebra_01": (True, "x = 3", "unproven"),
        "code_01": (True, "4", "unproven"),
        "code_02": (False, "no idea", "unproven"),
    }
    groups = {f.group: (f.correct, f.scored, f.position) for f in facts if isinstance(f, GroupFact)}
    assert groups == {"algebra": (1, 1, 1), "code": (1, 2, 2), "overall": (2, 3, 0)}
    assert {f.about.tag for f in facts if isinstance(f, GroupFact)} == {"gemma-3-12b"}
    with Lens(tmp_path / "w") as lens:
        rows = lens.query("select run, checkpoint, correct, scored, proof from checkpoint_scores").rows
    assert rows == (("12b", "G12 @0000100", 2, 3, "unproven"),)


def test_a_bad_line_is_named_and_nothing_is_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "influx_buffer.jsonl"
    path.write_text(json.dumps(ENTRY) + "\n{broken\n")
    ledger = Ledger(tmp_path / "w")
    with pytest.raises(BadInput, match=r"influx_buffer\.jsonl:2: no line of go-ml's"):
        take_in(path, ledger)
    assert not list(Feed(tmp_path / "w", {}).next(100).facts)
    ledger.close()
