"""vLLM's API for adapters at run time: what is asked, and what its refusals mean.

Tested with vLLM 0.32, known of 0.7 and later: https://docs.vllm.ai/en/latest/features/lora/ . The paths exist only where the
server was started with VLLM_ALLOW_RUNTIME_LORA_UPDATING. A refusal's status says little: one version answers 400 where the next
answers 500. `/adapters`, which 0.32 has as well, is SageMaker's form of the same.
"""

from __future__ import annotations

import re
from contextlib import suppress

from assay.errors import AdapterMismatch, AssayError, CheckpointError, GenerationError, ModelError, Unreachable
from assay.models.http_address import Address
from assay.models.http_ask import ask
from assay.models.http_faults import API_ADDRESS, Fault, scrubbed
from assay.models.http_models import Served, served, several
from assay.secret import Secret
from assay.types import HttpSettings

START = "start vLLM with --enable-lora, and with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"

_LOAD, _UNLOAD = "/load_lora_adapter", "/unload_lora_adapter"
_UNLOAD_SECONDS = 10.0
_ABSENT = (404, 405, 501)
_LOADED = re.compile(r"has already been loaded", re.IGNORECASE)
_RANK = re.compile(r"max_lora_rank", re.IGNORECASE)
_DISABLED = re.compile(r"lora is not enabled|--enable-lora", re.IGNORECASE)
_UNSEEN = re.compile(
    r"no adapter found for|no such file|doesn't contain tensors|permission denied|repo id must|repository not found",
    re.IGNORECASE,
)
_MOMENTARY = re.compile(r"out of memory|enginecore encountered|enginedead", re.IGNORECASE)
# Words of what loads an adapter: a 500 that has them is about the adapter.
_ADAPTERS = re.compile(r"lora|target modules|size mismatch|must match|safetensors|peft", re.IGNORECASE)


class Unseen(Exception):
    """The server found no adapter under the path that it was told; `str()` has its words."""


class VllmApi:
    """One server's, asked for the base that its address names."""

    def __init__(self, address: Address, settings: HttpSettings, key: Secret | None) -> None:
        self._address = address
        self._settings = settings
        self._key = key
        self._has_answered = False

    async def check(self) -> list[Served]:
        """The models that the server has, if it can be given adapters.

        Raises `ModelError` with what to set, also for a server that is another program, and `Unreachable`.
        """
        models = await self._models()
        base = next((each for each in models if each.name == self._address.model), None)
        if base is None:
            names = several([each.name for each in models if not each.parent])
            raise ModelError(
                f"{self._address.base} has no model {self._address.model!r}, but {names}; name one behind the #"
            )
        if base.parent:
            raise ModelError(
                f"{self._address.model!r} at {self._address.base} is itself an adapter, of {base.parent!r}; name that one"
            )
        try:
            # Without a name it does nothing but complain of that.
            await ask(self._address, self._settings, self._key, _LOAD, {"lora_name": "", "lora_path": ""})
        except Fault as fault:
            if fault.status in (400, 422):
                return models
            if fault.status in _ABSENT or fault.kind == "webpage":
                raise self._cannot(base.owner) from None
            raise self._failed(fault) from None
        raise self._cannot(base.owner)

    async def load(self, name: str, path: str) -> bool:
        """Have the adapter at `path` loaded as `name`; False if it was.

        Raises `Unseen`, `CheckpointError` for one that the server refuses, `ModelError` for a server that takes none,
        `Unreachable`, and `GenerationError` for what may pass.
        """
        try:
            body = {"lora_name": name, "lora_path": path}
            await ask(self._address, self._settings, self._key, _LOAD, body, again=_is_of_the_way)
        except Fault as fault:
            if _LOADED.search(fault.reason):
                return False
            raise self._refused(fault) from None
        return True

    async def unload(self, name: str) -> None:
        """Have the adapter forgotten. Asked once; whatever comes of it, nobody here asks for the name again."""
        settings = self._settings.with_call(min(_UNLOAD_SECONDS, self._settings.call_seconds))
        with suppress(Fault):
            await ask(self._address, settings, self._key, _UNLOAD, {"lora_name": name}, again=lambda _: False)

    async def _models(self) -> list[Served]:
        try:
            found = await served(self._address, self._settings, self._key)
        except Fault as fault:
            raise self._failed(fault) from None
        self._has_answered = True
        return found

    def _cannot(self, owner: str) -> ModelError:
        if owner == "vllm":
            return ModelError(f"{self._address.base} takes no adapters at run time; {START}")
        what = f"the server of {owner!r}" if owner else "a server"
        return ModelError(
            f"{self._address.base} is {what} that takes no adapters at run time, as vLLM does; name a vLLM server or a local "
            f"model as the base, or, if it is vLLM, {START}"
        )

    def _refused(self, fault: Fault) -> AssayError:
        said = scrubbed(fault.refusal.message if fault.refusal is not None else "", self._key) or fault.reason
        if _MOMENTARY.search(said):
            return GenerationError(f"{self._address.base} could not load it: {said}", error_class="transient")
        if _RANK.search(said):
            return CheckpointError(
                f"its rank is above what {self._address.base} takes ({said}); start vLLM with a higher --max-lora-rank"
            )
        if _DISABLED.search(said):
            return self._cannot("vllm")
        if _UNSEEN.search(said):
            raise Unseen(said)
        if fault.status in _ABSENT:
            return self._cannot("")
        if fault.status in (400, 422) or (fault.status == 500 and _ADAPTERS.search(said)):
            return AdapterMismatch(f"{self._address.base} refuses it: {said}")
        if fault.kind == "failing":
            return GenerationError(f"{self._address.base} could not load it: {said}", error_class="transient")
        return self._failed(fault)

    def _failed(self, fault: Fault) -> AssayError:
        said = f"{self._address.base}: {scrubbed(fault.reason, self._key)}"
        if fault.again and (fault.kind != "foreign" or self._has_answered):
            return Unreachable(said)
        return ModelError(said + (API_ADDRESS if fault.kind == "webpage" else ""))


def _is_of_the_way(fault: Fault) -> bool:
    """Is it no word of the server itself, which says 500 of an adapter that it can't use?"""
    return fault.again and fault.kind != "failing"
