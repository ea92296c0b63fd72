"""Plain calls for code that is not asynchronous: a script, a notebook (where a loop already runs), a debugger.

All of them run on one event loop in one background thread, so that a model opened by one call serves the next.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

from assay.models.base import TextModel, complete
from assay.types import Chunk, Completion, GenerateOptions, Prompt

# For work that doesn't hear that it is cancelled, as in a long computation.
_CLOSING_SECONDS = 5.0

P = ParamSpec("P")
T = TypeVar("T")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="assay sync", daemon=True).start()
    return loop


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of assay's to its end and return its value, also where an event loop runs already.

    An interrupt (Ctrl-C) cancels the work, and is raised when that has come to its end; a second one at once.
    """
    if not asyncio.iscoroutine(work):
        raise TypeError(f"a coroutine is run, and not {work!r}")
    loop = _loop()
    tasks: list[asyncio.Task[T]] = []
    ended = threading.Event()

    def begin() -> None:
        tasks.append(loop.create_task(work))
        tasks[0].add_done_callback(lambda _: ended.set())

    def stop() -> None:
        for task in tasks:
            task.cancel()
        if not tasks:
            work.close()
            ended.set()

    try:
        loop.call_soon_threadsafe(begin)
        ended.wait()
    except BaseException:
        loop.call_soon_threadsafe(stop)
        ended.wait(_CLOSING_SECONDS)
        raise
    return tasks[0].result()


def plain(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """A coroutine function as a plain one, which `run_sync` runs."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_sync(function(*args, **kwargs))

    call.__name__ = call.__qualname__ = f"{function.__name__}_sync"
    call.__doc__ = (
        f"`{function.__name__}` as a plain call, also where an event loop runs already.\n\n{function.__doc__}"
    )
    return call


def complete_sync(
    model: TextModel,
    prompt: Prompt,
    options: GenerateOptions | None = None,
    on_chunk: Callable[[Chunk], None] | None = None,
) -> Completion:
    """`complete` for plain code. `on_chunk` is called on the background thread."""
    return run_sync(complete(model, prompt, options, on_chunk))


def stream_sync(model: TextModel, prompt: Prompt, options: GenerateOptions | None = None) -> Iterator[Chunk]:
    """`TextModel.stream` for plain code: chunks as they come. Leaving the loop early stops the engine."""
    return iterate_sync(cast("AsyncGenerator[Chunk, None]", model.stream(prompt, options or GenerateOptions())))


def iterate_sync(stream: AsyncGenerator[T, None]) -> Iterator[T]:
    """An asynchronous stream of assay's, such as `score_stream`, for plain code. Leaving the loop early ends it."""
    try:
        while (item := run_sync(_next(stream))) is not _END:
            yield cast("T", item)
    finally:
        run_sync(stream.aclose())


_END = object()


async def _next(stream: AsyncGenerator[T, None]) -> T | object:
    return await anext(stream, _END)
