"""A real vLLM passes the contract, with adapters."""

from __future__ import annotations

import pytest

from assay.models.base import TextModel
from assay.models.http_open import open_http
from assay.testing import AdapterContract, UnderTest
from assay.types import HttpSettings, Raw
from tests.conftest import LAB
from tests.making import copied, discovered
from tests.models import mlx_tiny
from tests.models.test_contract import QUESTIONS
from tests.vllm.real import CONTEXT


@pytest.fixture(scope="module")
def under_test(spec: str, tmp_path_factory: pytest.TempPathFactory) -> UnderTest:
    folder = tmp_path_factory.mktemp("contract")
    found = discovered(LAB / "checkpoints", "lab")

    async def opened() -> TextModel:
        return open_http(spec, HttpSettings(), context_length=CONTEXT)

    return UnderTest(
        open=opened,
        prompts=QUESTIONS,
        long=Raw("What is"),
        spelled="Hello!",
        adapters=[copied(found[at], folder) for at in (1, 4, 11)],
        misfit=mlx_tiny.read(mlx_tiny.write_adapter(folder / "misfit")),
    )


class TestVllm(AdapterContract):
    """All of it."""
