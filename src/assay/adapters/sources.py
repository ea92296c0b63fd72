"""An adapter that a user names to have it converted: opened where it lies, with nothing copied."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from assay.adapters.files import CONFIG_NAME, read_adapter
from assay.adapters.lora import Lora, lora_of
from assay.adapters.named import weights_at
from assay.adapters.peft import read_peft
from assay.checkpoints.layouts import PEFT_WEIGHTS, is_gguf
from assay.errors import BadInput, CheckpointError
from assay.types import Layout


@dataclass(frozen=True, slots=True)
class Source:
    """An adapter to be converted. digest: None where its modules differ in rank or scale, so that it can't be evaluated."""

    lora: Lora
    form: Layout
    digest: str | None


def source_at(place: Path) -> Source:
    """The adapter in a folder, or the one with these weights and the configuration beside them. Raises `BadInput`."""
    weights = place if place.is_file() and place.suffix == ".safetensors" else weights_at(place)
    if is_gguf(weights):
        raise BadInput(
            f"{weights} is a GGUF adapter, laid out for llama.cpp, and is not converted back; name the adapter it was made from"
        )
    config = weights.with_name(CONFIG_NAME)
    if not config.is_file():
        raise BadInput(f"{weights.parent} holds no {CONFIG_NAME}; copy the one that was written beside {weights.name}")
    try:
        if weights.name == PEFT_WEIGHTS:
            lora = read_peft(weights, config, weights, config)
            return Source(lora, "peft", lora.digest() if lora.uniform is not None else None)
        adapter = read_adapter(weights, config)
        return Source(replace(lora_of(adapter), base=_base(config)), "mlx", adapter.digest)
    except CheckpointError as error:
        raise BadInput(str(error)) from error


def _base(config: Path) -> str:
    named = json.loads(config.read_text(encoding="utf-8")).get("model")
    return named if isinstance(named, str) else ""
