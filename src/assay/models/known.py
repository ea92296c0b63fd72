"""What is known of the engines without loading one: what each opens, whether it is installed, what would install it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from assay.errors import ModelError
from assay.models import llama_binary
from assay.models.open import ENGINES


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine.

    installed: its packages with their versions, and its program. missing: those that it lacks here. extra: what brings them.
    trouble: a sentence, where no package would help.
    """

    name: str
    opens: str
    installed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: str = ""
    adapters: bool = True
    trouble: str = ""

    @property
    def ready(self) -> bool:
        return not (self.missing or self.trouble)


_OWN: dict[str, tuple[str, tuple[str, ...], str]] = {
    "llama": ("GGUF files", ("xllamacpp", "gguf"), "llama"),
    "llama-server": ("GGUF files, in llama.cpp's own server", ("gguf",), "llama"),
    "mlx": ("folders of safetensors, also MLX's quantised ones", ("mlx", "mlx-lm"), "mlx"),
    "transformers": ("folders of safetensors", ("torch", "transformers", "peft"), "torch"),
    "scripted": ("YAML files of answers, for tests", (), ""),
}


def engines(llama_server: str | None = None) -> list[Engine]:
    """All engines, those of other packages last. llama_server: as in `EngineSettings`; the program isn't run."""
    names = [*_OWN, *sorted(set(ENGINES.names()) - _OWN.keys())]
    found = [_engine(name) for name in names]
    found = [_with_program(each, llama_server) if each.name == llama_binary.NAME else each for each in found]
    return [*found, Engine("http", "servers that speak OpenAI's API, by their URL; adapters on vLLM's")]


def _engine(name: str) -> Engine:
    opens, packages, extra = _OWN.get(name, ("what its own package says", (), ""))
    versions = {package: _version(package) for package in packages}
    return Engine(
        name,
        opens,
        tuple(f"{package} {found}" for package, found in versions.items() if found),
        tuple(package for package, found in versions.items() if not found),
        extra,
    )


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
