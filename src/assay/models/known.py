"""What is known of the engines without loading one: what each opens, whether it is installed, what would install it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from assay.models.open import ENGINES


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine. installed: its packages with their versions. missing: those that it lacks here. extra: what brings them."""

    name: str
    opens: str
    installed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: str = ""
    adapters: bool = True

    @property
    def ready(self) -> bool:
        return not self.missing


_OWN: dict[str, tuple[str, tuple[str, ...], str]] = {
    "llama": ("GGUF files", ("xllamacpp", "gguf"), "llama"),
    "mlx": ("folders of safetensors, also MLX's quantised ones", ("mlx", "mlx-lm"), "mlx"),
    "transformers": ("folders of safetensors", ("torch", "transformers", "peft"), "torch"),
    "scripted": ("YAML files of answers, for tests", (), ""),
}


def engines() -> list[Engine]:
    """All engines, those of other packages last."""
    names = [*_OWN, *sorted(set(ENGINES.names()) - _OWN.keys())]
    found = [_engine(name) for name in names]
    return [*found, Engine("http", "servers that speak OpenAI's API, by their URL", adapters=False)]


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


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
