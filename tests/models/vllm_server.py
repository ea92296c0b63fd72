"""A server that speaks vLLM's protocol over a real socket, and answers with a real engine that reads adapters from their paths.

It lists, loads, unloads and refuses as vLLM 0.32 was seen to, in its words, and has its habits: it takes adapters at run time
only if it was started for that; an adapter that its memory has no room for is read from its folder again when it is asked for;
what was computed of a prompt is kept under the adapter's *name*, whatever that stands for by now; a tensor that is too small is
filled up with zeros, and a layer that the base does not have is passed over; and, as on a CPU, the base is answered under an
adapter that is computed at the same time.

    async with VllmServer(f"mlx:{LAB / 'base'}") as server:
        model = open_http(server.spec)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import tempfile
from asyncio import StreamWriter
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from assay.adapters.fit import base_shapes
from assay.adapters.named import adapter_at
from assay.errors import AssayError
from assay.models.base import TextModel, complete
from assay.models.local import LocalModel
from assay.models.open import open_local
from assay.types import Completion, GenerateOptions, Message, Prompt, Raw
from tests.models.openai_server import Ask, OpenAIServer, Refused, Reply, check_request

BASE = "base-model"
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
_WEIGHTS = "adapter_model.safetensors"
_DIGEST = re.compile(r".*-[0-9a-f]{16}")


class VllmServer(OpenAIServer):
    """The server. spec: of the engine that answers. runtime: started with VLLM_ALLOW_RUNTIME_LORA_UPDATING; lora: with
    --enable-lora. max_rank, max_loras: --max-lora-rank, --max-cpu-loras. sees: where a path of this machine lies for it.
    """

    def __init__(
        self,
        engine: str,
        *,
        runtime: bool = True,
        lora: bool = True,
        max_rank: int = 16,
        max_loras: int = 8,
        sees: tuple[Path, str] | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(model=BASE, port=port)
        self._engine_spec = engine
        self._runtime, self._lora, self._max_rank, self._max_loras = runtime, lora, max_rank, max_loras
        self._sees = sees
        self._engine: LocalModel | None = None
        self._turn = asyncio.Lock()
        self._shapes = base_shapes(Path(engine.partition(":")[2]))
        self._bound: dict[str, TextModel] = {}  # by path, the one that was used last at the end
        self._cache: dict[tuple[str, str], asyncio.Task[Completion]] = {}
        self.loras: dict[str, str] = {}  # the path of each, by its name
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self._computing: list[str] = []
        self.together = 0  # adapters that were asked for at the same time
        self.deaf = False  # for the model that is named: it answers with its base whatever that is
        self.tells = True  # log-probabilities to whoever asks for them
        self.idle = (
            False  # it takes adapters, and uses no tensor of theirs, as vLLM does with names that it doesn't know
        )

    async def __aenter__(self) -> VllmServer:
        self._engine = await open_local(self._engine_spec)
        await super().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        assert self._engine is not None
        await self._engine.aclose()

    def restart(self) -> None:
        """End all that is under way, and lose all that a new process would not know."""
        self.loras.clear()
        self._cache.clear()
        for task in self._tasks:
            task.cancel()

    @property
    def trained(self) -> list[str]:
        """The names of adapters that somebody trained, of those that it has."""
        return list(filter(_DIGEST.fullmatch, self.loras))

    @property
    def trained_loads(self) -> list[str]:
        """The same, of all that were loaded so far, each time."""
        return list(filter(_DIGEST.fullmatch, self.loads))

    def _listed(self) -> Reply:
        cards = [_card(BASE, "/models/base", None), *(_card(name, path, BASE) for name, path in self.loras.items())]
        return Reply(raw=json.dumps({"object": "list", "data": cards}).encode())

    def _checked(self, method: str, path: str, headers: dict[str, str], raw: bytes) -> Ask:
        known = ("/v1/chat/completions", "/v1/completions", *((LOAD, UNLOAD) if self._runtime else ()))
        if method != "POST" or path not in known:
            raise _NotFound()
        body = json.loads(raw)
        if path not in (LOAD, UNLOAD):
            check_request(path, body, self.rejects)
            if body["model"] != BASE and body["model"] not in self.loras:
                said = f"The model `{body['model']}` does not exist. Valid aliases: {BASE}."
                raise _refused(404, said, "NotFoundError", "model")
            headers["lora-path"] = self.loras.get(body["model"], "")
        ask = Ask(len(self.asked), path, headers, body)
        self.asked.append(ask)
        return ask

    async def _send(self, writer: StreamWriter, ask: Ask | None, reply: Reply) -> bool:
        if ask is not None:
            try:
                reply = await self._said(ask, reply)
            except Refused as refusal:
                reply = Reply(status=refusal.status, raw=json.dumps(refusal.told).encode())
        return await super()._send(writer, ask, reply)

    async def _said(self, ask: Ask, scripted: Reply) -> Reply:
        if ask.path == LOAD:
            return await self._load(ask.body)
        if ask.path == UNLOAD:
            return self._unload(ask.body)
        if scripted.raw is not None:
            return scripted
        answer = await self._answer(ask)
        usage = {"prompt_tokens": answer.usage.prompt_tokens, "completion_tokens": answer.usage.completion_tokens}
        return Reply(
            answer.text,
            pieces=[*answer.text],
            finish=answer.finish_reason,
            usage=usage,
            model=BASE if self.deaf else ask.body["model"],
            logprobs=[token.logprob for token in answer.tokens if self.tells],
            latency=scripted.latency,
        )

    async def _load(self, body: dict[str, Any]) -> Reply:
        name, path = body.get("lora_name"), body.get("lora_path")
        if not name or not path:
            raise _refused(400, "Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput")
        if name == BASE:
            said = f"The lora adapter '{name}' conflicts with a served base model."
            raise _refused(400, said, "InvalidUserInput")
        if name in self.loras:
            said = (
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
                "'load_inplace' to True."
            )
            raise _refused(400, said, "InvalidUserInput")
        if not self._lora:
            raise _worker_said("LoRA is not enabled. Use --enable-lora to enable LoRA.")
        folder = self._place(path)
        config = folder / "adapter_config.json"
        if not config.is_file():
            raise _refused(404, f"Loading lora {name} failed: No adapter found for {path}", "NotFoundError")
        rank = json.loads(config.read_text())["r"]
        if rank > self._max_rank:
            raise _worker_said(f"LoRA rank {rank} is greater than max_lora_rank {self._max_rank}.")
        if not (folder / _WEIGHTS).is_file():
            raise _worker_said("<path> doesn't contain tensors")
        await self._model(path)
        self.loras[name] = path
        self.loads.append(name)
        return Reply(raw=f"Success: LoRA adapter '{name}' added successfully.".encode())

    def _unload(self, body: dict[str, Any]) -> Reply:
        name = body.get("lora_name")
        if name not in self.loras:
            raise _refused(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        del self.loras[name]
        self.unloads.append(name)
        return Reply(raw=f"Success: LoRA adapter '{name}' removed successfully.".encode())

    async def _answer(self, ask: Ask) -> Completion:
        name = BASE if self.deaf else ask.body["model"]
        key = name, json.dumps({**ask.body, "stream": None, "stream_options": None})
        if key not in self._cache:
            self._cache[key] = asyncio.create_task(self._computed(ask))
        return await asyncio.shield(self._cache[key])

    async def _computed(self, ask: Ask) -> Completion:
        beside = [path for path in self._computing if path]
        path = ask.headers["lora-path"] or (beside[-1] if beside else "")
        model = self._engine if not path or self.idle or self.deaf else await self._model(path)
        assert model is not None
        self._computing.append(path)
        self.together = max(self.together, len(set(self._computing) - {""}))
        try:
            return await complete(model, _prompt(ask.body), _options(ask.body))
        finally:
            self._computing.remove(path)

    async def _model(self, path: str) -> TextModel:
        """The engine under the adapter in this folder, which is read again if there was no room for it meanwhile."""
        assert self._engine is not None
        async with self._turn:
            if path not in self._bound:
                if len(self._bound) >= self._max_loras:
                    await self._forget([next(iter(self._bound))])
                self._bound[path] = await self._bind(self._place(path))
            self._bound[path] = self._bound.pop(path)
            return self._bound[path]

    async def _bind(self, folder: Path) -> TextModel:
        """The engine under what vLLM makes of the adapter in this folder."""
        assert self._engine is not None
        tensors = self._filled(load_file(folder / _WEIGHTS))
        if not any(tensor.any() for tensor in tensors.values()):
            return self._engine
        with tempfile.TemporaryDirectory() as scratch:
            shutil.copy(folder / "adapter_config.json", scratch)
            save_file(tensors, Path(scratch) / _WEIGHTS, {"format": "pt"})
            return await self._engine.attach(adapter_at(Path(scratch)))

    def _filled(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """The tensors for layers that the base has, as large as they want them."""
        kinds = {name.split(".")[-2] for name in self._shapes}
        filled = {}
        for name, tensor in tensors.items():
            module, side = name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".", 1)
            if module.rpartition(".")[2] not in kinds:
                raise _worker_said(
                    f"While loading <path>, expected target modules in {kinds} but received ['{module}']. Please verify that "
                    "the loaded LoRA module is correct"
                )
            if (weight := self._shapes.get(f"{module}.weight")) is None:
                continue
            wanted = (tensor.shape[0], weight[1]) if side == "lora_A" else (weight[0], tensor.shape[1])
            for axis, (want, have) in enumerate(zip(wanted, tensor.shape, strict=True)):
                if have > want:
                    raise _worker_said(
                        f"The size of tensor a ({want}) must match the size of tensor b ({have}) at non-singleton dimension "
                        f"{axis}"
                    )
            filled[name] = np.pad(tensor, [(0, want - have) for want, have in zip(wanted, tensor.shape, strict=True)])
        return filled

    async def _forget(self, paths: list[str]) -> None:
        for path in paths:
            if (bound := self._bound.pop(path, None)) not in (None, self._engine):
                with contextlib.suppress(AssayError):
                    await bound.aclose()

    def _place(self, path: str) -> Path:
        if self._sees is None:
            return Path(path)
        here, there = self._sees
        return here / Path(path).relative_to(there) if path.startswith(there) else Path("/nowhere")


class _NotFound(Refused):
    """A path that FastAPI has no route for."""

    def __init__(self) -> None:
        super().__init__(404, "Not Found")

    @property
    def told(self) -> dict[str, Any]:
        return {"detail": "Not Found"}


def _refused(status: int, message: str, kind: str, param: str | None = None) -> Refused:
    refusal = Refused(status, message)
    refusal.error = {"message": message, "type": kind, "param": param, "code": status}
    return refusal


def _worker_said(message: str) -> Refused:
    said = f"Worker failed with error '{message}', please check the stack trace above for the root cause"
    return _refused(500, f"Call to add_lora method failed: {said}", "InternalServerError")


def _card(name: str, root: str, parent: str | None) -> dict[str, Any]:
    more = {"parent": parent, "max_model_len": None if parent else 512, "permission": []}
    return {"id": name, "object": "model", "created": 1, "owned_by": "vllm", "root": root, **more}


def _prompt(body: dict[str, Any]) -> Prompt:
    if "prompt" in body:
        return Raw(body["prompt"])
    return [Message(m["role"], m["content"]) for m in body["messages"]]


def _options(body: dict[str, Any]) -> GenerateOptions:
    return GenerateOptions(
        temperature=body["temperature"],
        max_tokens=body["max_tokens"],
        top_p=body.get("top_p", 1.0),
        stop=tuple(body.get("stop", ())),
        seed=body.get("seed"),
        logprobs=bool(body.get("logprobs")),
    )
