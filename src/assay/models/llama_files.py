"""Which GGUF file a path stands for, and whether there is room for it."""

from __future__ import annotations

from pathlib import Path

from assay.adapters.gguf_header import gguf_files
from assay.errors import ModelError
from assay.models.memory import check_room, total_memory
from assay.types import EngineSettings


def model_file(path: Path) -> Path:
    """The file, or the only one in the folder. Raises `ModelError`."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise ModelError(f"there is no model at {path}; name a .gguf file that exists")
    files = [file for file in sorted(path.glob("*.gguf")) if gguf_files(file)[0] == file]
    if len(files) != 1:
        what = f"{len(files)} GGUF files; name the one you mean" if files else "no GGUF file"
        raise ModelError(f"{path} holds {what}")
    return files[0]


def check_memory(path: Path, settings: EngineSettings, devices: int) -> None:
    """Refuse a model that is larger than the memory limit, or than this machine's memory and that of its `devices`.

    All memory counts, and not what is free: the file is mapped, and what is not in use of it makes room. One that is larger
    than all would be read from the disk again for each token. Raises `ModelError`.
    """
    size = sum(file.stat().st_size for file in gguf_files(path))
    room = total_memory()
    instead = "take a smaller model, or one with smaller numbers (Q8_0, Q4_K_M)"
    check_room(path, size, room and room + devices, settings.memory_limit, "this machine has", instead)
