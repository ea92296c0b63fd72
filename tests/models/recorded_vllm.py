"""vLLM's server from a recording of the real one (0.32.0, on a CPU, with the lab's base): what it said of each request.

    async with RecordedVllm() as server:
        model = open_http(server.spec)

A request that the recording lacks is a failure of the test. To record anew, start vLLM on `examples/lab/base` in float32 with
`--served-model-name lab --max-model-len 256 --enable-lora --enable-tokenizer-info-endpoint`, and run the tests with
RECORD_VLLM=http://HOST:PORT in the environment: what is missing is asked there, and written to the file.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.models.openai_server import Ask, OpenAIServer, Reply

RECORDING = Path(__file__).parents[1] / "data" / "vllm_weighed.json.gz"
METRICS, INFO = "/metrics", "/tokenizer_info"
ADAPTERS = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")
_OWNER = re.compile(r"assay-[0-9a-f]{8}-")


class RecordedVllm(OpenAIServer):
    """The server. absent: paths that it doesn't have. changed: what becomes of a reply that it would send, by its path."""

    def __init__(
        self, *, absent: tuple[str, ...] = (), changed: Mapping[str, Callable[[Any], Any]] | None = None
    ) -> None:
        super().__init__(model="lab")
        self._absent = absent
        self._changed = changed or {}
        self._upstream = os.environ.get("RECORD_VLLM", "")
        self._said: dict[str, Any] = json.loads(gzip.decompress(RECORDING.read_bytes())) if RECORDING.exists() else {}
        self._known = len(self._said)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if len(self._said) > self._known:
            text = json.dumps(self._said, sort_keys=True, ensure_ascii=False)
            RECORDING.write_bytes(gzip.compress(text.encode(), mtime=0))

    def _checked(self, method: str, path: str, headers: dict[str, str], raw: bytes) -> Ask:
        ask = Ask(len(self.asked), path, {**headers, "method": method}, json.loads(raw) if raw else {})
        self.asked.append(ask)
        return ask

    async def _send(self, writer: asyncio.StreamWriter, ask: Ask | None, reply: Reply) -> bool:
        if ask is not None and reply.raw is None and reply.status == 200:
            status, said = await self._answer(ask)
            reply = Reply(status=status, raw=said.encode(), latency=reply.latency)
        return await super()._send(writer, ask, reply)

    async def _answer(self, ask: Ask) -> tuple[int, str]:
        if ask.path in self._absent:
            return 404, json.dumps({"detail": "Not Found"})
        name = str(ask.body.get("model", ""))
        known = {key: value for key, value in ask.body.items() if key != "lora_path"}
        key = _OWNER.sub("assay-owner-", f"{ask.path} {json.dumps(known, sort_keys=True)}")
        if ask.path in ADAPTERS:
            return await self._adapter(ask)
        if key not in self._said:
            assert self._upstream, f"the recording lacks {key}"
            self._said[key] = await asyncio.to_thread(self._asked_there, ask)
        status, said = self._said[key]
        said = _OWNER.sub(_OWNER.match(name)[0] if _OWNER.match(name) else "", said)
        if (change := self._changed.get(ask.path)) is not None:
            said = json.dumps(change(json.loads(said)))
        return status, said

    async def _adapter(self, ask: Ask) -> tuple[int, str]:
        """Of adapters nothing is recorded: which are there, is each test's own."""
        if self._upstream:
            return await asyncio.to_thread(self._asked_there, ask)
        name = str(ask.body["lora_name"])
        if name and "-try-" not in name:  # those are too large for any layer
            return 200, f"Success: LoRA adapter '{name}' added successfully."
        told = "The size of tensor a (128) must match the size of tensor b (129)" if name else "must be provided"
        return 400, json.dumps({"error": {"message": told, "type": "BadRequestError", "param": None, "code": 400}})

    def _asked_there(self, ask: Ask) -> tuple[int, str]:
        body = json.dumps(ask.body).encode() if ask.headers["method"] == "POST" else None
        try:
            with urlopen(Request(self._upstream + ask.path, body, {"Content-Type": "application/json"})) as reply:
                said = reply.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        if ask.path == METRICS:  # the names will do
            return 200, "\n".join(line for line in said.splitlines() if line.startswith("# TYPE vllm:"))
        if ask.path == INFO:  # and so will two of all that it tells
            told = json.loads(said)
            return 200, json.dumps({name: told[name] for name in ("bos_token", "eos_token")})
        return 200, said
