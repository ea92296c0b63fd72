"""From a spec ("mlx:PATH", "llama:PATH.gguf", "scripted:FILE", a bare path) to an open model.

A bare path picks the engine that fits its files and this machine, and says which and why.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from assay.errors import ModelError
from assay.models.local import LocalEngine, LocalModel
from assay.plugins import Registry, nearest
from assay.types import EngineSettings

EngineFactory = Callable[[str, EngineSettings], LocalEngine]

ENGINES: Registry[EngineFactory] = Registry(
    "engine",
    "assay.engines",
    {
        "llama": "assay.models.llama_cpp:open_engine",
        "mlx": "assay.models.mlx:open_engine",
        "scripted": "assay.models.scripted:open_engine",
    },
)

# MLX on a Linux CPU is a reference, not a fast engine: it is never picked in silence for more than this.
_MLX_CPU_BYTES = 2_000_000_000


# A GGUF that is split into several files is named by its first.
_LATER_SHARD = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")


@dataclass(frozen=True, slots=True)
class Resolved:
    """An engine's name, the path it opens, and why it was chosen ("" where the spec named it)."""

    engine: str
    path: str
    why: str = ""

    @property
    def spec(self) -> str:
        return f"{self.engine}:{self.path}"


def resolve(spec: str) -> Resolved:
    """Which engine opens `spec`. Raises `ModelError` or `UnknownName`; loads nothing."""
    if spec.startswith(("http://", "https://")):
        raise ModelError(f"models behind a URL ({spec}) are not supported by this version of assay; name a local model")
    prefix, colon, path = spec.partition(":")
    if colon and prefix in ENGINES:
        return Resolved(prefix, path)
    if colon and not Path(spec).exists() and "/" not in prefix and len(prefix) > 1:
        raise ModelError(f"unknown engine {prefix!r} in {spec!r}; {nearest(prefix, ENGINES.names())}")
    return _by_files(Path(spec))


def _by_files(path: Path) -> Resolved:
    if not path.exists():
        raise ModelError(f"there is no model at {path}; name a folder or a .gguf file that exists")
    if path.is_file():
        if path.suffix == ".gguf":
            return Resolved("llama", str(path), "a .gguf file is llama.cpp's")
        raise ModelError(
            f"{path} is not a model assay knows; name a .gguf file, or a folder with config.json and safetensors"
        )
    return _by_folder(path)


def _by_folder(path: Path) -> Resolved:
    ggufs = [f for f in sorted(path.glob("*.gguf")) if not _LATER_SHARD.search(f.name)]
    safetensors = (path / "config.json").is_file() and any(path.glob("*.safetensors"))
    mac = platform.system() == "Darwin" and platform.machine() == "arm64"
    if safetensors and (mac or not ggufs):
        size = sum(f.stat().st_size for f in path.glob("*.safetensors"))
        if not mac and size > _MLX_CPU_BYTES:
            raise ModelError(
                f"{path} holds {size / 1e9:.1f} GB of safetensors, which MLX would run very slowly on this CPU; put a GGUF "
                f"of it there, or say mlx:{path} if you mean it"
            )
        where = "this Mac" if mac else "a folder of safetensors without a GGUF, small enough for MLX on this CPU"
        return Resolved("mlx", str(path), where)
    if len(ggufs) == 1:
        return Resolved(
            "llama", str(ggufs[0]), f"{ggufs[0].name} lies in the folder and llama.cpp is fast on this machine"
        )
    if ggufs:
        names = ", ".join(f.name for f in ggufs[:4])
        raise ModelError(f"{path} holds {len(ggufs)} GGUF files ({names}); name the one you mean")
    raise ModelError(f"{path} holds no model: expected config.json with *.safetensors, or a .gguf file")


async def open_model(spec: str, settings: EngineSettings | None = None) -> LocalModel:
    """Open the model in this process. Raises `ModelError` with one sentence if that can't be done."""
    resolved = resolve(spec)
    factory = ENGINES.get(resolved.engine)
    return await LocalModel.open(partial(factory, resolved.path, settings or EngineSettings()), resolved.spec)
