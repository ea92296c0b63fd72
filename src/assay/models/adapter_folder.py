"""Where adapters lie for a server that reads them by their path: a folder here that it sees, or one on its own machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from assay.adapters.files import CONFIG_NAME
from assay.adapters.fit import EMBEDDINGS
from assay.adapters.levelling import levelled
from assay.adapters.lora import lora_of
from assay.adapters.peft_writing import write_peft
from assay.checkpoints.layouts import PEFT_WEIGHTS
from assay.errors import NO_ROOM, AdapterBroken, AdapterMismatch, BadInput, DiskFault, ModelError
from assay.hosts.base import Host, shown
from assay.hosts.local import LocalHost
from assay.hosts.open import open_host
from assay.models.http_address import Address
from assay.models.made_adapters import Pair, write_zeros
from assay.scratch import Scratch
from assay.types import Adapter, AdapterPlace

_SETTING = (
    'in assay.toml, under the model: adapters = "/FOLDER" that both see (adapters_on_server = "/ITS/NAME" if it has another '
    'there), or adapters = "ssh://HOST/FOLDER" to have them copied there'
)


class AdapterFolder:
    """A folder on a host, in which each adapter has one of its own under the start of its digest, in PEFT's form.

    owner: the folder in it that is ours alone. on_server: what the server calls it, "" where it is the same. passing: whether
    it is there for this process only. scratch: the temporary folder that it is, removed with it.
    """

    def __init__(
        self,
        host: Host,
        folder: PurePosixPath,
        owner: str,
        on_server: str = "",
        *,
        passing: bool = False,
        scratch: Scratch | None = None,
    ) -> None:
        self._host = host
        self._folder = folder
        self._owner = owner
        self._on_server = on_server
        self._passing = passing
        self._scratch = scratch

    @classmethod
    def of(cls, place: AdapterPlace, address: Address, owner: str) -> AdapterFolder:
        """The folder that a server at this address is to read. Raises `BadInput` where nothing says which."""
        if place.folder:
            host, folder = open_host(place.folder)
            return cls(host, folder, owner, place.on_server)
        if not address.loopback:
            raise ModelError(
                f"{address.base} is on another machine, and adapters can't be sent to it, only read there; name a folder, "
                f"{_SETTING}"
            )
        if place.own is not None:
            return cls(LocalHost(), PurePosixPath(place.own.absolute()), owner, passing=True)
        temporary = Scratch("adapters")
        temporary.path.chmod(0o755)  # the server may run as somebody else
        return cls(LocalHost(), PurePosixPath(temporary.path), owner, scratch=temporary)

    async def put(self, adapter: Adapter, name: str) -> str:
        """Have the adapter there, whole; its path as the server knows it.

        Raises `CheckpointError`, `DiskFault`, `Unreachable`, `BadInput`, and `HostFault`.
        """
        return await self._put(lambda scratch: _write(adapter, scratch), name)

    async def put_zeros(self, pair: Pair, name: str) -> str:
        """The same, of an adapter that has this pair alone, and changes nothing."""
        return await self._put(lambda scratch: write_zeros(pair, scratch), name)

    async def _put(self, write: Callable[[Path], Sequence[Path]], name: str) -> str:
        place = self._folder / self._owner / name
        await self._make(place)
        with Scratch("adapter") as scratch:
            for file in await asyncio.to_thread(write, scratch):
                await self._host.copy_to(file, place / file.name)
        if self._on_server:
            return str(PurePosixPath(self._on_server) / self._owner / name)
        return str(await self._host.real(place))

    def unseen(self, name: str, path: str, said: str, address: Address) -> ModelError:
        """What to say of a server that finds nothing at the path where it was to find the adapter."""
        place = shown(self._host.name, self._folder / self._owner / name)
        where = "" if path == place else f", which it was to find as {path}"
        return ModelError(
            f"{address.base} can't read the adapter at {place}{where} ({said}); name a folder that it can read, {_SETTING}"
        )

    async def remove(self, name: str) -> None:
        """Remove the adapter's folder."""
        await self._host.run(["rm", "-rf", "--", str(self._folder / self._owner / name)])

    async def clear(self) -> None:
        """Remove all that is ours, also what an earlier process left."""
        await self._host.run(["rm", "-rf", "--", str(self._folder / self._owner)])

    async def aclose(self) -> None:
        """The same, and let the host go."""
        try:
            await self.clear()
            if self._passing:
                await self._host.run(["rmdir", "--", str(self._folder)])
            if self._scratch is not None:
                self._scratch.cleanup()
        finally:
            await self._host.aclose()

    async def _make(self, place: PurePosixPath) -> None:
        made = await self._host.run(["mkdir", "-p", "--", str(place)])
        if made.status:
            raise BadInput(
                f"no folder for adapters can be made at {shown(self._host.name, place)}: {made.errors.strip()}"
            )


def _write(adapter: Adapter, folder: Path) -> list[Path]:
    """Write the adapter in PEFT's form; the files, the weights last: where they are, all is."""
    if adapter.architecture:
        raise AdapterMismatch(
            "it is a GGUF adapter, which only llama.cpp takes; name the safetensors that it was made from"
        )
    modules = {name.rpartition(".")[0] for name in adapter.tensors}
    if embeddings := sorted(name for name in modules if name.rpartition(".")[2] in EMBEDDINGS):
        raise AdapterMismatch(
            f"it adapts the embedding ({embeddings[0]}), which engines read in different ways, and nobody can see what a base "
            "behind a URL makes of it; name a local model as the base"
        )
    config, weights = folder / CONFIG_NAME, folder / PEFT_WEIGHTS
    try:
        lora = levelled(lora_of(adapter), folder / "levelled.safetensors")
        write_peft(lora, weights, config, lora.tensors, "")
    except OSError as error:
        if error.errno in NO_ROOM or error.errno is None:  # numpy's error for what it could write only in part has none
            raise DiskFault(
                f"{adapter.weights} could not be converted in {folder} ({error.strerror or error}); make room there"
            ) from None
        raise AdapterBroken(f"{adapter.weights}: can't be converted: {error.strerror or error}") from None
    return [config, weights]
