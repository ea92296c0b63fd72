"""What `assay models` says of an engine before it is loaded is what the engine says of itself."""

from __future__ import annotations

import pytest

from assay.models.known import engines
from assay.models.open import open_model
from tests.conftest import LAB

MODULES = {"llama": "xllamacpp", "mlx": "mlx.core", "transformers": "torch"}


@pytest.mark.parametrize("name", MODULES)
async def test_what_is_said_of_an_engine_is_so(name: str) -> None:
    pytest.importorskip(MODULES[name])
    (known,) = [engine for engine in engines() if engine.name == name]
    assert known.ready
    assert known.device
    model = await open_model(f"{name}:{LAB / 'base'}")
    try:
        info = model.info
        assert (known.adapters, known.batches, known.likelihoods) == (
            info.resident_adapters,
            info.batch > 1,
            info.likelihoods,
        )
    finally:
        await model.aclose()
