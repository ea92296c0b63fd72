"""A base with an adapter as the engine's own library loads its files: another way to the numbers that `attach` should give.

Nothing that assay itself has read of the adapter goes into it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from assay.adapters.files import CONFIG_NAME, WEIGHTS_NAME
from assay.checkpoints.layouts import PEFT_WEIGHTS
from assay.errors import ModelError
from assay.models.local import LocalEngine, LocalModel
from assay.scratch import Scratch
from assay.types import EngineSettings

Library: TypeAlias = Literal["mlx", "transformers"]
_LOADERS: dict[Library, tuple[str, str]] = {  # what it is called, and the one name that it looks for
    "mlx": ("mlx-lm", WEIGHTS_NAME),
    "transformers": ("PEFT", PEFT_WEIGHTS),
}


async def open_with(library: Library, path: str, weights: Path) -> LocalModel:
    """The base at `path` under the adapter with these weights and the configuration beside them. Raises `ModelError`.

    It is loaded by mlx-lm or by PEFT, under whatever name the weights lie there.
    """
    factory: Callable[[], LocalEngine] = partial(_opened, library, path, weights)
    return await LocalModel.open(factory, f"{library}:{path}")


def _opened(library: Library, path: str, weights: Path) -> LocalEngine:
    from assay.models.mlx import MlxEngine
    from assay.models.transformers import TransformersEngine

    called, name = _LOADERS[library]
    engine = (MlxEngine if library == "mlx" else TransformersEngine)(Path(path), EngineSettings())
    try:
        with Scratch("adapter") as folder:
            (folder / name).symlink_to(weights.absolute())
            (folder / CONFIG_NAME).symlink_to(weights.absolute().with_name(CONFIG_NAME))
            engine.load_files(folder)
    except Exception as error:  # whatever its loader makes of a file that it can't take
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"{weights}: {called} itself can't load it ({type(error).__name__}: {text})") from error
    return engine
