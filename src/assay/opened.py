"""A base that is open, and what is known of it: shapes, baseline, the fingerprints of its adapters."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from assay.adapters.fit import base_shapes
from assay.models.base import AdapterModel, TextModel
from assay.models.llama_files import model_file
from assay.models.open import Resolved
from assay.models.worker import WorkerModel
from assay.proof import Baseline, Fingerprint, baseline
from assay.results.index import Ledger
from assay.trial import Worker, again_if_dead
from assay.types import AdapterPlace, EngineSettings, HttpSettings

_AT_ONCE = 4  # checkpoints on one server


class BaseModel(TextModel, AdapterModel, Worker, Protocol):
    """What a base must be: in a child process, so that its end is not the watch's, or behind a URL."""


@dataclass(slots=True)
class OpenBase:
    """The base that checkpoints are tried on now. shapes: of its weights; {} where the engine itself checks its adapters.

    place: see `Resolved.place`. prints: the fingerprint of each adapter's digest that was shown to be live on it. runs: those
    that it has answered for.
    """

    name: str
    place: str
    model: BaseModel
    shapes: dict[str, tuple[int, ...]]
    prints: dict[str, Fingerprint]
    runs: set[str] = field(default_factory=set)
    _baseline: Baseline | None = None
    _measuring: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def open(
        cls,
        name: str,
        resolved: Resolved,
        settings: EngineSettings,
        remote: tuple[HttpSettings, AdapterPlace],
        ledger: Ledger,
    ) -> OpenBase:
        """Load the base, or see that its server takes adapters; `remote` is for that. Raises `ModelError`, `Unreachable`."""
        if resolved.remote:
            served = await _served(resolved, settings, *remote)
            return cls(name, resolved.place, served, {}, ledger.fingerprints(served.info.identity))
        shapes = _shapes(resolved)
        model = await WorkerModel.open(resolved.spec, settings)
        return cls(name, resolved.place, model, shapes, ledger.fingerprints(model.info.identity))

    @property
    def identity(self) -> str:
        return self.model.info.identity

    async def baseline(self) -> Baseline:
        """The bare base's fingerprints, taken once."""
        async with self._measuring:
            if self._baseline is None:
                self._baseline = await again_if_dead(lambda: baseline(self.model))
            return self._baseline

    def at_once(self, samples: int) -> int:
        """How many checkpoints of so many samples are worth having under way at once.

        In a process of our own one at a time: if it dies, it is known under which.
        """
        info = self.model.info
        return max(1, min(_AT_ONCE, info.concurrency // max(samples, 1))) if info.declared else 1


def _shapes(resolved: Resolved) -> dict[str, tuple[int, ...]]:
    """Of what the engine opens, in a folder that holds other weights as well. An engine from elsewhere knows its own."""
    path = Path(resolved.path)
    if resolved.engine in ("llama", "llama-server"):
        return base_shapes(model_file(path))
    return base_shapes(path) if resolved.engine == "mlx" else {}


async def _served(
    resolved: Resolved, settings: EngineSettings, http: HttpSettings, adapters: AdapterPlace
) -> BaseModel:
    from assay.models.http_open import open_url

    model = await open_url(resolved.path, http, settings.context_length, adapters)
    try:
        await model.prepare()
    except BaseException:
        await model.aclose()
        raise
    return model
