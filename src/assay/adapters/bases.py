"""What a base model's own files say that decides how an adapter for it is laid out; nothing is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.adapters.fit import EMBEDDINGS, base_shapes
from assay.adapters.gguf_header import gguf_files, read_gguf_header
from assay.errors import AdapterMismatch, ModelError

# llama.cpp's names for Hugging Face's kinds of model, where its converter is known to keep or reorder rows as it does for them.
_ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
}


@dataclass(frozen=True, slots=True)
class Base:
    """A base by its files.

    shapes: as `base_shapes` gives them. kind: its architecture, as llama.cpp calls it where that is known. heads, kv_heads:
    attention heads and key-value heads, 0 where that isn't told. tied: its embedding is its output as well.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    kind: str
    heads: int
    kv_heads: int
    tied: bool


def read_base(path: Path) -> Base:
    """What a folder of safetensors, or a GGUF file or the folder of one, says. Raises `ModelError`."""
    shapes = base_shapes(path)
    gguf = _gguf_of(path)
    if gguf is not None:
        header = read_gguf_header(gguf)
        heads = header.integer("attention.head_count") or 0
        kv_heads = header.integer("attention.head_count_kv") or heads
        return Base(path, shapes, header.architecture, heads, kv_heads, "output.weight" not in header.shapes)
    config = _config(path)
    text = config.get("text_config")
    about = {**text, **{k: v for k, v in config.items() if k == "model_type"}} if isinstance(text, dict) else config
    kind = str(config.get("model_type", ""))
    heads = _count(about, "num_attention_heads")
    outputs = any(name.endswith("lm_head.weight") for name in shapes)
    tied = config.get("tie_word_embeddings", about.get("tie_word_embeddings", not outputs))
    kv_heads = _count(about, "num_key_value_heads") or heads
    return Base(path, shapes, _ARCHITECTURES.get(kind, kind), heads, kv_heads, tied is True or not outputs)


def check_embeddings(modules: Iterable[str], *, tied: bool) -> None:
    """Raise `AdapterMismatch` for an adapter of an embedding that is the output as well: engines take it for different things.

    modules: the adapted ones, by the adapter's names for them.
    """
    adapted = [name for name in modules if name.rpartition(".")[2] in EMBEDDINGS or name == "token_embd.weight"]
    if tied and adapted:
        raise AdapterMismatch(
            f"it adapts the embedding ({adapted[0]}), which is the base's output as well; mlx-lm adapts both, PEFT "
            "the input alone, and llama.cpp ends; use it under the engine that it was trained with"
        )


def _gguf_of(path: Path) -> Path | None:
    """The GGUF file that `base_shapes` reads, None where it reads safetensors."""
    if path.suffix == ".gguf":
        return path
    if any(path.glob("*.safetensors")):
        return None
    return next((first for file in sorted(path.glob("*.gguf")) if (first := gguf_files(file)[0])), None)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path / 'config.json'}: can't be read ({error}); give the folder of a whole model") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path / 'config.json'}: is no JSON object; fetch the model again")
    return config


def _count(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    return value if type(value) is int and value > 0 else 0
