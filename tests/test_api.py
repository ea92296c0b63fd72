"""The public API: its names, its types, its plain calls."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import assay
from assay import (
    GenerateOptions,
    GenerationError,
    complete_sync,
    evaluate,
    load_suite,
    open_model,
    run_sync,
    stream_sync,
)
from tests.making import SUITE, written

SCRIPT = """\
answers:
  - {prompt: slow, answer: a b c d e f g h i j k l m n o p, seconds: 0.1}
  - {prompt: bad, fail: error}
default: right
"""


def test_the_public_names_are_there_and_no_others() -> None:
    assert set(assay.__all__) == {*assay._HOME, "__version__"}
    assert set(dir(assay)) >= set(assay.__all__)
    for name in assay.__all__:
        assert getattr(assay, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = assay.nothing  # type: ignore[attr-defined]


def test_importing_assay_imports_nothing_else() -> None:
    program = "import sys, assay; print([m for m in sys.modules if m.startswith('assay.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_is_typed() -> None:
    assert Path(assay.__file__).with_name("py.typed").exists()


def spec(tmp_path: Path) -> str:
    return f"scripted:{written(tmp_path / 'script.yaml', SCRIPT)}"


def test_plain_calls(tmp_path: Path) -> None:
    model = run_sync(open_model(spec(tmp_path)))
    assert complete_sync(model, "x").text == "right"
    assert [chunk.text for chunk in stream_sync(model, "x")] == ["right", ""]
    with pytest.raises(GenerationError, match="on purpose"):
        complete_sync(model, "bad")
    suite = load_suite(written(tmp_path / "suite.yaml", SUITE))
    assert run_sync(evaluate(model, suite)).scored == 4
    run_sync(model.aclose())


async def test_plain_calls_where_a_loop_already_runs(tmp_path: Path) -> None:
    """As in a notebook: the cell's own thread runs a loop."""
    assert asyncio.get_running_loop().is_running()
    model = run_sync(open_model(spec(tmp_path)))
    assert complete_sync(model, "x", GenerateOptions(max_tokens=1)).text == "right"
    run_sync(model.aclose())


def test_leaving_a_stream_early_stops_the_engine(tmp_path: Path) -> None:
    model = run_sync(open_model(spec(tmp_path)))
    for chunk in stream_sync(model, "slow"):
        assert chunk.text == "a"
        break
    started = time.monotonic()
    assert complete_sync(model, "x").text == "right"
    assert time.monotonic() - started < 1.0, "the whole answer would have taken 1.6 s"
    run_sync(model.aclose())


def test_many_threads_may_call_at_once(tmp_path: Path) -> None:
    model = run_sync(open_model(spec(tmp_path)))
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(complete_sync(model, "x").text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["right"] * 8
    run_sync(model.aclose())
