"""The committed lab on the real engines: the table the README shows, and the same greedy text on both of them."""

from __future__ import annotations

import asyncio
import json
import re
from functools import cache
from pathlib import Path

import pytest

from assay.adapters.files import check_against
from assay.adapters.fit import base_shapes
from assay.checkpoints.naming import run_name
from assay.evaluation import Subject, evaluate
from assay.models.base import TextModel
from assay.models.open import open_model
from assay.suites.suite import load_suite
from tests.conftest import LAB
from tests.making import copied, discovered

ENGINES = {"mlx": f"mlx:{LAB / 'base'}", "llama": f"llama:{LAB / 'base' / 'lab-f32.gguf'}"}

Answers = dict[str, dict[str, str]]
Right = dict[str, dict[str, int]]


@cache
def evaluated(engine: str, scratch: Path) -> tuple[Answers, Right]:
    """Text by checkpoint and sample, and how many are right by checkpoint and group."""
    return asyncio.run(_evaluated(ENGINES[engine], scratch))


async def _evaluated(spec: str, scratch: Path) -> tuple[Answers, Right]:
    suite = load_suite(LAB / "suite.yaml")
    model = await open_model(spec)
    answers: Answers = {}
    right: Right = {}

    async def ask(name: str, who: TextModel) -> None:
        done = await evaluate(who, suite, subject=Subject(checkpoint=name))
        answers[name] = {r.sample.id: r.answer.text for r in done.results if r.answer is not None}
        right[name] = dict.fromkeys(suite.groups, 0)
        for result in done.results:
            right[name][result.sample.group] += sum(bool(score.value) for score in result.scores)

    await ask("base", model)
    adapters = [(c, copied(c, scratch)) for c in discovered(LAB / "checkpoints", "lab")]
    for checkpoint, adapter in adapters:
        check_against(adapter, base_shapes(LAB / "base"))
        attached = await model.attach(adapter)
        await ask(str(checkpoint.iteration), attached)
        await attached.aclose()
    await model.aclose()
    return answers, right


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("staged")


def test_the_two_engines_give_the_same_greedy_text(scratch: Path) -> None:
    mlx, _ = evaluated("mlx", scratch)
    llama, _ = evaluated("llama", scratch)
    differing = [
        f"{name}/{sample}: mlx {text!r}, llama.cpp {llama[name][sample]!r}"
        for name, texts in mlx.items()
        for sample, text in texts.items()
        if llama[name][sample] != text
    ]
    assert not differing
    assert sum(len(texts) for texts in mlx.values()) == sum(len(texts) for texts in llama.values()) == 390


@pytest.mark.parametrize("engine", ENGINES)
def test_the_checkpoints_behave_as_the_labs_table_says(engine: str, scratch: Path) -> None:
    _, right = evaluated(engine, scratch)
    rows = re.findall(r"^\| (base|\d+) \| (\d+) \| (\d+) \| (\d+) \|", (LAB / "README.md").read_text(), re.MULTILINE)
    said = {name: {"new facts": int(n), "old facts": int(o), "sums": int(s)} for name, n, o, s in rows}
    assert right == said
    assert len(said) == 13


@pytest.mark.parametrize("engine", ENGINES)
def test_the_answers_are_the_ones_kept_with_the_lab(engine: str, scratch: Path) -> None:
    texts, _ = evaluated(engine, scratch)
    kept = json.loads((LAB / "answers.json").read_text(encoding="utf-8"))
    assert texts == kept


def test_the_last_checkpoint_lies_there_twice_and_counts_once() -> None:
    found = discovered(LAB / "checkpoints", run_name(LAB / "checkpoints"))
    assert (LAB / "checkpoints" / "adapters.safetensors").exists()
    assert [c.label for c in found] == [f"lab @{n}" for n in range(10, 121, 10)]
