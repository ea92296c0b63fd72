"""An answer that is given as JSON, as plain lines: what is named the answer is one, and notes beside it are none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from assay.types import Json

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(?P<fenced>\s*[{\[].*?)\n?[ \t]*```", re.IGNORECASE | re.DOTALL)
_ANSWER = re.compile(r"(?:the|my)?[\s_-]*(?:final|correct)?[\s_-]*(?:answer|result|solution|output)", re.IGNORECASE)
_BESIDES = re.compile(r"alternat|other|candidate|possib|second|also|maybe|option|guess", re.IGNORECASE)
_LONGEST = 20_000  # characters


def without_json(text: str) -> str:
    """The text with a JSON object in it, alone or in a code fence, as a line a key; only the answer's, where one is named."""
    whole = _lines(text) if text.lstrip()[:1] == "{" else None
    return _FENCED.sub(lambda match: _lines(match["fenced"]) or match[0], text) if whole is None else whole


def _lines(text: str) -> str | None:
    if len(text) > _LONGEST:
        return None
    try:
        # TeX within JSON is seldom escaped as it should be: \\f is then no form feed, but begins \\frac.
        found: Json = json.loads(re.sub(r'(?<!\\)\\(?!["\\/nu])', r"\\\\", text))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, Mapping):
        return None
    named = {key: value for key, value in found.items() if _ANSWER.fullmatch(key.strip())}
    if named and all(value is None for value in named.values()):
        return "Final answer: none"
    if any(_BESIDES.search(key) or value is False for key, value in found.items()):
        return None  # it takes an answer back, or offers more than one
    if named:
        return "\n".join(f"Final answer: {_shown(value)}" for value in named.values())
    if any(len(key) == 1 for key in found) and len(found) > 1:  # options, or parts of something
        return None
    return "\n".join(f"{key.replace('_', ' ')}: {_shown(value)}" for key, value in found.items())


def _shown(value: Json) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1:
        return _shown(value[0])
    # A list may be an answer, as what a program prints; what is in an object has no one meaning.
    return "" if isinstance(value, Mapping) else json.dumps(value)
