"""lm-evaluation-harness with a cache of data sets in a folder of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.made_tasks import write_tasks


@pytest.fixture(scope="package")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import datasets

    patch = pytest.MonkeyPatch()
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    datasets.disable_progress_bars()
    yield write_tasks(tmp_path_factory.mktemp("harness") / "tasks")
    datasets.enable_progress_bars()
    patch.undo()
