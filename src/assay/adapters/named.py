"""An adapter that a user names by its folder or its file, to be used at once: nothing is waited for."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from assay.adapters.files import CONFIG_NAME, WEIGHTS_NAME, read_adapter
from assay.adapters.gguf_lora import read_gguf_adapter
from assay.adapters.peft import normalise
from assay.checkpoints.layouts import PEFT_WEIGHTS, is_gguf
from assay.errors import BadInput, CheckpointError
from assay.scratch import Scratch
from assay.types import Adapter


def adapter_at(place: Path) -> Adapter:
    """The adapter in the folder (mlx-lm's, PEFT's, a GGUF file), or in that file. Raises `BadInput` for what is wrong."""
    return adapter_from(weights_at(place))


def weights_at(place: Path) -> Path:
    """The file with the adapter's weights: the one in this folder, or such a file itself. Raises `BadInput`."""
    if (is_gguf(place) or place.suffix == ".safetensors") and place.is_file():
        return place
    if not place.is_dir():
        wrong = f"{place} is a file" if place.exists() else f"there is no folder {place}"
        raise BadInput(
            f"{wrong}; name a folder that holds {WEIGHTS_NAME} and {CONFIG_NAME}, a checkpoint's .safetensors file beside its "
            f"{CONFIG_NAME}, or a .gguf adapter"
        )
    for name in (WEIGHTS_NAME, PEFT_WEIGHTS):
        if (place / name).is_file():
            return place / name
    if len(found := sorted(place.glob("*.gguf"))) == 1:
        return found[0]
    raise BadInput(f"{place} holds no {WEIGHTS_NAME}; {_instead(place)}")


def adapter_from(weights: Path) -> Adapter:
    """The adapter with these weights, and the configuration beside them if they are no GGUF file. Raises `BadInput`."""
    config = weights.with_name(CONFIG_NAME)
    if not is_gguf(weights) and not config.is_file():
        raise BadInput(f"{weights.parent} holds no {CONFIG_NAME}; copy the one that was written beside {weights.name}")
    try:
        if is_gguf(weights):
            return _of_gguf(weights)
        return _of_peft(weights, config) if weights.name == PEFT_WEIGHTS else read_adapter(weights, config)
    except CheckpointError as error:
        raise BadInput(str(error)) from error


def _of_gguf(weights: Path) -> Adapter:
    """The adapter by a copy: llama.cpp opens it again later, and must find the same."""
    place = Path(tempfile.mkdtemp(dir=_copies().path)) / weights.name
    shutil.copyfile(weights, place)
    return read_gguf_adapter(place, shown=weights)


def _of_peft(weights: Path, config: Path) -> Adapter:
    """The adapter by a copy in mlx-lm's form, which lives as long as this process."""
    place = Path(tempfile.mkdtemp(dir=_copies().path))
    copied = place / WEIGHTS_NAME, place / CONFIG_NAME
    shutil.copyfile(weights, copied[0])
    shutil.copyfile(config, copied[1])
    normalise(*copied, weights, config)
    return read_adapter(*copied, shown=(weights, config))


@cache
def _copies() -> Scratch:
    return Scratch("adapters")


def _instead(folder: Path) -> str:
    """What a folder without the weights' file holds in its place, and what to do."""
    if found := sorted(folder.glob("adapter_model.*")):
        return (
            f"{found[0].name} is no safetensors, and pickled weights, which can run code, are refused; save it as "
            f"{PEFT_WEIGHTS}"
        )
    if found := sorted(folder.glob("*.gguf")):
        return f"it holds several GGUF files, {found[0].name} and others; name the one that you mean"
    if found := sorted(folder.glob("*_adapters.safetensors")):
        return f"name the checkpoint that you mean, such as {found[0]}"
    return "name the folder that the trainer wrote the adapter to"
