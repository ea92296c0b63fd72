"""The one thread that an in-process engine lives on."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_ENDING_SECONDS = 5.0


class EngineThread:
    """A daemon thread that runs calls one after the other. A daemon: a hung engine must not hold the program's exit."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    async def call(self, function: Callable[[], T]) -> T:
        """Run `function` on the thread; a cancelled caller abandons a call that has not begun."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        abandoned = threading.Event()

        def settle(value: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)  # type: ignore[arg-type]  # None only where T admits it

        def run() -> None:
            if abandoned.is_set():
                return
            try:
                value, error = function(), None
            except BaseException as caught:  # carried to the caller, whatever it is
                value, error = None, caught
            post(loop, settle, value, error)

        self._calls.put(run)
        try:
            return await future
        finally:
            abandoned.set()

    def post(self, call: Callable[[], None]) -> None:
        self._calls.put(call)

    def stop(self) -> None:
        """End the thread once it has done what waits."""
        self._calls.put(None)

    def join(self) -> None:
        """Wait for the end, within a bound: MLX's state of a thread that ends while the interpreter does aborts the program."""
        self._thread.join(_ENDING_SECONDS)


def post(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(function, *args)
