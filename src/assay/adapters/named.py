"""An adapter that a user names by its folder, to be used at once: nothing is waited for."""

from __future__ import annotations

from pathlib import Path

from assay.adapters.files import CONFIG_NAME, WEIGHTS_NAME, read_adapter
from assay.errors import BadInput, CheckpointError
from assay.types import Adapter


def adapter_at(folder: Path) -> Adapter:
    """The adapter in the folder. Raises `BadInput` for whatever is wrong with it."""
    if not folder.is_dir():
        wrong = f"{folder} is a file" if folder.exists() else f"there is no folder {folder}"
        raise BadInput(f"{wrong}; name a folder that holds {WEIGHTS_NAME} and {CONFIG_NAME}")
    if not (folder / WEIGHTS_NAME).is_file():
        raise BadInput(f"{folder} holds no {WEIGHTS_NAME}; {_instead(folder)}")
    return adapter_from(folder / WEIGHTS_NAME)


def adapter_from(weights: Path) -> Adapter:
    """The adapter with these weights, and the configuration beside them. Raises `BadInput`."""
    config = weights.with_name(CONFIG_NAME)
    if not config.is_file():
        raise BadInput(f"{weights.parent} holds no {CONFIG_NAME}; copy the one that mlx-lm wrote beside {weights.name}")
    try:
        return read_adapter(weights, config)
    except CheckpointError as error:
        raise BadInput(str(error)) from error


def _instead(folder: Path) -> str:
    """What a folder without the weights' file holds in its place, and what to do."""
    if found := sorted(folder.glob("adapter_model.*")):
        return f"{found[0].name} is a PEFT adapter's, which can't be read yet; name one that mlx-lm wrote"
    if found := sorted(folder.glob("*_adapters.safetensors")):
        return (
            f"copy the checkpoint that you mean, such as {found[0].name}, under that name, or name the folder to watch"
        )
    return "name the folder that mlx-lm wrote the adapter to"
