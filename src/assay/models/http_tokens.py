"""The tokenizer and the chat template of a server behind a URL, as vLLM shows them: `/tokenize`, `/detokenize` beside the API.

A prompt's text is made of the tokens that the server makes of it, and counts if it gives these tokens again. What begins and
what ends a text is told by `/tokenizer_info`, if the server was started for that, and never guessed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from assay.errors import GenerationError, UnsupportedOption
from assay.models.base import messages_of
from assay.models.http_faults import Fault, in_short
from assay.types import Message, Prompt, Raw

T = TypeVar("T")

TOKENIZE, DETOKENIZE, INFO = "/tokenize", "/detokenize", "/tokenizer_info"
START = "start vLLM with --enable-tokenizer-info-endpoint"
PLAIN = "Say yes."
_KEPT = 4096  # texts whose tokens are remembered, and prompts whose text is

# Asks the server at this path with this body, which names no model, and reads its reply.
Asking = Callable[[str, Mapping[str, Any], Callable[[bytes], Any]], Awaitable[Any]]


class Tokenized(msgspec.Struct, frozen=True):
    """Tokens that a server made. max_model_len: tokens of its context."""

    tokens: list[int]
    max_model_len: int


class _Detokenized(msgspec.Struct, frozen=True):
    prompt: str


class Special(msgspec.Struct, frozen=True):
    """A tokenizer's own tokens, by their texts; UNSET where that isn't told, None where there is none."""

    bos_token: str | msgspec.UnsetType | None = msgspec.UNSET
    eos_token: str | msgspec.UnsetType | None = msgspec.UNSET


class ServerTokens:
    """One server's. name: the model's, for errors. special: what it tells of its own tokens."""

    def __init__(self, name: str, asking: Asking, special: Special) -> None:
        self._name = name
        self._asking = asking
        self._special = special
        self._ids: dict[str, list[int]] = {}
        self._texts: dict[tuple[tuple[Message, ...], bool], str] = {}
        self._bos: int | None = None  # put before every text
        self.length = 0  # tokens of the context
        self.begin = ""  # the text of the token that stands for an empty prompt, "" if unknown
        self.begin_id: int | None = None

    @property
    def begins(self) -> bool:
        """Does the tokenizer put a token before every text?"""
        return self._bos is not None

    async def learn(self) -> list[int]:
        """Find out what begins a text; the tokens of `PLAIN`. Raises `UnsupportedOption`."""
        whole = await self._tokenized({"prompt": PLAIN, "add_special_tokens": True})
        self.length = whole.max_model_len
        own = await self._plain(PLAIN)
        if whole.tokens[: len(own)] != own:
            self._bos = self.begin_id = whole.tokens[0]
            self.begin = await self._text([self._bos])
            if whole.tokens[1 : 1 + len(own)] != own or await self._plain(self.begin) != [self._bos]:
                raise UnsupportedOption(f"{self._name} begins texts in a way that isn't known here")
        elif self._special.bos_token is not msgspec.UNSET:
            begin = self._special.bos_token or self._special.eos_token or ""
            if len(ids := await self._plain(begin) if begin else []) == 1:
                self.begin, self.begin_id = begin, ids[0]
        return whole.tokens

    async def encode(self, text: str, *, raw: bool) -> list[int]:
        """Token ids. What begins a raw text is added where the tokenizer would, and the text has none itself."""
        ids = await self._plain(text) if text else []
        return [self._bos, *ids] if raw and self._bos is not None and ids[:1] != [self._bos] else ids

    async def render(self, prompt: Prompt) -> str:
        """The prompt under the server's chat template; `Raw` as it is. Raises `GenerationError`."""
        return str(prompt) if isinstance(prompt, Raw) else await self._templated(messages_of(prompt), prompt=True)

    async def ended(self, prompt: Prompt, answer: str) -> str:
        """The answer as training data has it behind the rendered prompt. Raises `GenerationError`, `UnsupportedOption`."""
        if isinstance(prompt, Raw):
            if self._special.eos_token is msgspec.UNSET:
                raise UnsupportedOption(
                    f"{self._name} doesn't tell which token ends a text, which is part of what is weighed; {START}"
                )
            end = self._special.eos_token or ""
            return answer if end and answer.endswith(end) else answer + end
        before = await self.render(prompt)
        whole = await self._templated((*messages_of(prompt), Message("assistant", answer)), prompt=False)
        if not whole.startswith(before):
            raise GenerationError(
                f"the chat template of {self._name} writes a finished conversation in another way than the prompt that asks "
                "for its last answer, so nothing tells where that answer begins"
            )
        return whole[len(before) :]

    async def _templated(self, messages: Sequence[Message], *, prompt: bool) -> str:
        key = tuple(messages), prompt
        if key not in self._texts:
            turns = [{"role": message.role, "content": message.content} for message in messages]
            found = await self._tokenized({"messages": turns, "add_generation_prompt": prompt})
            text = await self._text(found.tokens)
            if await self._plain(text) != found.tokens:
                raise GenerationError(
                    f"{self._name} doesn't give back the text of this prompt's tokens, so nothing tells where an answer's "
                    "begin; weigh raw text"
                )
            _keep(self._texts, key, text)
        return self._texts[key]

    async def _plain(self, text: str) -> list[int]:
        if text not in self._ids:
            found = await self._tokenized({"prompt": text, "add_special_tokens": False})
            _keep(self._ids, text, found.tokens)
        return self._ids[text]

    async def _tokenized(self, body: Mapping[str, Any]) -> Tokenized:
        found: Tokenized = await self._asking(TOKENIZE, body, lambda told: read(told, Tokenized))
        return found

    async def _text(self, ids: Sequence[int]) -> str:
        found: _Detokenized = await self._asking(DETOKENIZE, {"tokens": ids}, lambda told: read(told, _Detokenized))
        return found.prompt


def read(body: bytes, kind: type[T]) -> T:
    """A reply as this kind of thing. Raises `Fault` where it isn't one."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        raise Fault(
            "unsuited", f"the server replies as vLLM's does not: {in_short(body.decode(errors='replace'))}"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Fault("garbled", f"the server's reply is not whole JSON ({len(body)} bytes)") from None


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    if len(kept) >= _KEPT:
        kept.clear()
    kept[key] = value
