"""Every engine that runs on this machine passes the contract, one of them in a worker's child as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.models.base import TextModel
from assay.models.open import open_local
from assay.models.worker import WorkerModel
from assay.testing import AdapterContract, UnderTest
from assay.types import Raw
from tests.conftest import LAB
from tests.making import copied, discovered
from tests.models import gguf_tiny, mlx_tiny

PACKAGES = {"mlx": "mlx.core", "llama": "xllamacpp", "llama-server": "xllamacpp", "transformers": "torch"}
QUESTIONS = ("What is the capital of Belmora?", "What is 3 + 4?", "What is the capital of Genovia?")


def of_the_lab(spec: str, other: str, folder: Path, *, worker: bool = False) -> UnderTest:
    """other: a spec of other weights."""
    found = discovered(LAB / "checkpoints", "lab")

    async def opened(spec: str) -> TextModel:
        return await (WorkerModel.open(spec) if worker else open_local(spec))

    return UnderTest(
        open=lambda: opened(spec),
        other=lambda: opened(other),
        prompts=QUESTIONS,
        long=Raw("What is"),
        spelled="Hello!",
        adapters=[copied(found[at], folder) for at in (1, 4, 11)],
        misfit=mlx_tiny.read(mlx_tiny.write_adapter(folder / "misfit")),
    )


@pytest.fixture(scope="module", params=[*PACKAGES, "worker"])
def under_test(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> UnderTest:
    name = "llama" if request.param == "worker" else request.param
    pytest.importorskip(PACKAGES[name], reason=f"needs the engine {name}: pip install 'assay[...]'")
    folder = tmp_path_factory.mktemp("contract")
    other = folder / "other"
    if name.startswith("llama"):
        gguf_tiny.write_base(folder / "other.gguf")
        return of_the_lab(f"{name}:{LAB / 'base'}", f"{name}:{other}.gguf", folder, worker=request.param == "worker")
    mlx_tiny.write_base(other)
    return of_the_lab(f"{name}:{LAB / 'base'}", f"{name}:{other}", folder)


class TestEngines(AdapterContract):
    """In this process, and one of them in a child."""
