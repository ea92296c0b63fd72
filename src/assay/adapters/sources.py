"""An adapter that a user names to have it converted: opened where it lies, with nothing copied."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assay.adapters.files import CONFIG_NAME, read_lora
from assay.adapters.lora import Lora
from assay.adapters.named import weights_at
from assay.adapters.peft import read_peft
from assay.checkpoints.layouts import PEFT_WEIGHTS, is_gguf
from assay.errors import BadInput, CheckpointError
from assay.types import Layout


@dataclass(frozen=True, slots=True)
class Source:
    """An adapter to be converted, by its headers."""

    lora: Lora
    form: Layout

    def digest(self) -> str:
        """Its digest. Reads the whole file."""
        return self.lora.digest()


def source_at(place: Path) -> Source:
    """The adapter in a folder, or the one with these weights and the configuration beside them. Raises `BadInput`."""
    weights = weights_at(place)
    if is_gguf(weights):
        raise BadInput(
            f"{weights} is a GGUF file; a GGUF adapter is laid out for llama.cpp and is not converted back; name the "
            "one that it was made from"
        )
    config = weights.with_name(CONFIG_NAME)
    if not config.is_file():
        raise BadInput(f"{weights.parent} holds no {CONFIG_NAME}; copy the one that was written beside {weights.name}")
    try:
        if weights.name == PEFT_WEIGHTS:
            return Source(read_peft(weights, config, weights, config), "peft")
        return Source(read_lora(weights, config), "mlx")
    except CheckpointError as error:
        raise BadInput(str(error)) from error
