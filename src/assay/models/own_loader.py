"""A base with an adapter as the engine's own library loads its files: another way to the numbers that `attach` should give."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from assay.errors import ModelError
from assay.models.local import LocalEngine, LocalModel
from assay.types import EngineSettings

Library: TypeAlias = Literal["mlx", "transformers"]


async def open_with(library: Library, path: str, adapter: Path) -> LocalModel:
    """The base at `path` under the adapter in a folder, loaded by mlx-lm or by PEFT. Raises `ModelError`."""
    factory: Callable[[], LocalEngine] = partial(_opened, library, path, adapter)
    return await LocalModel.open(factory, f"{library}:{path}")


def _opened(library: Library, path: str, adapter: Path) -> LocalEngine:
    from assay.models.mlx import MlxEngine
    from assay.models.transformers import TransformersEngine

    engine = (MlxEngine if library == "mlx" else TransformersEngine)(Path(path), EngineSettings())
    try:
        engine.load_files(adapter)
    except Exception as error:  # whatever its loader makes of a file that it can't take
        text = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{adapter}: {engine.info.engine} itself can't load it ({type(error).__name__}: {text})"
        ) from error
    return engine
