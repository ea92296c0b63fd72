"""Where in a text its final answer stands: the passage, as written, that says it.

Passages are looked for in the text without what repeats the question, from the last correction ("wait, no") on. In this
order: what is marked as the answer (`\\boxed{}`, `<answer>`, "####", "the answer is"), the last of them; what is set in
bold type; the last sentence that says anything. What only checks or explains an answer that came before is passed over.
A passage that leaves the answer open gives none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from assay.scorers.probe_json import without_json
from assay.scorers.probe_text import spaced
from assay.scorers.quantities import plain
from assay.scorers.statement import RATHER
from assay.types import Message, Prompt

_CORRECTION = re.compile(
    r"\b(?:wait|hold on|hang on|scratch that|correction|on second thought|actually|i mean|sorry|oops"
    r"|no,? (?:that|it)(?:'s| is)|i made an? (?:mistake|error)|let me (?:correct|fix|redo|recalculate|reconsider))\b",
    re.IGNORECASE,
)
_BESIDE_A_CUE = re.compile(r"\A(?:[ ,.:;!–—]|-(?!\d))+")
_WITHDRAWN = re.compile(
    r"\b(?:wrong|incorrect|mistake|mistaken|error|(?:not|isn't|wasn't) (?:right|correct|it)|scratch that)\b",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(?:whether|if the|not sure|unsure|don't know|do not know|cannot|can't|can not|unable|impossible to"
    r"|isn't|is not|was not|wasn't|aren't|are not)\b",
    re.IGNORECASE,
)
_ANSWER_IS = re.compile(
    r"(?:(?<![\w])(?:answer|solution|result)|答案|答え|정답)(?: to [^.:\n]{1,80}?| here| therefore| thus| then)?"
    r"(?:\s*(?:[:=]|->|→|[是为は：]|\b(?:is|was|equals|would be|should be|must be|comes to|option)\b)[^\S\n]*)+\s*",
    re.IGNORECASE,
)
_ANSWER_LINE = re.compile(r"^[ \t#]*(?:final |the )*answer[ \t]*\n+", re.IGNORECASE | re.MULTILINE)
_MARKED_LINE = re.compile(r"####[ \t]*(?=[-+$€£¥(\\.\d]|[A-Z]\s*$)", re.MULTILINE)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BOLD = re.compile(r"(?<!\w)(\*\*|__)(?=\S)(.{1,300}?)(?<=\S)\1(?!\w)(:?)")
_END = re.compile(r"[.!?](?=\s|$)|\n")
_HEADING = re.compile(r"(?i)(?:step|part|case|note|example|given|option|problem|question|solution)\b|.*:$")

_TAGGED = re.compile(
    r"<(answer|final_answer|solution)>(.{1,500}?)</\1>|<\|begin_of_box\|>(.{1,500}?)<\|end_of_box\|>",
    re.IGNORECASE | re.DOTALL,
)
# Where a text turns to checking what it has said, or to explaining it, and what shows that it concludes after all.
_CHECK = re.compile(
    r"(?:^|(?<=[.!])\s)[ \t*_#>-]*(?:(?:let's|let me|to|we can|a|quick|sanity) )*"
    r"(?:double[- ]?check|check|verify|verification|verifying|checking|confirm|proof)(?:ing)?\b",
    re.IGNORECASE | re.MULTILINE,
)
_EXPLAINED = re.compile(
    r"[\s*_#]*(?:explanation|reason(?:ing|s)?|because|justification|here(?:'s| is| are) (?:how|why|the)|this is because"
    r"|to (?:find|solve|get|calculate|determine|see)|working|calculations?|steps?)\b",
    re.IGNORECASE,
)
_STEP = re.compile(r"[\s*_#]*step\b", re.IGNORECASE)
_CONCLUDES = re.compile(r"\b(?:so|therefore|thus|hence|conclusion|finally)\b", re.IGNORECASE)
# What is in a text but not said by it: a calculator's notes, what is struck out, a chat template's tokens and brackets.
_UNSAID = re.compile(
    r"<<[^<>\n]*>>|~~[^~\n]*~~|</s>|<end_of_turn>|<\|(?:im_end|eot_id|end|return|endoftext|end_of_text|eom_id|END_RESPONSE"
    r"|START_RESPONSE|(?:begin|end)_of_solution)\|>|</?response>|\[(?:BEGIN|END) FINAL RESPONSE\]"
)

_SLANTED = re.compile(r"(?<![\w*])(\*)(?=[^\s*])([^*\n]{0,300}[^\s*])\*(?![\w*])")
_GROUPS = re.compile(r"(?<=\d),\\!\s*(?=\d{3})")  # "11,\! 111"
_LONGEST = 500  # characters in what is marked

# A passage that holds the kind of answer that is looked for.
Fits = Callable[[str], bool]
# A first line, and what is beneath it: does the line give the answer?
Leads = Callable[[str, str], bool]


def said_of(text: str, prompt: Prompt) -> str:
    """What the text says itself: without verbatim repeats of the prompt, and without what no reader takes as said."""
    text = _GROUPS.sub(",", _SLANTED.sub(r"\2", spaced(_UNSAID.sub(" ", without_json(text)))))
    for question in _questions(prompt):
        words = question.split()
        # Patterns this long take a while to compile, and few answers need one.
        if len(words) > 2 and " ".join(words).casefold() in " ".join(text.split()).casefold():
            text = re.sub(r"\s+".join(map(re.escape, words)), " ", text, flags=re.IGNORECASE)
    return text


def _questions(prompt: Prompt) -> Iterator[str]:
    if isinstance(prompt, str):
        yield prompt
        return
    for message in prompt:
        if isinstance(message, Message) and message.role == "user":
            yield message.content


def last_question(prompt: Prompt) -> str:
    """What was asked last, "" if nothing."""
    return "".join(list(_questions(prompt))[-1:])


def explained(first: str, rest: str) -> bool:
    """Is a text's first line an answer that the lines beneath it explain?"""
    short = len(first.split()) <= 4 and not first.rstrip().endswith((":", "?")) and not _STEP.match(first)
    return short and bool(_EXPLAINED.match(rest))


def passage(text: str, fits: Fits, leads: Leads = explained) -> str | None:
    """The passage that says the final answer, of those that `fits` accepts; None if there is none or it is withdrawn."""
    end = len(text)
    # From the last correction back to the first: the last one that says something new replaces what was before.
    for cue in reversed(list(_CORRECTION.finditer(text))):
        said = _BESIDE_A_CUE.sub("", text[cue.end() : end], count=1)
        found = _said(said, fits, leads)
        if found is not None:
            return found or None
        if _WITHDRAWN.search(said) or _WITHDRAWN.search(cue[0]):
            return None
        end = cue.start()
    return _said(text[:end], fits, leads) or None


def _said(text: str, fits: Fits, leads: Leads) -> str | None:
    """The passage of a text without corrections: None if there is none, "" if one is taken back in the same breath."""
    found = _marked(text, fits)
    return _unmarked(text, fits, leads) if found is None else found


def _marked(text: str, fits: Fits) -> str | None:
    bare = _unbolded(text)
    marks = [
        (match.start(), match.end()) for p in (_ANSWER_IS, _ANSWER_LINE, _MARKED_LINE) for match in p.finditer(bare)
    ]
    found = [(start, body, False) for start, body in _boxes(bare)]
    found += [(start, _until_end(bare, end), True) for start, end in marks]
    for start, body, said in sorted(found, reverse=True):
        body = RATHER.sub("", body, count=1) if RATHER.match(body) else body
        if fits(body):
            open_ = _DOUBT.search(_sentence_before(bare, start)) or re.match(r"not\b", body, re.IGNORECASE)
            return "" if said and open_ else body
    return None


def _boxes(text: str) -> Iterator[tuple[int, str]]:
    for match in _TAGGED.finditer(text):
        yield match.start(), (match[2] or match[3]).strip()
    for match in _BOXED.finditer(text):
        depth = 1
        for end in range(match.end(), min(len(text), match.end() + _LONGEST)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                yield match.start(), text[match.end() : end]
                break


def _unmarked(text: str, fits: Fits, leads: Leads) -> str | None:
    check = _CHECK.search(text)
    if check and not _CONCLUDES.search(text, check.end()):
        found = _unmarked(text[: check.start()], fits, leads)
        if found is not None:
            return found
    first, _, rest = text.strip().partition("\n")
    if fits(first) and leads(first, rest.lstrip()):
        return _unbolded(first)
    bold = [m[2] for m in _BOLD.finditer(text) if not m[3] and not _HEADING.match(m[2]) and fits(m[2])]
    if bold:
        return bold[-1]
    sentences = [s for s in split_sentences(_unbolded(text)) if fits(s)]
    return sentences[-1] if sentences else None


def split_sentences(text: str) -> list[str]:
    """Statements, without list numbers and bullets. Questions are left out: who asks does not answer."""
    found = []
    for line in text.split("\n"):
        line = re.sub(r"^\s*(?:[-*•>#]+\s+|\d{1,2}[.)]\s+(?=\S))+", "", line)
        for sentence in re.split(r"(?<=[.!?])\s+", line):
            if sentence.strip() and not sentence.rstrip().endswith("?"):
                found.append(sentence.strip())
    return found


def _unbolded(text: str) -> str:
    return _BOLD.sub(r"\2\3", text).replace("`", "")


def _sentence_before(text: str, end: int) -> str:
    return re.split(r"[.!?:]\s|\n|, so\s", text[max(0, end - 200) : end])[-1]


def _until_end(text: str, start: int) -> str:
    end = _END.search(text, start, start + _LONGEST)
    return plain(text[start : end.start() if end else start + _LONGEST]).strip()
