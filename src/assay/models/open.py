"""From a spec ("mlx:PATH", "llama:PATH.gguf", "mlx:org/name", "http://HOST/v1#MODEL", a bare path) to an open model.

A path that is not there may be a hub's id, and is looked for in the hub's cache. A bare path or id picks the engine that
fits its files and this machine, and says which and why.
"""

from __future__ import annotations

import platform
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from assay.errors import NO_ROOM, ModelError
from assay.models.base import TextModel
from assay.models.http_address import SCHEMES, masked, parse_url
from assay.models.hub import SHOWN, HubName, cached, check_whole, gguf_of, hub_name
from assay.models.local import LocalEngine, LocalModel
from assay.paths import encodable
from assay.plugins import Registry, nearest
from assay.types import AdapterPlace, EngineSettings, HttpSettings

if TYPE_CHECKING:
    from assay.models.http_adapters import AdaptedHttpModel

EngineFactory = Callable[[str, EngineSettings], LocalEngine]

ENGINES: Registry[EngineFactory] = Registry(
    "engine",
    "assay.engines",
    {
        "llama": "assay.models.llama_cpp:open_engine",
        "llama-server": "assay.models.llama_cpp:open_on_llama_server",
        "mlx": "assay.models.mlx:open_engine",
        "scripted": "assay.models.scripted:open_engine",
        "transformers": "assay.models.transformers:open_engine",
    },
)

# What others call an engine.
_ALIASES = {"hf": "transformers"}
# What answers by its URL alone, whatever engine it is itself.
_SERVERS = ("lmstudio", "ollama", "openai", "sglang", "tgi", "vllm")
# The engines whose models lie on hubs: as GGUF files, and as folders of safetensors.
_OF_GGUF = ("llama", "llama-server")
_OF_HUBS = (*_OF_GGUF, "mlx", "transformers")

# The engine's name of models behind a URL; no name in a spec, where the URL says it.
HTTP = "http"

# MLX on a Linux CPU is a reference, not a fast engine: it is never picked in silence for more than this.
_MLX_CPU_BYTES = 2_000_000_000

# A Mac whose GPU MLX runs on.
APPLE = platform.system() == "Darwin" and platform.machine() == "arm64"

# What the engines for safetensors are made of.
_PACKAGES = {"mlx": ("mlx", "mlx_lm"), "transformers": ("torch", "transformers", "peft")}

# There is one where NVIDIA's driver runs; asking torch would cost seconds.
NVIDIA = Path("/proc/driver/nvidia/version")

# A GGUF that is split into several files is named by its first.
_LATER_SHARD = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")


class Resolved(msgspec.Struct, frozen=True):
    """An engine's name, the path or URL it opens, and why it was chosen ("" where the spec named it).

    hub: of a model that lies in the hub's cache what it is called there, with its commit.
    """

    engine: str
    path: str
    why: str = ""
    hub: str = ""

    @property
    def spec(self) -> str:
        return self.path if self.remote else f"{self.engine}:{self.hub or self.path}"

    @property
    def name(self) -> str:
        """The model's own name: of a URL what stands behind the #, of a file its name without the ending."""
        if self.remote:
            return self.path.partition("#")[2] or self.path
        if self.engine not in _OF_GGUF and (known := hub_name(self.hub)) is not None:
            return known.repo.partition("/")[2]
        path = Path(self.path)
        return path.stem if path.is_file() else path.resolve().name

    @property
    def remote(self) -> bool:
        """Is the model behind a URL? Then `path` is that URL, and there are no files to look at."""
        return self.engine == HTTP

    @property
    def place(self) -> str:
        """The same for whatever names one model, from whichever folder."""
        return self.path if self.remote else encodable(f"{self.engine}:{Path(self.path).resolve()}")


def resolve(spec: str) -> Resolved:
    """Which engine opens `spec`. Raises `ModelError` or `UnknownName`; loads nothing."""
    if spec.lower().startswith(SCHEMES):
        return Resolved(HTTP, parse_url(spec).spec)
    prefix, colon, path = spec.partition(":")
    prefix = _ALIASES.get(prefix, prefix)
    if colon and prefix in ENGINES and not path:
        raise ModelError(f"{spec!r} names no model; give a path after the colon")
    if colon and prefix in ENGINES:
        return _of_hub(path, prefix, spec) or Resolved(prefix, path)
    if colon and not Path(spec).exists() and "/" not in prefix and len(prefix) > 1:
        if prefix.lower() in _SERVERS:
            raise ModelError(f"{masked(spec)!r}: {prefix} is asked by its URL; write http://HOST:PORT/v1#MODEL")
        raise ModelError(f"unknown engine {prefix!r} in {masked(spec)!r}; {nearest(prefix, ENGINES.names())}")
    return _of_hub(spec, "", spec) or _by_files(Path(spec))


def named_on_hub(spec: str) -> tuple[str, HubName | None]:
    """The engine that the spec names or "" (llama for all of GGUF files), and the hub's id in it; None if it is none."""
    prefix, colon, rest = spec.partition(":")
    engine = _ALIASES.get(prefix, prefix)
    if colon and engine in _OF_HUBS:
        return ("llama" if engine in _OF_GGUF else engine), hub_name(rest)
    return "", hub_name(spec)


def _of_hub(text: str, engine: str, spec: str) -> Resolved | None:
    """What the hub's cache holds under this id; None for a path that is there, or can be no id."""
    name = hub_name(text) if not engine or engine in _OF_HUBS else None
    if name is None or Path(text).exists():
        return None
    if name.part and engine and engine not in _OF_GGUF:
        raise ModelError(
            f"{spec!r} names a GGUF file, which {engine} can't open; leave :{name.part} out, or say llama:"
        )
    snapshot = cached(name, spec)
    exact = replace(name, revision=snapshot.name[:SHOWN])
    why = f"{name.repo} is in the hub's cache, at {exact.revision}"
    if engine in _OF_GGUF or name.part:
        file = gguf_of(snapshot, name, spec)
        exact = replace(exact, part=file.relative_to(snapshot).as_posix())
        return Resolved(engine or "llama", str(file), f"{exact.part} of {why}", str(exact))
    if engine or not any(snapshot.glob("*.gguf")):
        check_whole(snapshot, name, spec)
    if engine:
        return Resolved(engine, str(snapshot), why, str(exact))
    found = _by_folder(snapshot)
    if found.engine == "llama":
        exact = replace(exact, part=Path(found.path).name)
    return Resolved(found.engine, found.path, f"{why}; {found.why}", str(exact))


def _by_files(path: Path) -> Resolved:
    if not path.exists():
        raise ModelError(f"there is no model at {masked(str(path))}; name a folder or a .gguf file that exists")
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
    if safetensors and not APPLE and not ggufs and NVIDIA.exists() and _installed("transformers"):
        return Resolved("transformers", str(path), "a folder of safetensors, and this machine has an NVIDIA GPU")
    if safetensors and (APPLE or not ggufs):
        if not _installed("mlx") and _installed("transformers"):
            return Resolved("transformers", str(path), "a folder of safetensors, and mlx is not installed")
        size = sum(f.stat().st_size for f in path.glob("*.safetensors"))
        if not APPLE and size > _MLX_CPU_BYTES:
            raise ModelError(
                f"{path} holds {size / 1e9:.1f} GB of safetensors, which MLX would run very slowly on this CPU; put a GGUF "
                f"of it there, or say mlx:{path} or transformers:{path} if you mean it"
            )
        where = "this Mac" if APPLE else "a folder of safetensors without a GGUF, small enough for MLX on this CPU"
        return Resolved("mlx", str(path), where)
    if len(ggufs) == 1:
        return Resolved(
            "llama", str(ggufs[0]), f"{ggufs[0].name} lies in the folder and llama.cpp is fast on this machine"
        )
    if ggufs:
        names = ", ".join(f.name for f in ggufs[:4])
        raise ModelError(f"{path} holds {len(ggufs)} GGUF files ({names}); name the one you mean")
    if (path / "config.json").is_file():
        from assay.models.mlx_load import (
            check_pickles,
        )  # with what reads weights, for which a spec alone should not wait

        check_pickles(path)
    raise ModelError(f"{path} holds no model: expected config.json with *.safetensors, or a .gguf file")


def _installed(engine: str) -> bool:
    """Whether the packages of an engine for safetensors are here. Imports none of them."""
    return all(find_spec(package) is not None for package in _PACKAGES[engine])


async def open_model(
    spec: str,
    settings: EngineSettings | None = None,
    *,
    http: HttpSettings | None = None,
    adapters: AdapterPlace | None = None,
) -> LocalModel | AdaptedHttpModel:
    """Open the model: a local one in this process. Raises `ModelError` with one sentence if that can't be done.

    A URL that names no model stands for the only one of its server, which is asked for its name; raises `Unreachable` if it
    can't be. http: how to talk to a model behind a URL, which of `settings` only minds the context length. adapters: where
    its server finds adapters.
    """
    resolved = resolve(spec)
    if not resolved.remote:
        return await _opened(resolved, settings)
    from assay.models.http_open import open_url

    return await open_url(resolved.path, http, settings.context_length if settings is not None else None, adapters)


@asynccontextmanager
async def opened(model: TextModel | str) -> AsyncIterator[TextModel]:
    """The model; one that was named by its spec is open until the end."""
    if not isinstance(model, str):
        yield model
        return
    found = await open_model(model)
    try:
        yield found
    finally:
        await found.aclose()


async def open_local(spec: str, settings: EngineSettings | None = None) -> LocalModel:
    """Open a model that runs in this process. Raises `ModelError`, also for one behind a URL."""
    resolved = resolve(spec)
    if resolved.remote:
        raise ModelError(f"{spec} is a model behind a URL, which can't run here; name a local model")
    return await _opened(resolved, settings)


async def _opened(resolved: Resolved, settings: EngineSettings | None) -> LocalModel:
    factory = ENGINES.get(resolved.engine)
    name = resolved.spec if resolved.hub else ""
    opening = partial(factory, resolved.path, settings or EngineSettings())
    try:
        return await LocalModel.open(opening, resolved.spec, name)
    except OSError as error:  # of an outside engine, which need not know our errors
        if error.errno in NO_ROOM:
            raise
        raise ModelError(f"{resolved.spec} can't be opened: {error}") from error
