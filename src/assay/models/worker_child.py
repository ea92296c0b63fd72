"""The child's side of a worker: `python -m assay.models.worker_child FD SCRATCH` opens one model and serves its calls.

FD: the socket to the parent. SCRATCH: the folder for temporary files.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import aclosing
from typing import Any

from assay.errors import GenerationError
from assay.models.attached import AttachedModel
from assay.models.local import LocalModel
from assay.models.open import open_local
from assay.models.wire import Call, Reply, call_decoder, frame, pack_error, read_frame, unpack_prompt
from assay.types import Prompt


class _Server:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._model: LocalModel | None = None
        self._attached: dict[str, AttachedModel] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def take(self, call: Call) -> None:
        """Begin a call; it replies in its own time."""
        if call.what == "cancel":
            if (task := self._tasks.get(call.id)) is not None:
                task.cancel()
            return
        task = asyncio.create_task(self._serve(call))
        self._tasks[call.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(call.id, None))

    def _reply(self, reply: Reply) -> None:
        self._writer.write(frame([reply]))

    async def _serve(self, call: Call) -> None:
        try:
            if call.what == "stream":
                await self._stream(call)
            else:
                self._reply(await self._answer(call))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # whatever it is, the parent decides
            self._reply(Reply(call.id, failed=pack_error(error)))

    @property
    def model(self) -> LocalModel:
        if self._model is None:
            raise GenerationError("no model has been opened")
        return self._model

    async def _answer(self, call: Call) -> Reply:
        match call.what:
            case "open":
                self._model = await open_local(call.spec, call.settings)
                return Reply(call.id, done=True, info=self._model.info)
            case "render":
                return Reply(call.id, done=True, text=await self.model.render(_prompt(call)))
            case "ended":
                return Reply(call.id, done=True, text=await self.model.ended(_prompt(call), call.continuation))
            case "likelihood":
                source: Any = self._attached[call.adapter] if call.adapter else self.model
                found = await source.loglikelihood(_prompt(call), call.continuation)
                return Reply(call.id, done=True, likelihood=found)
            case "expect":
                await self.model.expect(call.adapters)
            case "attach":
                for adapter in call.adapters:
                    self._attached[adapter.digest] = await self.model.attach(adapter)
            case "detach":
                if (bound := self._attached.pop(call.adapter, None)) is not None:
                    await bound.aclose()
            case unknown:
                raise GenerationError(f"the worker's child does not know the call {unknown!r}")
        return Reply(call.id, done=True)

    async def _stream(self, call: Call) -> None:
        source: Any = self._attached[call.adapter] if call.adapter else self.model
        assert call.options is not None
        async with aclosing(source.stream(_prompt(call), call.options)) as chunks:
            async for chunk in chunks:
                self._reply(Reply(call.id, chunk=chunk))
                await self._writer.drain()
        self._reply(Reply(call.id, done=True))


def _prompt(call: Call) -> Prompt:
    assert call.prompt is not None
    return unpack_prompt(call.prompt)


async def _main(fd: int, scratch: str) -> None:
    tempfile.tempdir = scratch
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=fd), limit=1 << 24)
    server = _Server(writer)
    while (data := await read_frame(reader)) is not None:
        call = call_decoder.decode(data)
        if call.what == "close":
            break
        server.take(call)
    # The engine's thread may be in the middle of a token, or hang: nothing of it is worth waiting for.
    shutil.rmtree(scratch, ignore_errors=True)  # whoever killed the parent won't
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2]))
