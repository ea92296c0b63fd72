"""Text and tokens of a model with a Hugging Face tokenizer, for every engine that runs one in this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from assay.errors import GenerationError, ModelError
from assay.models.answer import Answer
from assay.models.base import ModelInfo, messages_of, messages_shown
from assay.models.likelihood import split_text, truncated
from assay.models.local import LikelihoodRequest
from assay.models.stopping import StopFinder, TokenDecoder
from assay.types import GenerateOptions, Message, Prompt, Raw


class HfText:
    """What goes in and what comes out. name: the model's, for errors. ends: ids of tokens that end an answer.

    template: whether the tokenizer has a chat template. length: tokens of prompt and answer together, None if unknown.
    """

    def __init__(self, name: str, tokenizer: Any, ends: Iterable[int], *, template: bool, length: int | None) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._ends = frozenset(ends)
        self._template = template
        self._length = length
        bos = tokenizer.bos_token_id
        self._bos: int | None = bos if bos is not None and tokenizer.encode("a")[:1] == [bos] else None

    def beginning(self, info: ModelInfo) -> ModelInfo:
        """The same, with what begins a text."""
        return replace(
            info, begin=self._tokenizer.bos_token or self._tokenizer.eos_token or "", begins=self._bos is not None
        )

    def render(self, prompt: Prompt) -> str:
        """The prompt under the model's chat template; `Raw`, and a string where there is no template, as they are."""
        if isinstance(prompt, Raw):
            return str(prompt)
        if not self._template:
            if isinstance(prompt, str):
                return prompt
            raise ModelError(
                f"{self._name} has no chat template, so it can't take messages; send plain or raw text (in data: prompt and "
                "completion)"
            )
        return self._templated(messages_of(prompt), prompt=True)

    def _templated(self, messages: Sequence[Message], *, prompt: bool) -> str:
        """Messages under the chat template; with `prompt` the beginning of an answer follows."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt))
        except Exception as error:  # templates raise what they like, for instance where they know no system role
            raise ModelError(f"{self._name}: the chat template refuses {messages_shown(messages)}: {error}") from error

    def ended(self, prompt: Prompt, answer: str) -> str:
        """The answer as training data has it behind the rendered prompt. Raises `GenerationError`, `ModelError`."""
        if isinstance(prompt, Raw) or not self._template:
            end = self._tokenizer.eos_token or ""
            return answer if end and answer.endswith(end) else answer + end
        before = self.render(prompt)
        whole = self._templated([*messages_of(prompt), Message("assistant", answer)], prompt=False)
        if not whole.startswith(before):
            raise GenerationError(
                f"the chat template of {self._name} writes a finished conversation in another way than the prompt that asks "
                "for its last answer, so nothing tells where that answer begins"
            )
        return whole[len(before) :]

    def encode(self, text: str) -> list[int]:
        """Token ids. The beginning-of-text token is added where the tokenizer would and the text has none itself."""
        ids = list(self._tokenizer.encode(text, add_special_tokens=False))
        return [self._bos, *ids] if self._bos is not None and ids[:1] != [self._bos] else ids

    def split(self, request: LikelihoodRequest) -> tuple[list[int], list[int]]:
        """The tokens of a request's prompt and of its text. Raises `GenerationError`."""
        begin = self._tokenizer.bos_token_id
        return split_text(self.encode, request, self._tokenizer.eos_token_id if begin is None else begin)

    def prompt(self, text: str, options: GenerateOptions) -> list[int]:
        """The tokens of a prompt, without its beginning where it is to be truncated. Raises `GenerationError`."""
        ids = self.encode(text)
        return truncated(ids, options, self._length) if options.truncate_prompt else ids

    def room(self, prompt: int, wanted: int) -> int:
        """How many tokens may be generated after a prompt of this many tokens. Raises `GenerationError` if there is none."""
        if prompt == 0:
            raise GenerationError("the prompt is empty: there is no token to begin with")
        if self._length is None:
            return wanted
        if prompt + 1 > self._length:
            raise GenerationError(
                f"the prompt has {prompt} tokens and leaves no room for an answer in the context of {self._length} tokens"
            )
        return min(wanted, self._length - prompt)

    def answer(self, options: GenerateOptions) -> Answer:
        """An answer that has yet to be given."""
        return Answer(self._decoder(), StopFinder(options.stop), self._ending(options), options.logprobs)

    def _decoder(self) -> TokenDecoder:
        decode = self._tokenizer.decode
        return TokenDecoder(lambda ids: str(decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)))

    def _ending(self, options: GenerateOptions) -> frozenset[int]:
        """Tokens that end the answer. A stop string that is a special token never shows as text, so it counts here."""
        added = self._tokenizer.added_tokens_decoder.items()
        special = {str(token): number for number, token in added if token.special}
        return self._ends | {special[stop] for stop in options.stop if stop in special}
