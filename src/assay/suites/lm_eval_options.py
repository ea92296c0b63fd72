"""How lm-evaluation-harness wants a text to be generated, as `GenerateOptions`. What can't be said in them is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.errors import BadInput, UnsupportedOption
from assay.plugins import nearest
from assay.types import GenerateOptions

# Of an answer for which the task names no other number, as its `hf` model has it.
MAX_TOKENS = 256

# Its names for the most tokens of an answer; where several are given, the first of these counts.
_MOST = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_KNOWN = ("until", "do_sample", "temperature", "top_p", "top_k", "repetition_penalty", *_MOST)


def options_of(wanted: Mapping[str, Any]) -> GenerateOptions:
    """The generation keywords of a request. Raises `UnsupportedOption` for a keyword that assay doesn't know, and `BadInput`.

    As with `hf`, sampling is on where `do_sample` says so or, where it says nothing, where the temperature is above 0.
    """
    for name in wanted:
        if name not in _KNOWN:
            raise UnsupportedOption(f"the generation keyword {name!r} can't be honoured; {nearest(name, _KNOWN)}", name)
    temperature = _number(wanted, "temperature", 0.0)
    if wanted.get("do_sample") is False:
        temperature = 0.0
    if wanted.get("do_sample") and not temperature > 0:
        raise BadInput("do_sample needs a temperature above 0; name one, or leave do_sample out")
    given = [wanted[name] for name in _MOST if wanted.get(name) is not None]
    return GenerateOptions(
        temperature=temperature,
        max_tokens=int(given[0]) if given else MAX_TOKENS,
        top_p=_number(wanted, "top_p", 1.0),
        top_k=int(_number(wanted, "top_k", 0)),
        repeat_penalty=_number(wanted, "repetition_penalty", 1.0),
        stop=_stops(wanted.get("until")),
    )


def _number(wanted: Mapping[str, Any], name: str, neutral: float) -> float:
    value = wanted.get(name)
    return neutral if value is None else float(value)


def _stops(until: Any) -> tuple[str, ...]:
    stops = [until] if isinstance(until, str) else list(until or ())
    for stop in stops:
        if not isinstance(stop, str) or not stop:
            raise BadInput(f"until must be texts that end an answer, and {stop!r} is none")
    return tuple(stops)
