"""Open a model folder with transformers: device and type of numbers, and who the model is."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from assay.errors import ModelError
from assay.models.memory import check_room, free_memory, stored_bytes
from assay.models.mlx_load import check_folder, identity_files, weight_files

_PACKED = ("awq", "bitsandbytes", "gptq")
_IN_A_LAYER = re.compile(r"(.*?\blayers\.)\d+\..*(?:weight|bias)")
_ROOM = 1.1  # of the weights' size: what loading needs besides them


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory, ready to answer. about: the versions, the device and the type of numbers."""

    model: Any
    tokenizer: Any
    config: Mapping[str, Any]
    device: str
    about: str
    identity: str


def load(path: Path, memory_limit: int | None = None) -> Loaded:
    """Load a folder of config.json, safetensors and tokenizer; no network, no code of the model's own. Raises `ModelError`."""
    config = check_folder(path)
    _check_quantisation(path, config)
    torch, transformers = _import()
    device = _device(torch)
    dtype = torch.float32 if device == "cpu" else "auto"
    _check_memory(path, torch, device, memory_limit)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, told = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **options)
    except Exception as error:  # whatever a damaged or unknown model makes of a loader is the model's fault
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"{path}: transformers can't load this model ({type(error).__name__}: {text})") from error
    _check_whole(path, told, model.state_dict().keys())
    model = model.to(device).eval()
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    about = f"{versions}, {device}, {str(model.dtype).removeprefix('torch.')}"
    return Loaded(model, tokenizer, config, device, about, _identity(path, about))


def _check_whole(path: Path, told: Mapping[str, Any], own: Collection[str]) -> None:
    """Refuse weights that lack some of the model's own: transformers makes up random numbers for them, and warns at most.

    And those that its layers have no place for, since they are left out: of more layers than the configuration tells of, or
    biases. Weights beside the layers are often right, as of a model for images. own: the names of the model's weights.
    """
    if missing := sorted(told["missing_keys"]):
        raise ModelError(
            f"{path} lacks {len(missing)} of the model's weights ({_listed(missing)}); a file of it is missing, or it is no "
            "language model of this kind: fetch it again"
        )
    stacks = {found[1] for name in own if (found := _IN_A_LAYER.match(name))}
    strange = [
        name for name in sorted(told["unexpected_keys"]) if (found := _IN_A_LAYER.match(name)) and found[1] in stacks
    ]
    if strange:
        raise ModelError(
            f"{path} holds {len(strange)} weights of layers that the model of its config.json has no place for "
            f"({_listed(strange)}); one of the two is of another model: fetch it again"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


def _check_quantisation(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse weights whose packed layers PEFT would need a library of their own for; the sentence says what opens them."""
    if "quantization" in config:  # mlx-lm's word; transformers has another, and would take packed numbers for weights
        raise ModelError(f"{path} is quantised by MLX, which only the mlx engine opens; say mlx:{path}")
    found = config.get("quantization_config")
    method = found.get("quant_method") if isinstance(found, Mapping) else None
    if method in _PACKED:
        raise ModelError(
            f"{path} is quantised by {method}, which the transformers engine does not open; take the model it was made of, "
            "or a quantised GGUF with llama:"
        )


def _import() -> tuple[Any, Any]:
    try:
        # Warnings about what a newer version will do are nothing that a user of assay can act on.
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        import peft  # noqa: F401
        import torch
        import transformers
    except ImportError as error:
        raise ModelError(
            f"the transformers engine needs torch, transformers and peft ({error}): pip install 'assay[torch]'"
        ) from None
    if (os.cpu_count() or 1) <= 2:  # two threads on two busy cores wait for each other most of the time
        torch.set_num_threads(1)
    return torch, transformers


def _device(torch: Any) -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check_memory(path: Path, torch: Any, device: str, limit: int | None) -> None:
    """Refuse what does not fit before the machine starts to swap: on a CPU all numbers become float32."""
    needs = stored_bytes(weight_files(path), 4 if device == "cpu" else None)
    room: int | None = None
    if device == "cuda":
        room = torch.cuda.mem_get_info()[0]
    elif device == "mps":
        room = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    else:
        room = free_memory()
    where = f"{'this machine' if device == 'cpu' else device} now has free"
    instead = "take a smaller model, or a quantised GGUF with llama:"
    check_room(path, round(needs * _ROOM), room, limit, where, instead)


def _identity(path: Path, about: str) -> str:
    """sha256 hex over all that decides the answers: engine, versions, device, type of numbers, and every file's bytes."""
    digest = hashlib.sha256(json.dumps(["transformers", about]).encode())
    for name, content in identity_files(path):
        digest.update(json.dumps([name, content]).encode())
    return digest.hexdigest()
