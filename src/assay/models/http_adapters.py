"""A model behind a URL whose server takes adapters at run time, as vLLM does: an `AdapterModel`.

An adapter is loaded under a name that carries its digest, and that name is asked for in every request, so many can be under
way on one server at once. vLLM keeps what it has computed of a prompt by the adapter's name: a name must never stand for
two adapters, so nothing is ever loaded in place of another. Whether an adapter fits, vLLM hardly says (`vllm_fit`). On a CPU it
answers the base under some adapter where it computes both at once, so beside adapters the base is asked under one of zeros.

A server that was started again has lost all of them and says that there is no such model; then they are loaded again, and the
question is asked again.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from assay.errors import AssayError, CheckpointError, DiskFault, GenerationError, HostFault
from assay.models.base import ModelInfo
from assay.models.http_address import Address
from assay.models.http_health import Question
from assay.models.http_likelihood import WeighingHttpModel
from assay.models.vllm_api import Unseen, VllmApi
from assay.models.vllm_fit import Fit
from assay.results.canonical import digest_of
from assay.secret import Secret
from assay.types import Adapter, AdapterPlace, Chunk, Completion, GenerateOptions, HttpSettings, Likelihood, Prompt

if TYPE_CHECKING:
    from assay.models.adapter_folder import AdapterFolder
    from assay.models.made_adapters import Pair

# vLLM has no bound of its own: what does not fit its memory it reads again from the folder when it is asked for.
_RESIDENT = 16
_DIGITS = 16
_ZEROS, _TRIES = "zeros", "tries"


class _Held:
    """An adapter that the server has, or is to have.

    uses: by how many models that are bound to it. asked: whether the server was asked to load it, whatever came of that.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.uses = 0
        self.asked = self.loaded = False


class AdaptedHttpModel(WeighingHttpModel):
    """A `WeighingHttpModel` that is an `AdapterModel` where its server can be one; else `attach` raises `ModelError`.

    restarts: how often the server turned out to have lost its adapters.
    """

    def __init__(
        self,
        address: Address,
        settings: HttpSettings,
        key: Secret | None = None,
        context_length: int | None = None,
        adapters: AdapterPlace | None = None,
    ) -> None:
        super().__init__(address, settings, key, context_length)
        self._place = adapters or AdapterPlace()
        self._api = VllmApi(address, settings, key)
        self._owner = _owner(self._place)
        self._folder: AdapterFolder | None = None
        self._opening = asyncio.Lock()
        self._held: dict[str, _Held] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(
            asyncio.Lock
        )  # by name: to load it, or have it forgotten
        self._fit = Fit(self._try_pair)
        self._tried = 0
        self._zeros: Pair | None = None  # under which the base is asked while the server has them
        self._has_zeros = False
        self._info = replace(self._info, resident_adapters=_RESIDENT)
        self.restarts = 0

    async def prepare(self) -> None:
        """See that adapters can be attached, and have what an earlier process left on the server forgotten.

        Raises `ModelError` and `BadInput` with what to do, and `Unreachable`.
        """
        await self._ready()

    async def expect(self, adapters: Sequence[Adapter]) -> None:
        """Nothing is to be done ahead: each is loaded beside those that are there."""

    async def attach(self, adapter: Adapter) -> AttachedByName:
        """Have the server load the adapter, and bind a model to it.

        Raises `CheckpointError` for one that the server refuses, `ModelError` and `BadInput` for what the user has to put
        right, `GenerationError` for what may pass, and `Unreachable`.
        """
        held = self._held.setdefault(self._name(adapter.digest), _Held(adapter))
        held.uses += 1
        try:
            await self._load(held)
        except BaseException:
            await self._release(held)
            raise
        return AttachedByName(self, self._name(adapter.digest), adapter.digest)

    async def detach(self, digest: str) -> None:
        """Give one use of the adapter back; after the last the server forgets it."""
        if (held := self._held.get(self._name(digest))) is not None:
            await self._release(held)

    def changes_output(self, name: str) -> bool:
        """Does the attached adapter of this name change the layer that makes the probabilities?"""
        held = self._held.get(name)
        return held is not None and any("lm_head" in key for key in held.adapter.tensors)

    async def whole(self, question: Question) -> Completion:
        """The answer in one piece. The base is asked again if adapters came to it meanwhile."""
        asked = self._beside(question)
        answer = await super().whole(asked)
        again = self._beside(question)
        return answer if asked.model or not again.model else await super().whole(again)

    def streamed(self, question: Question) -> AsyncGenerator[Chunk, None]:
        """The answer as it comes."""
        return super().streamed(self._beside(question))

    async def restart(self) -> None:
        """Have all adapters loaded anew: a server that lost one is not to be trusted with the others."""
        if self._has_zeros:
            self._has_zeros = False
            await self._api.unload(self._name(_ZEROS))
        for held in list(self._held.values()):
            name = self._name(held.adapter.digest)
            async with self._turns[name]:
                await self._api.unload(name)
                held.loaded = False
            await self._load(held)
        self.restarts += 1

    async def aclose(self) -> None:
        """Have the server forget all adapters, and close all connections."""
        names = [name for name, each in self._held.items() if each.asked]
        self._held.clear()
        try:
            await asyncio.gather(*map(self._forget, names), self._forget_zeros())
        finally:
            folder, self._folder = self._folder, None
            if folder is not None:
                with suppress(AssayError):
                    await folder.aclose()
            await super().aclose()

    async def _restored(self, model: str) -> bool:
        if model == self._name(_ZEROS):
            return await self._load_zeros(again=True)
        held = self._held.get(model)
        if held is None:
            return False
        try:
            if await self._load(held, again=True):
                self.restarts += 1
        except CheckpointError as error:
            raise GenerationError(str(error)) from None
        return True

    async def _load(self, held: _Held, *, again: bool = False) -> bool:
        """Whether the server had not had it. again: it said so, whatever is known here."""
        digest = held.adapter.digest
        async with self._turns[self._name(digest)]:
            if held.loaded and not again:
                return False
            folder = await self._ready()
            name = digest[:_DIGITS]
            try:
                path = await folder.put(held.adapter, name)
                held.asked = True
                fresh = await self._api.load(self._name(digest), path)
                if not held.loaded:
                    await self._examine(held.adapter)
            except Unseen as unseen:
                raise folder.unseen(name, path, str(unseen), self._address) from None
            except HostFault as fault:
                said = f"the adapter can't be put where the server reads it: {fault}"
                raise (DiskFault(said) if fault.kind == "full" else GenerationError(said)) from None
            held.loaded = True
            return fresh

    async def _release(self, held: _Held) -> None:
        held.uses -= 1
        name = self._name(held.adapter.digest)
        if held.uses <= 0 and self._held.get(name) is held:
            del self._held[name]
            if held.asked:
                await self._forget(name)
            if not self._held:
                await self._forget_zeros()

    async def _forget(self, name: str) -> None:
        async with self._turns[name]:
            if name in self._held:
                return  # somebody wants it again
            await self._api.unload(name)
            if self._folder is not None:
                with suppress(AssayError):
                    await self._folder.remove(name.rpartition("-")[2])

    async def _examine(self, adapter: Adapter) -> None:
        """See whether the server's base is this adapter's, and have the base asked under zeros from now on."""
        from assay.models.made_adapters import pairs_of

        pairs = pairs_of(adapter.tensors)
        folder = await self._ready()
        async with self._turns[_TRIES]:
            try:
                await self._fit.check(pairs, self._address.base)
            finally:
                with suppress(AssayError):
                    await folder.remove(_TRIES)
        if pairs:
            self._zeros = self._zeros or pairs[0]
            await self._load_zeros()

    async def _try_pair(self, pair: Pair) -> None:
        self._tried += 1
        name = f"try-{self._tried}"
        folder = await self._ready()
        await self._api.load(self._name(name), await folder.put_zeros(pair, f"{_TRIES}/{name}"))
        await self._api.unload(self._name(name))

    def _beside(self, question: Question) -> Question:
        """The question as it is asked while adapters are there."""
        return question if question.model or not self._has_zeros else replace(question, model=self._name(_ZEROS))

    async def _load_zeros(self, *, again: bool = False) -> bool:
        """Have the base asked under zeros; False if nobody knows which, or the server takes none."""
        async with self._turns[_ZEROS]:
            if self._zeros is None or (self._has_zeros and not again):
                return self._has_zeros
            folder = await self._ready()
            with suppress(CheckpointError):
                await self._api.load(self._name(_ZEROS), await folder.put_zeros(self._zeros, _ZEROS))
                self._has_zeros = True
            return self._has_zeros

    async def _forget_zeros(self) -> None:
        async with self._turns[_ZEROS]:
            if self._has_zeros and not self._held:
                self._has_zeros = False
                await self._api.unload(self._name(_ZEROS))
                if self._folder is not None:
                    with suppress(AssayError):
                        await self._folder.remove(_ZEROS)

    async def _ready(self) -> AdapterFolder:
        """The folder for adapters, once the server was found to take them."""
        async with self._opening:
            if self._folder is None:
                from assay.models.adapter_folder import AdapterFolder  # with numpy, for those who use adapters

                folder = AdapterFolder.of(self._place, self._address, self._owner)
                try:
                    for left in await self._api.check():
                        if left.name.startswith(self._name("")):
                            await self._api.unload(left.name)
                    await folder.clear()
                except BaseException:
                    await folder.aclose()
                    raise
                self._folder = folder
            return self._folder

    def _name(self, digest: str) -> str:
        return f"assay-{self._owner}-{digest[:_DIGITS]}"


class AttachedByName:
    """A `TextModel` and `WholeModel`: the base under one adapter, whose name is in every request.

    It is a `LogprobModel` and an `EndingModel` where its base is.
    """

    def __init__(self, base: AdaptedHttpModel, name: str, digest: str) -> None:
        self._base = base
        self._name = name
        self._digest = digest
        self._attached = True

    @property
    def info(self) -> ModelInfo:
        return replace(self._base.info, adapter=self._digest)

    def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        return self._base.streamed(self._question(prompt, options))

    async def complete_whole(self, prompt: Prompt, options: GenerateOptions) -> Completion:
        """The answer in one piece, asked for in one piece."""
        return await self._base.whole(self._question(prompt, options))

    async def learn_likelihoods(self) -> None:
        await self._base.learn_likelihoods()

    async def loglikelihood(self, prompt: Prompt, continuation: str) -> Likelihood:
        name = self._bound()
        if self._base.changes_output(name):
            raise GenerationError(
                "this adapter changes the output layer (lm_head), which vLLM leaves out where it tells how likely a text is"
            )
        return await self._base.loglikelihood_as(name, prompt, continuation)

    async def ended(self, prompt: Prompt, answer: str) -> str:
        return await self._base.ended(prompt, answer)

    def _question(self, prompt: Prompt, options: GenerateOptions) -> Question:
        return Question(prompt, options, model=self._bound())

    def _bound(self) -> str:
        if not self._attached:
            raise GenerationError("this adapter has been detached")
        return self._name

    async def aclose(self) -> None:
        """Detach the adapter. The base stays."""
        if self._attached:
            self._attached = False
            await self._base.detach(self._digest)


def _owner(place: AdapterPlace) -> str:
    """What tells our adapters on a server from those of others: the same for every process that has the same folder."""
    own = secrets.token_hex(8) if place.own is None else str(place.own)
    return digest_of("adapters", socket.gethostname(), str(os.getuid()), own)[:8]
