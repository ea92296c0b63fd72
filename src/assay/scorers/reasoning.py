"""Where the answer begins: what a model thought aloud before it, between markers, is not its answer.

The markers are those that models' chat templates use; engines that know them cut them themselves, others hand them on:

    <think> <thinking> <thought> <reasoning> <scratchpad> …   DeepSeek-R1, Qwen, GLM, OLMo, EXAONE and many others
    <seed:think>                                              Seed-OSS
    [THINK]                                                   Magistral
    ◁think▷                                                   Kimi
    <|begin_of_thought|>, <|START_THINKING|>                  OpenThoughts, Command
    <|channel|>analysis … <|channel|>final                    gpt-oss
    <|channel>thought … <channel|>                            Gemma
    <unused94>thought … <unused95>                            MedGemma
    [BEGIN FINAL RESPONSE], which only ends the reasoning     Apriel
    Here is my thought process: … Here is my response:        Granite
"""

from __future__ import annotations

import re

_NAMES = "think|thinking|thought|thoughts|reason|reasoning|scratchpad|seed:think|seed:cot_budget_reflect|mm:think"
_SHAPES: tuple[tuple[str, str], ...] = (
    (rf"<(?:{_NAMES})>", rf"</(?:{_NAMES})>"),
    (r"\[think\]", r"\[/think\]"),
    (r"◁think▷", r"◁/think▷"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|(?:start_thinking|think|thinking)\|>", r"<\|(?:end_thinking|/think|/thinking)\|>"),
    (r"<\|channel>thought", r"<channel\|>"),
    (r"<unused94>thought", r"<unused95>"),
    (r"(?!)", r"\[begin final response\]"),
    (r"here(?: is|'s) my thought process:", r"here(?: is|'s) my response:"),
)
# A marker between quotes is spoken about. Each family's markers are one pattern: 1 opens, 2 closes.
_FAMILIES = tuple(
    re.compile(rf"(?!(?<=[`'\"“‘])(?:{opens}|{closes})[`'\"”’])(?:({opens})|({closes}))", re.IGNORECASE)
    for opens, closes in _SHAPES
)
_ENDS = {family: re.compile(closes, re.IGNORECASE) for family, (_, closes) in zip(_FAMILIES, _SHAPES, strict=True)}
# What a text with a marker of the family holds at least: looking for that first takes a hundredth of the time. No letter in
# here has a variant outside of ASCII, so that a lower-case text will do.
_NEEDED = tuple(
    "[" if r"\[" in closes else "◁" if "◁" in closes else "<" if "<" in closes else "thought proce"
    for _, closes in _SHAPES
)
# Granite's markers are plain words: "Here is my response:" ends no thought unless one was begun.
_IN_WORDS = _FAMILIES[-1]
_ALONE = re.compile(r"[ \t]*(?:\n|$)")
_FENCE = re.compile(r"^[ \t]*(```|~~~)", re.MULTILINE)

_CHANNEL = re.compile(r"<\|channel\|>\s*(analysis|commentary|final)(?:[^<\n]*(?:<\|constrain\|>\w+)?<\|message\|>)?")
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start)\|>")
# What gpt-oss's markers leave where the engine drops special tokens but keeps the text between them.
_BARE_ANALYSIS = re.compile(r"\s*analysis[A-Z][a-z']*\s")
_BARE_CHANNELS = re.compile(r"\s*analysis(?=[A-Z\W]).*?assistant(?:commentary.*?assistant)?final", re.DOTALL)


def final_answer(text: str) -> str | None:
    """What follows the reasoning; all of the text if there is none; None within a block that never closes.

    A block stands at the front, or further on where its opening marker has a line to itself; anywhere else a marker is
    a word of the answer. Some chat templates open the block in the prompt, so that only its end shows.
    """
    channels = _of_channels(text)
    if channels is not None:
        return channels[0]
    lowered = text.lower()
    for family, needed in zip(_FAMILIES, _NEEDED, strict=True):
        if needed in lowered and family.search(text):
            cut = _without_blocks(text, family)
            if cut is None:
                return None
            text, lowered = cut, cut.lower()
    return text


def _without_blocks(text: str, family: re.Pattern[str]) -> str | None:
    if family is not _IN_WORDS:
        text = _after_unopened(text, family)
    while True:
        opening = _opening(text, family)
        if opening is None:
            return text
        closing = _closing(text, opening, family)
        if closing is None:
            return None
        before = text[: opening.start()]
        text = (before if before.strip() else "") + text[closing.end() :]


def _after_unopened(text: str, family: re.Pattern[str]) -> str:
    """The text after the last closing marker that no marker in the text opens."""
    depth, end = 0, 0
    for marker in family.finditer(text):
        if marker[1]:
            depth += 1
        elif depth:
            depth -= 1
        else:
            end = marker.end()
    return text[end:]


def _opening(text: str, family: re.Pattern[str]) -> re.Match[str] | None:
    """The first marker that opens a block: at the text's front, or alone on its line and not within a code fence."""
    for marker in family.finditer(text):
        if not marker[1]:
            continue
        line = text.rfind("\n", 0, marker.start()) + 1
        if text[line : marker.start()].strip():
            continue
        if not text[:line].strip():
            return marker
        alone = _ALONE.match(text, marker.end()) is not None
        if alone and len(_FENCE.findall(text[:line])) % 2 == 0:
            return marker
    return None


def _closing(text: str, opening: re.Match[str], family: re.Pattern[str]) -> re.Match[str] | None:
    """The marker that closes the block: the one that balances it, else (thoughts may name a marker) the last one.

    Where only markers between quotes remain, one of them must be it: `<think>Say "</think>"`.
    """
    depth, last = 1, None
    for marker in family.finditer(text, opening.end()):
        depth += 1 if marker[1] else -1
        if marker[2]:
            last = marker
        if depth == 0:
            return marker
    if last is None:
        last = next(reversed(list(_ENDS[family].finditer(text, opening.end()))), None)
    return last


def _of_channels(text: str) -> tuple[str | None] | None:
    """The final channel's text, as gpt-oss marks it: (text,), (None,) if it never came, None without channels."""
    bare = _BARE_CHANNELS.match(text)
    if bare:
        return (text[bare.end() :],)
    if _BARE_ANALYSIS.match(text):
        return (None,)
    channels = list(_CHANNEL.finditer(text))
    front = re.match(r"\s*(?:<\|start\|>\s*assistant\s*)?<\|channel\|>", text)
    if not front:
        # The prompt may have opened the first channel; then the next one shows how it was ended.
        channels = [c for c in channels if re.search(r"<\|start\|>\s*assistant\s*$", text[: c.start()])]
    if not channels:
        return None
    last = channels[-1]
    if last[1] != "final":
        return (None,)
    rest = text[last.end() :]
    end = _CHANNEL_END.search(rest)
    return (rest[: end.start()] if end else rest,)
