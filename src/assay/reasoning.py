"""Where the answer begins: what a model thought aloud before it, between markers, is not its answer.

The markers are those that models' chat templates use; engines that know them cut them themselves, others hand them on:

    <think> <thinking> <thought> <reasoning> <scratchpad> …   DeepSeek-R1, Qwen, GLM, OLMo, EXAONE and many others
    <seed:think>, <longcat_think>, <mm:think>                 Seed-OSS, LongCat, MiniMax
    [THINK]                                                   Magistral
    ◁think▷                                                   Kimi
    <|begin_of_thought|>, <|START_THINKING|>                  OpenThoughts, Command
    <|inner_prefix|>                                          Apertus
    <|channel>thought … <channel|>                            Gemma
    <unused94>thought … <unused95>                            MedGemma
    [BEGIN FINAL RESPONSE], which only ends the reasoning     Apriel
    Here is my thought process: … Here is my response:        Granite

gpt-oss's channels are `reasoning_channels`'s. Two mistakes are possible, and both lose an answer: to take reasoning for it, and
to take a word of it for a marker. So a marker counts by where it stands. A block is opened at the front, or by a marker that
has its line to itself; it is closed by the marker that balances it. In quotes and in code a marker is spoken about.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple

from assay.reasoning_channels import ANALYSIS, final_channel, has_channels

_NAMES = (
    "think|thinking|thought|thoughts|reason|reasoning|scratchpad|seed:think|seed:cot_budget_reflect|mm:think|"
    "longcat_think"
)
_ATTRIBUTES = r"(?:\s++[\w:-]++\s*+=\s*+(?:\"[^\"<>]*+\"|'[^'<>]*+'|[^\s\"'<>/]++))*+\s*+"
# Name, opening and closing marker; (?!) is one that never occurs.
_PAIRS = (
    ("magistral", r"\[think\]", r"\[/think\]"),
    ("kimi", r"◁think▷", r"◁/think▷"),
    ("thought", r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    ("thinking", r"<\|(?:start_thinking|think|thinking)\|>", r"<\|(?:end_thinking|/think|/thinking)\|>"),
    ("inner", r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    ("gemma", r"<\|channel>thought", r"<channel\|>"),
    ("medgemma", r"<unused94>thought", r"<unused95>"),
    ("apriel", r"(?!)", r"\[begin final response\]"),
)
_MARKER = rf"(?P<tag><({_NAMES}){_ATTRIBUTES}(/?)>)|(?P<untag></({_NAMES})\s*+>)|" + "|".join(
    f"(?P<{name}>{opens})|(?P<end_{name}>{closes})" for name, opens, closes in _PAIRS
)
_FIRST = re.compile(r"[<\[◁]")
# Granite's markers are plain words: a block that is never closed was none, and one that was never opened can't be closed.
_WORDS = re.compile(
    r"(?P<words>here(?: is|'s) my thought process:)|(?P<end_words>here(?: is|'s) my response:)", re.IGNORECASE
)
# Words that letters, forms and templates have between angle brackets; further on, where nothing closes them and the answer
# ended by itself, they are the answer's.
_PLACEHOLDERS = ("<reason>", "<reasoning>", "<scratchpad>", "<thought>", "<thoughts>")

_QUOTES_BEFORE, _QUOTES_AFTER = "`'\"“‘«‹„‚「『(", "`'\"”’»›“‘」』)"
_INLINE = 300  # characters before a marker in which the code that it stands in must have begun
_NOT_AFTER_A_CLOSE = re.compile(r"[.,;:!?)](?:\s|$)")
_SOMETHING = re.compile(r"\S")
_IN_SENTENCE = re.compile(r"[.,;:!?)]|[ \t]+\S")
# What may stand before an answer without being one: white space, a byte order mark, a chat template's own tokens.
_NOTHING = re.compile(r"(?:[\s\ufeff\u200b]|<\|\w++\|>|<s>|<bos>|assistant\s*?(?=\n))*+")
_REST_OF_LINE = re.compile(r"[ \t]*+(?:\r?\n|$)")
_CODE_INDENT = 4
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
_FENCE_HERE = re.compile(r"(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)

_TAIL = 200  # characters of a prompt in which a marker at its end must lie


def final_answer(text: str, *, cut: bool = False) -> str | None:
    """What follows the reasoning; all of the text if there is none; None within a block that never closes.

    cut: the text ended at its token limit, so that words which may only begin a block do begin one.
    """
    if has_channels(text):
        found = final_channel(text)
        if found is not None:
            return found[0]
    marks = list(_marks(text))
    return _Walk(text, marks, cut).answer() if marks else text


def continued(prompt: str, text: str) -> str:
    """The text, behind the marker that the prompt as the model saw it ends with: some chat templates open the block."""
    end = prompt[-_TAIL:].rstrip()
    if end.endswith(ANALYSIS):
        return ANALYSIS + text
    found = _marker_at_end().search(end)
    if found is None or not _mark(found, end).opens:
        return text
    return f"{found[0]}\n{text}"


# Compiled for the first text that may hold a marker: few do, and each is as long to compile as all else in here.
@cache
def _marker() -> re.Pattern[str]:
    return re.compile(_MARKER, re.IGNORECASE)


@cache
def _marker_at_end() -> re.Pattern[str]:
    return re.compile(f"(?:{_MARKER})$", re.IGNORECASE)


class _Mark(NamedTuple):
    """A marker. kind: what opens and closes one block has the same. empty: it opens and closes a block at once."""

    start: int
    end: int
    kind: str
    opens: bool
    quoted: bool
    empty: bool = False


def _marks(text: str) -> Iterator[_Mark]:
    """The markers in a text, in its order."""
    if "<" in text or "[" in text or "◁" in text:  # a hundredth of the time of looking for all at once
        for first in _FIRST.finditer(text):
            match = _marker().match(text, first.start())
            if match is not None:
                yield _mark(match, text)
    if "thought proce" in text.lower():
        yield from (_mark(match, text) for match in _WORDS.finditer(text))


def _mark(match: re.Match[str], text: str) -> _Mark:
    group = match.lastgroup or ""
    quoted = _is_quoted(text, match.start(), match.end())
    if group == "tag":
        return _Mark(match.start(), match.end(), f"<{match[2].lower()}>", True, quoted, match[3] == "/")
    if group == "untag":
        return _Mark(match.start(), match.end(), f"<{match[5].lower()}>", False, quoted)
    return _Mark(match.start(), match.end(), group.removeprefix("end_"), not group.startswith("end_"), quoted)


def _kinds(mark: _Mark) -> tuple[str, ...]:
    """What may close what: a block's own kind, and of tags any other, where there is nothing better."""
    return (mark.kind, "<") if mark.kind[0] == "<" else (mark.kind,)


def _is_quoted(text: str, start: int, end: int) -> bool:
    """Does it stand between quotes, or in code within a line?"""
    if text[start - 1 : start] in _QUOTES_BEFORE and text[end : end + 1] in _QUOTES_AFTER and start and end < len(text):
        return True
    line = text.rfind("\n", max(0, start - _INLINE), start) + 1 or max(0, start - _INLINE)
    if text.count("`", line, start) % 2 == 0:
        return False
    closing = text.find("`", end, end + _INLINE)
    return closing >= 0 and "\n" not in text[end:closing]


class _Fences:
    """Tells whether a place lies in a fenced block of code (CommonMark 0.31, section 4.5). Places must come in rising order."""

    def __init__(self, text: str, start: int = 0) -> None:
        self._text = text
        self._found = _FENCE.finditer(text, start)
        self._next = next(self._found, None)
        self._open = ""
        self.skip(start)

    def opened_before(self, place: int) -> bool:
        """Was a block opened before this place, and not closed?"""
        while self._next is not None and self._next.start() < place:
            self._open = self._after(self._next)
            self._next = next(self._found, None)
        return bool(self._open)

    def around(self, place: int) -> bool:
        """Is this place in a block that is also closed after it?"""
        return self.opened_before(place) and self._next is not None and not self._after(self._next)

    def skip(self, place: int) -> None:
        """Go on at this place, where an answer or a thought begins; what was opened before stays so."""
        while self._next is not None and self._next.start() < place:
            self._next = next(self._found, None)
        here = _FENCE_HERE.match(self._text, place)
        if here is not None and (self._next is None or here.start(1) != self._next.start(1)):
            self._open = self._after(here)

    def _after(self, fence: re.Match[str]) -> str:
        mark, more = fence[1], fence[2].strip()
        if not self._open:
            return self._open if mark[0] == "`" and "`" in more else mark
        closes = mark[0] == self._open[0] and len(mark) >= len(self._open) and not more
        return "" if closes else self._open


class _Walk:
    """Goes through a text's markers from its front and keeps what is no reasoning."""

    def __init__(self, text: str, marks: Sequence[_Mark], cut: bool) -> None:
        self._text = text
        self._marks = sorted(marks)
        self._cut = cut
        self._kept: list[str] = []
        self._at = 0  # up to here the text is kept or was cut away
        self._closed = False  # has a block been cut away?
        # The last marker that closes, of each kind and of all tags.
        self._closers = {kind: i for i, mark in enumerate(self._marks) if not mark.opens for kind in _kinds(mark)}
        self._depth: Counter[str] = Counter()
        self._fences = _Fences(text)

    def answer(self) -> str | None:
        for index, mark in enumerate(self._marks):
            if mark.start < self._at or mark.quoted:
                continue
            if mark.opens and self._begins_block(mark):
                end = mark.end if mark.empty else self._end_of_block(index)
                if end is not None:
                    self._keep(mark.start)
                    self._cut_to(end)
                elif self._is_block(mark):
                    return None
            elif mark.opens:
                self._depth[mark.kind] += not mark.empty
            elif self._depth[mark.kind] and not self._is_alone(mark):
                self._depth[mark.kind] -= 1
            elif self._ends_unopened(mark):
                self._kept.clear()
                self._cut_to(mark.end)
        self._keep(len(self._text))
        return "".join(self._kept)

    def _keep(self, end: int) -> None:
        piece = self._text[self._at : end]
        if self._kept or end == len(self._text) or not _NOTHING.fullmatch(piece):
            self._kept.append(piece)

    def _cut_to(self, end: int) -> None:
        self._at = end
        self._closed = True
        self._depth.clear()
        self._fences.skip(end)

    def _is_block(self, mark: _Mark) -> bool:
        """Was it a block that this marker opened, if nothing closes it?"""
        if mark.kind == "words":
            return self._cut
        return self._cut or mark.kind not in _PLACEHOLDERS or self._is_front(mark)

    def _is_front(self, mark: _Mark) -> bool:
        return not self._kept and _NOTHING.fullmatch(self._text, self._at, mark.start) is not None

    def _begins_block(self, mark: _Mark) -> bool:
        """At the front, or alone on its line and in no code."""
        return self._is_front(mark) or (self._is_alone(mark) and not self._fences.opened_before(mark.start))

    def _is_alone(self, mark: _Mark) -> bool:
        before = self._text[self._text.rfind("\n", 0, mark.start) + 1 : mark.start]
        if before.strip() or len(before.expandtabs(_CODE_INDENT)) >= _CODE_INDENT:
            return False
        return _REST_OF_LINE.match(self._text, mark.end) is not None

    def _end_of_block(self, index: int) -> int | None:
        """Where the block ends that the marker at `index` opens: at the marker that balances it.

        Thoughts may name markers. So one that stands in the middle of a sentence gives way to a later one that does not, and
        where none balances it, it is the last one of its kind, even in code or in quotes, or one of a tag that nothing opened.
        """
        opening = self._marks[index]
        if all(self._closers.get(kind, -1) < index for kind in _kinds(opening)):
            return None
        fences = _Fences(self._text, opening.end)
        depth = 1
        others: Counter[str] = Counter()
        last: dict[str, int] = {}
        for mark in islice(self._marks, index + 1, None):
            if mark.kind == opening.kind:
                if mark.opens:
                    depth += not (mark.quoted or mark.empty or fences.around(mark.start))
                    continue
                place = "quotes" if mark.quoted else "code" if fences.around(mark.start) else "plain"
                last[place] = mark.end
                if place == "plain" and not self._is_in_sentence(mark):
                    last["firm"] = mark.end
                depth -= place == "plain" and depth > 0
                if depth == 0 and place == "plain":
                    first = "balanced" not in last
                    if not self._is_in_sentence(mark) and (first or self._is_followed(mark)):
                        return mark.end
                    last.setdefault("balanced", mark.end)
            elif "<" in _kinds(mark) and "<" in _kinds(opening) and not (mark.quoted or mark.empty):
                if mark.opens:
                    others[mark.kind] += 1
                elif others[mark.kind]:
                    others[mark.kind] -= 1
                else:
                    last["other"] = mark.end
        return next(
            (last[place] for place in ("balanced", "firm", "plain", "code", "quotes", "other") if place in last), None
        )

    def _ends_unopened(self, mark: _Mark) -> bool:
        """Does it end reasoning that no marker in the text opens?

        After a block, only one that has its line to itself or follows at once, and that something follows: models close
        twice, and answers name markers.
        """
        if mark.kind == "words" or self._fences.around(mark.start):
            return False
        if not self._closed:
            return _NOT_AFTER_A_CLOSE.match(self._text, mark.end) is None
        follows_at_once = not self._text[self._at : mark.start].strip()
        return (follows_at_once or self._is_alone(mark)) and self._is_followed(mark)

    def _is_in_sentence(self, mark: _Mark) -> bool:
        return self._text[mark.start - 1] in " \t" and _IN_SENTENCE.match(self._text, mark.end) is not None

    def _is_followed(self, mark: _Mark) -> bool:
        return _SOMETHING.search(self._text, mark.end) is not None
