"""Where a scorer was written, for messages about it."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any


def written_in(scorer: object) -> str:
    """` (FILE:LINE)` of a function, a method or an object's class; "" where that is not known."""
    code: object = scorer if inspect.isroutine(scorer) else type(scorer)
    return _place(code)


@lru_cache(maxsize=64)  # its file is parsed for it, and each answer may be told where
def _place(code: Any) -> str:
    try:
        _, line = inspect.getsourcelines(code)
        return f" ({inspect.getsourcefile(code)}:{line or 1})"
    except (OSError, TypeError):
        return ""


def said(value: object) -> str:
    """A value that should not have been returned, for people: its type and how it begins."""
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 60 else shown[:57] + '...'}"
