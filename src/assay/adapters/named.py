"""An adapter that a user names by its folder, to be used at once: nothing is waited for."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from assay.adapters.files import CONFIG_NAME, WEIGHTS_NAME, read_adapter
from assay.adapters.peft import normalise
from assay.checkpoints.layouts import PEFT_WEIGHTS
from assay.errors import BadInput, CheckpointError
from assay.types import Adapter


def adapter_at(folder: Path) -> Adapter:
    """The adapter in the folder, mlx-lm's or PEFT's. Raises `BadInput` for whatever is wrong with it."""
    if not folder.is_dir():
        wrong = f"{folder} is a file" if folder.exists() else f"there is no folder {folder}"
        raise BadInput(f"{wrong}; name a folder that holds {WEIGHTS_NAME} and {CONFIG_NAME}")
    if not (folder / WEIGHTS_NAME).is_file():
        if (folder / PEFT_WEIGHTS).is_file():
            return adapter_from(folder / PEFT_WEIGHTS)
        raise BadInput(f"{folder} holds no {WEIGHTS_NAME}; {_instead(folder)}")
    return adapter_from(folder / WEIGHTS_NAME)


def adapter_from(weights: Path) -> Adapter:
    """The adapter with these weights, and the configuration beside them. Raises `BadInput`."""
    config = weights.with_name(CONFIG_NAME)
    if not config.is_file():
        raise BadInput(f"{weights.parent} holds no {CONFIG_NAME}; copy the one that was written beside {weights.name}")
    try:
        return _of_peft(weights, config) if weights.name == PEFT_WEIGHTS else read_adapter(weights, config)
    except CheckpointError as error:
        raise BadInput(str(error)) from error


def _of_peft(weights: Path, config: Path) -> Adapter:
    """The adapter by a copy in mlx-lm's form, which lives as long as this process."""
    place = Path(tempfile.mkdtemp(dir=_copies().name))
    copied = place / WEIGHTS_NAME, place / CONFIG_NAME
    shutil.copyfile(weights, copied[0])
    shutil.copyfile(config, copied[1])
    normalise(*copied, weights, config)
    return read_adapter(*copied, shown=(weights, config))


@cache
def _copies() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="assay-adapters-")


def _instead(folder: Path) -> str:
    """What a folder without the weights' file holds in its place, and what to do."""
    if found := sorted(folder.glob("adapter_model.*")):
        return (
            f"{found[0].name} is no safetensors, and pickled weights, which can run code, are refused; save it as "
            f"{PEFT_WEIGHTS}"
        )
    if found := sorted(folder.glob("*_adapters.safetensors")):
        return (
            f"copy the checkpoint that you mean, such as {found[0].name}, under that name, or name the folder to watch"
        )
    return "name the folder that the trainer wrote the adapter to"
