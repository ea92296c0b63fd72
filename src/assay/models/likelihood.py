"""A given text as tokens to be weighed: where it begins after its context, and the windows in which it fits a model.

For raw prompts the split and the windows are lm-evaluation-harness's, so that numbers can be compared: the context and the
whole are tokenised by themselves, and what the whole has more is the text; a text that is too long for one window is taken in
several that don't overlap in what they tell, each with as much before it as fits (its `get_rolling_token_windows`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from assay.errors import AssayError, GenerationError
from assay.models.local import LikelihoodRequest
from assay.types import GenerateOptions, Likelihood, Token


@dataclass(frozen=True, slots=True)
class Window:
    """What one forward pass tells: after each of the last `len(told)` of `ids` comes the token of `told` in its place.

    adapter: the digest of the resident adapter under which it is told, or None.
    """

    ids: Sequence[int]
    told: Sequence[int]
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Weighed:
    """A token of a text: its id, its natural-log probability, and whether it is the likeliest in its place."""

    id: int
    logprob: float
    likeliest: bool


def split_text(
    encode: Callable[[str], list[int]], request: LikelihoodRequest, begin: int | None
) -> tuple[list[int], list[int]]:
    """The tokens before a text and the text's own. begin: the token that stands for an empty context.

    After a raw prompt the two are tokenised as one, and the prompt's last blanks belong to the text. A chat template's end is
    never changed by what comes after it, as it isn't where an answer is generated.

    Raises `GenerationError` where there is nothing to weigh or nothing before it.
    """
    text, continuation = _parted(request)
    before = encode(text) if text else []
    if not before and begin is None:
        raise GenerationError("the prompt is empty, and the model has no token that begins a text")
    if not text and begin is not None:
        before = [begin]
    whole = encode(text + continuation)
    if text and (request.raw or whole[: len(before)] == before):
        told = whole[len(before) :]
    else:
        told = _without_bos(encode, continuation)
    if not told:
        raise GenerationError("there is no text to weigh: it has no token of its own after the prompt")
    return before, told


def texts_of(request: LikelihoodRequest) -> frozenset[str]:
    """All that `split_text` may want encoded, for those who can't be asked in between."""
    text, continuation = _parted(request)
    return frozenset({text, text + continuation, *(() if request.raw and text else (continuation, ""))})


def _parted(request: LikelihoodRequest) -> tuple[str, str]:
    """What comes before the text, and the text."""
    if not request.raw:
        return request.text, request.continuation
    text = request.text.rstrip()
    return text, request.text[len(text) :] + request.continuation


def _without_bos(encode: Callable[[str], list[int]], text: str) -> list[int]:
    """The tokens of a text that stands behind another."""
    added = encode("")
    ids = encode(text)
    return ids[len(added) :] if ids[: len(added)] == added else ids


def truncated(ids: list[int], options: GenerateOptions, length: int | None) -> list[int]:
    """The end of a prompt that leaves room for `max_tokens` in a context of `length` tokens, as lm-evaluation-harness cuts it.

    Raises `GenerationError` where there is no room for any prompt.
    """
    if length is None:
        return ids
    if length <= options.max_tokens:
        raise GenerationError(
            f"an answer of {options.max_tokens} tokens leaves no room for a prompt in the context of {length} tokens"
        )
    return ids[-(length - options.max_tokens) :]


def windows(before: Sequence[int], told: Sequence[int], length: int | None, adapter: str | None = None) -> list[Window]:
    """Windows of at most `length` tokens, None for no bound, in which each token of `told` is told once.

    A text that fits is told at once, at the cost of the prompt's beginning if need be.
    """
    every = [*before, *told]
    room = len(every) if length is None else length
    step = len(told) if len(told) <= room else max(1, room - len(before) + 1)
    found: list[Window] = []
    at = len(before)
    while at < len(every):
        end = min(len(every), at + step)
        found.append(Window(every[max(0, end - 1 - room) : end - 1], every[at:end], adapter))
        at, step = end, room
    return found


def likelihoods(
    requests: Sequence[LikelihoodRequest],
    split: Callable[[LikelihoodRequest], tuple[list[int], list[int]]],
    length: int | None,
    weigh: Callable[[Sequence[Window]], Iterable[Sequence[Weighed] | AssayError]],
) -> list[Likelihood | AssayError]:
    """What came of each request, in order.

    split: the tokens of a request's prompt and of its text. length: of the context, in tokens. weigh: what came of each
    window, in order; it may take several together.
    """
    own: list[list[Window] | AssayError] = []
    for request in requests:
        try:
            own.append(windows(*split(request), length, request.adapter))
        except AssayError as error:
            own.append(error)
    told = iter(weigh([window for part in own if not isinstance(part, AssayError) for window in part]))
    return [part if isinstance(part, AssayError) else joined([next(told) for _ in part]) for part in own]


def joined(parts: Sequence[Sequence[Weighed] | AssayError]) -> Likelihood | AssayError:
    """A text that was told in windows, or the first error of these."""
    tokens: list[Weighed] = []
    for part in parts:
        if isinstance(part, AssayError):
            return part
        tokens += part
    return Likelihood(tuple(Token(token.id, token.logprob) for token in tokens), all(t.likeliest for t in tokens))
