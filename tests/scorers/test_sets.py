"""Which answers a suite is for, by their fields: the others are left out, not failed."""

from __future__ import annotations

import pytest

from assay.errors import BadInput
from assay.scorers.sets import Picker
from assay.types import Json, Sample


@pytest.mark.parametrize(
    ("suite", "reference", "scored"),
    [
        ("choice", {"target": "B"}, True),
        ("choice", {"correct_answer": "(c)"}, True),
        ("choice", {"target": "Oslo", "choices": ["Oslo", "Rome"]}, True),
        ("choice", {"target": "72"}, False),
        ("choice", {"target": "Oslo"}, False),
        ("choice", {"choices": ["Oslo", "Rome"]}, False),
        ("choice", {}, False),
        ("final_answer", {"target": "7"}, True),
        ("final_answer", {"best_answer": "7"}, False),
        ("gsm8k_v1", {"target": "7"}, True),
        ("exact", {"target": "7"}, False),
        ("exact", {"target": "3 + 4 = <<3+4=7>>7\n#### 7"}, True),
        ("exact", {"target": "#### Summary"}, False),
        ("contains_word", {"correct_answer": "7"}, False),
        ("markers", {"fact_markers": ["x"]}, True),
        ("markers", {"target": "x"}, False),
        ("lek", {}, True),
    ],
)
def test_a_scorer_is_for_the_answers_that_have_its_fields(suite: str, reference: dict[str, Json], scored: bool) -> None:
    assert bool(Picker([suite], None)(Sample("a", "?", reference=reference))) is scored


@pytest.mark.parametrize("domain", ["toxigen", "ToxiGen", "TOXIGEN "])
def test_a_domain_is_known_however_it_is_written(domain: str) -> None:
    with pytest.raises(BadInput, match="needs a judge for the rubric 'toxigen'"):
        Picker(["standard"], None)(Sample("a", "?", reference={"domain": domain}))
