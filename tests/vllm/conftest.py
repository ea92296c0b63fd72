"""One real vLLM for all tests of this folder, in whatever processes they run; one test at a time.

What several ask at once, they ask on purpose: on a CPU, vLLM answers the base under an adapter that another test asks for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.vllm.real import shared, skip_without


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if Path(__file__).parent not in item.path.parents:  # pytest calls this for the tests of all folders
        return (yield)
    with FileLock(_folder(item.config) / "turn"):
        return (yield)


@pytest.fixture(scope="session")
def spec(pytestconfig: pytest.Config) -> Iterator[str]:
    """Of the lab's base on the server."""
    skip_without()
    with shared(_folder(pytestconfig)) as found:
        yield found


def _folder(config: pytest.Config) -> Path:
    """One folder for all processes of this run."""
    own: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "vllm"
    folder.mkdir(exist_ok=True)
    return folder
