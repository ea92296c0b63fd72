"""What a worker's parent and child say to each other: msgpack frames with a 4-byte length before each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from assay import errors
from assay.errors import AdapterMismatch, AssayError, GenerationError
from assay.models.base import ModelInfo
from assay.types import Adapter, Chunk, EngineSettings, FailureClass, GenerateOptions, Likelihood, Message, Prompt, Raw

_LIMIT = 1 << 30


class WirePrompt(msgspec.Struct, array_like=True):
    """A prompt whose three forms survive the trip: text, raw text, messages."""

    form: str
    text: str = ""
    messages: tuple[Message, ...] = ()


class Call(msgspec.Struct):
    """Parent to child. what: open, render, ended, stream, likelihood, cancel, expect, attach, detach, close."""

    what: str
    id: int = 0
    spec: str = ""
    settings: EngineSettings | None = None
    prompt: WirePrompt | None = None
    continuation: str = ""
    options: GenerateOptions | None = None
    adapter: str = ""
    adapters: tuple[Adapter, ...] = ()


class Failed(msgspec.Struct):
    """An error on its way to the parent: its class by name, and what the tree's classes carry."""

    kind: str
    message: str
    partial: str = ""
    error_class: FailureClass = "permanent"
    differences: tuple[str, ...] = ()


class Reply(msgspec.Struct, omit_defaults=True):
    """Child to parent: a chunk, an error, or the end of a call (`done`), with its value if it has one."""

    id: int
    chunk: Chunk | None = None
    failed: Failed | None = None
    done: bool = False
    text: str = ""
    likelihood: Likelihood | None = None
    info: ModelInfo | None = None


def pack_prompt(prompt: Prompt) -> WirePrompt:
    if isinstance(prompt, Raw):
        return WirePrompt("raw", str(prompt))
    if isinstance(prompt, str):
        return WirePrompt("text", prompt)
    return WirePrompt("messages", messages=tuple(prompt))


def unpack_prompt(prompt: WirePrompt) -> Prompt:
    if prompt.form == "raw":
        return Raw(prompt.text)
    return prompt.text if prompt.form == "text" else prompt.messages


def pack_error(error: BaseException) -> Failed:
    """Errors of the tree keep their class; anything else becomes a `GenerationError` that names it."""
    if not isinstance(error, AssayError):
        return Failed("GenerationError", f"{type(error).__name__}: {error}")
    failed = Failed(type(error).__name__, str(error))
    if isinstance(error, GenerationError):
        failed.partial, failed.error_class = error.partial, error.error_class
    if isinstance(error, AdapterMismatch):
        failed.differences = error.differences
    return failed


def unpack_error(failed: Failed) -> AssayError:
    kind = getattr(errors, failed.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, AssayError)):
        return GenerationError(failed.message, partial=failed.partial, error_class=failed.error_class)
    if issubclass(kind, AdapterMismatch):
        return kind(failed.message, failed.differences)
    if issubclass(kind, GenerationError):
        return kind(failed.message, partial=failed.partial, error_class=failed.error_class)
    return kind(failed.message)


# Paths travel as strings; everything else is msgpack's own.
_encoder = msgspec.msgpack.Encoder(enc_hook=str)


def _restore(kind: type[Any], value: Any) -> Any:
    return kind(value)


call_decoder = msgspec.msgpack.Decoder(Call, dec_hook=_restore)
reply_decoder = msgspec.msgpack.Decoder(Reply, dec_hook=_restore)


def frame(messages: Sequence[Call | Reply]) -> bytes:
    """The messages as bytes to send, each with its length before it."""
    packed = [_encoder.encode(m) for m in messages]
    return b"".join(len(p).to_bytes(4, "big") + p for p in packed)


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next message's bytes, or None when the other side has gone."""
    try:
        length = int.from_bytes(await reader.readexactly(4), "big")
        if length > _LIMIT:
            return None
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
