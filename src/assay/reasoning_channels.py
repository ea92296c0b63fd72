"""The final channel of gpt-oss's format, harmony.

<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>
"""

from __future__ import annotations

import re

ANALYSIS = "<|channel|>analysis<|message|>"

_HEADER = re.compile(
    r"(?P<start><\|start\|>\s*assistant[^<\n]*)?"
    r"<\|channel\|>\s*(?P<name>analysis|commentary|final)(?:[^<\n]*(?:<\|constrain\|>\w+)?<\|message\|>)?"
)
_NO_CHANNEL = re.compile(r"<\|start\|>\s*assistant\s*<\|message\|>")  # what a message is that names none: the answer
_FRONT = re.compile(r"\s*(?=<\|(?:start|channel)\|>)")
_END = re.compile(r"<\|(?:end|return|call|start)\|>")
_QUOTES = "`'\"“‘"
# What the markers leave where the engine drops special tokens but keeps the text between them.
_BARE = re.compile(r"\s*analysis(?=[A-Z\W]).*?assistant(?:commentary.*?assistant)?final", re.DOTALL)
_BARE_ANALYSIS = re.compile(r"\s*analysis[A-Z][a-z']*\s")


def has_channels(text: str) -> bool:
    """A quick look: may there be channels?"""
    return "<|channel|>" in text or text[:30].lstrip().startswith("analysis")


def final_channel(text: str) -> tuple[str | None] | None:
    """The final channel's text: (text,), or (None,) if it never came; None for a text without channels.

    A channel begins at the text's front or behind `<|start|>assistant`; anywhere else its marker is a word, save that some
    models leave out what ends their analysis. The prompt may have opened the first channel.
    """
    bare = _BARE.match(text)
    if bare is not None:
        return (text[bare.end() :],)
    if _BARE_ANALYSIS.match(text):
        return (None,)
    front = _FRONT.match(text)
    found = [h for h in _HEADER.finditer(text) if not (h.start() and text[h.start() - 1] in _QUOTES)]
    begun = [h for h in found if h["start"] or (front is not None and h.start() == front.end())]
    if not begun:
        return None
    finals = [h for h in begun if h["name"] == "final"]
    finals = finals or [h for h in _NO_CHANNEL.finditer(text) if h.start() > begun[0].start()]
    if not finals:
        finals = [h for h in found if h["name"] == "final" and h.start() > begun[-1].start()]
    if not finals:
        return (None,)
    rest = text[finals[-1].end() :]
    end = _END.search(rest)
    return (rest[: end.start()] if end is not None else rest,)
