"""What is known of the engines without loading one: what each opens and can do here, and what would install it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from assay.errors import ModelError
from assay.models import llama_binary
from assay.models.open import APPLE, ENGINES, NVIDIA


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine.

    device: what it computes on here, "" where that isn't its own to say. adapters: how many it holds at once, None where a
    server decides. batches: whether it answers several requests together. likelihoods: whether it tells how likely a text is.
    installed: its packages with their versions, and its program. missing: those that it lacks here. extra: what brings them.
    trouble: a sentence, where no package would help.
    """

    name: str
    opens: str
    device: str = ""
    adapters: int | None = None
    batches: bool = False
    likelihoods: bool = False
    installed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: str = ""
    trouble: str = ""

    @property
    def ready(self) -> bool:
        return not (self.missing or self.trouble)


_OWN = {
    "llama": Engine("llama", "GGUF files", adapters=16, likelihoods=True, extra="llama"),
    "llama-server": Engine(
        "llama-server", "GGUF files, in llama.cpp's own server", adapters=16, likelihoods=True, extra="llama"
    ),
    "mlx": Engine(
        "mlx", "folders of safetensors, also MLX's quantised ones", adapters=16, likelihoods=True, extra="mlx"
    ),
    "transformers": Engine(
        "transformers", "folders of safetensors", adapters=64, batches=True, likelihoods=True, extra="torch"
    ),
    "scripted": Engine("scripted", "YAML files of answers, for tests", adapters=16),
}
_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "llama": ("xllamacpp", "gguf"),
    "llama-server": ("gguf",),
    "mlx": ("mlx", "mlx-lm"),
    "transformers": ("torch", "transformers", "peft"),
}


def engines(llama_server: str | None = None) -> list[Engine]:
    """All engines, those of other packages last. llama_server: as in `EngineSettings`; the program isn't run."""
    names = [*_OWN, *sorted(set(ENGINES.names()) - _OWN.keys())]
    found = [_engine(name) for name in names]
    found = [_with_program(each, llama_server) if each.name == llama_binary.NAME else each for each in found]
    return [*found, Engine("http", "servers that speak OpenAI's API, by their URL; adapters and likelihoods on vLLM's")]


def _engine(name: str) -> Engine:
    versions = {package: _version(package) for package in _PACKAGES.get(name, ())}
    return replace(
        _OWN.get(name) or Engine(name, "what its own package says"),
        device=_device(name, versions),
        installed=tuple(f"{package} {found}" for package, found in versions.items() if found),
        missing=tuple(package for package, found in versions.items() if not found),
    )


def _device(name: str, versions: Mapping[str, str]) -> str:
    """What the engine computes on, by this machine and the build that is installed; importing torch would take seconds."""
    if not versions or name == llama_binary.NAME or not all(versions.values()):
        return ""
    if APPLE:
        return "Apple's GPU"
    if name == "mlx":
        return "CUDA" if any(_version(f"mlx-cuda-{major}") for major in (12, 13)) and NVIDIA.exists() else "CPU"
    if name == "transformers" and NVIDIA.exists():
        return "CPU: this torch has no CUDA" if versions["torch"].endswith("+cpu") else "CUDA"
    return "CPU"


def _with_program(engine: Engine, named: str | None) -> Engine:
    try:
        command = llama_binary.find(named)
    except ModelError as error:
        if named is None:
            return replace(engine, missing=(*engine.missing, llama_binary.NAME))
        return replace(engine, trouble=str(error))
    program = "xllamacpp's server" if command == llama_binary.stand_in() else command[0]
    return replace(engine, installed=(program, *engine.installed))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
