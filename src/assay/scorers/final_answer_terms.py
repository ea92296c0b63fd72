"""Where a text has expressions, in TeX or plain, and where it mentions the one that is the target.

A text is first brought into one notation: `\\frac{x}{2}` is "((x)/(2))", `\\sqrt2` "sqrt(2)", "x²" "x^2", "√" "sqrt". Then each
longest run of what may stand in an expression is one if it can be read (`final_answer_algebra`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from assay.scorers.final_answer_algebra import FUNCTIONS, GREEK, NUMBER, Expression, last_side, parse
from assay.scorers.probe_mentions import Mention, Piece, masked
from assay.scorers.quantities import plain
from assay.scorers.units import NAMES

_LONGEST = 300  # characters of an expression; more are none
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_NOTATION: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|displaystyle|limits|[bB]igg?[lr]?)(?![A-Za-z])|\\[,!;: ]|\\(?:quad|qquad)\b", " "),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\(?:operatorname|mathrm|mathbf|mathit|text|mbox)\s*\{([^{}]*)\}", r" \1 "),
        (r"\\(?:cdot|times|ast)(?![A-Za-z])|[×·⋅∗]", "*"),
        (r"\\infty(?![A-Za-z])|\binfinity\b", "∞"),
        (r"\\div(?![A-Za-z])|÷", "/"),
        ("[\u2212\u2013]", "-"),
        (r"(?<=[\w)])\*\*(?=[\w(-])(?![^*\n]*\*\*)", "^"),
        (r"\\([lr]vert|vert)|\\\|", "|"),
        (r"(\\(?:frac|sqrt|binom)(?:\[[^\]]*\])?)\s*(?=[{\w\\])", r"\1 "),
        (r"(?<=\d)\{,\}(?=\d{3})", ","),
        (r"\^\s*(?:\{\s*)?\\circ(?![A-Za-z])\s*\}?", "°"),
    )
)
_ARGUMENT = r"(?:\{((?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*)\}|(\\(?:pi|theta|alpha|beta)|[0-9A-Za-z]))"
_FRACTION = re.compile(rf"\\frac\s*{_ARGUMENT}\s*{_ARGUMENT}")
_MIXED = re.compile(r"(\d)\s*\\frac\s*(?=\{?\d+\}?\s*\{?\d+\}?(?!\d))")
_ROOT = re.compile(rf"\\sqrt\s*(?:\[\s*(\w+)\s*\]\s*)?{_ARGUMENT}|√\s*(?:\(([^()]*)\)|(\d+|[A-Za-z]))")
_SCRIPT = re.compile(r"([\^_])\s*\{([^{}]*)\}")
_COMMAND = re.compile(rf"\\({FUNCTIONS}|{GREEK}|pi)(?![A-Za-z])")
_POWERS = re.compile("[⁰¹²³⁴-⁹⁺⁻ⁿ]+")
# Words of a few letters; no product of names reads like one.
_SHORT = (
    "is|it|in|at|of|or|on|to|so|as|be|by|we|an|am|do|go|he|if|me|my|no|up|us|and|are|the|you|for|not|but|can|has|its|one|two"
    "|six|ten|now|say|was|all|any|out|yes|let|how|who|why|get|got|per|let|see|her|his|she|our|add|sum|cm|km|kg|mm|ft|hr"
)
_PRODUCT = rf"(?!(?:{_SHORT})(?![a-z]))[a-z]{{2,3}}"
_LETTERS = rf"(?<![A-Za-z])(?:{FUNCTIONS}|{GREEK}|pi|{_PRODUCT}|[A-Za-z])(?:_(?:\w|\(\w+\)))?(?![A-Za-z])"
_PIECE = rf"(?:{NUMBER}|{_LETTERS}|[α-ωπ]|[-+*/^!°()\[\]|=])"
_RUN = re.compile(rf"(?<![A-Za-z.'’\\]){_PIECE}(?:[ \t]*{_PIECE})*")
_ARTICLE = re.compile(r"^(?:[aAI]|[-*+/]) +(?=[\w(])")
_STRUCTURE = re.compile(rf"[A-Za-zα-ωπ^!]|(?<=[\w)\]]) *[-+*/] *(?=[\w(])|\b(?:{FUNCTIONS})\b")
# Codes, scores, words with a hyphen or a stroke: "abc-123", "3-2", "X-ray", "I/O".
_CODE = re.compile(
    r"[A-Za-z]+-?\d+|[\d\s:/.-]+|\(?[A-Za-z]\)?|[A-Z]/[A-Z]|n/a|w/o|[A-Za-z ]+"
    r"|(?=.*[A-Za-z]{2})[A-Za-z]+(?:-[A-Za-z]+)+"
)
_NAMED = re.compile(rf"(?<![A-Za-z])(?:[A-Za-zα-ωπ]|{FUNCTIONS}|{GREEK}|pi)(?![A-Za-z])")
_MEASURE = re.compile(
    rf"\d\s+[A-Za-z]|\A(?:-?(?:{NUMBER})(?:/\d+)?\s?(?:°\s?[CF]?|k|bn|{NAMES})|[A-Za-z])\Z", re.IGNORECASE
)
_COUNTED = re.compile(
    r"\\(?:text|mathrm|mbox)\s*\{\s*[a-z]{2,}(?: [a-z]+){0,3}\s*\}(?:\^\{?[23]\}?)?\s*\$?$"
)  # its unit
_TEX_LEFT = re.compile(r"\\[A-Za-z{]|\^|(?<![A-Za-z])[A-Za-z]_(?![a-z]{2})")


def in_terms(text: str) -> str:
    """The text with its expressions in one notation."""
    for pattern, replacement in _NOTATION:
        text = pattern.sub(replacement, text)
    text = _POWERS.sub(lambda m: "^(" + m[0].translate(_SUPERSCRIPTS) + ")", text)
    for _ in range(5):
        before = text
        text = _SCRIPT.sub(r"\1(\2)", text)
        text = _ROOT.sub(_rooted, _FRACTION.sub(_divided, _MIXED.sub(r"\1+\\frac ", text)))
        if text == before:
            break
    return _COMMAND.sub(_worded, text)


def _worded(match: re.Match[str]) -> str:
    text, (start, end) = match.string, match.span()
    return " " * text[start - 1 : start].isalnum() + match[1] + " " * text[end : end + 1].isalnum()


def _divided(match: re.Match[str]) -> str:
    above, below = match[1] if match[1] is not None else match[2], match[3] if match[3] is not None else match[4]
    return f"(({above})/({below}))"


def _rooted(match: re.Match[str]) -> str:
    inner = next((part for part in match.groups()[1:] if part is not None), "")
    if match[1]:
        return f"({inner})^(1/({match[1]}))"
    return " " * match.string[match.start() - 1 : match.start()].isalnum() + f"sqrt({inner})"


def single_expression(text: str) -> Expression | None:
    """The expression that the whole text is; None if it is anything else, or a mere word, number, code or date."""
    written = in_terms(plain(_COUNTED.sub("", text))).strip(" .$")
    if _CODE.fullmatch(written) or not _STRUCTURE.search(written) or not _RUN.fullmatch(written):
        return None
    return parse(written)


def is_part(run: str, statement: str) -> bool:
    """Does a number stand in a statement as a part of the expression that it ends in, as 2 does in "= 2x"?"""
    text = in_terms(plain(statement))
    sides = [text[start:end].rsplit("=", 1)[-1].strip() for start, end, _ in _found(text)]
    if not sides or _MEASURE.search(sides[-1]) or not _NAMED.search(sides[-1]):
        return False
    return all(re.search(rf"(?<![\d.]){digits}(?!\d)", sides[-1]) for digits in re.findall(r"\d+", run))


def is_formula(text: str) -> bool:
    """Is a reference that is no expression written as a formula all the same, so that other words than its own may mean it?"""
    return bool(_TEX_LEFT.search(plain(text)))


def same_formula(one: str, two: str) -> bool:
    """Are two formulas the same letter for letter, spaces and TeX's dress aside, or lists of equal expressions in brackets?"""
    one, two = _squeezed(one), _squeezed(two)
    if one == two:
        return True
    parts, others = one[1:-1].split(","), two[1:-1].split(",")
    alike = one[:1] + one[-1:] == two[:1] + two[-1:] and one[:1] in tuple("([") and len(parts) == len(others)
    return alike and all(a == b or _equal(a, b) for a, b in zip(parts, others, strict=True))


def _equal(one: str, two: str) -> bool:
    left, right = parse(one), parse(two)
    return left is not None and right is not None and left.equals(right)


def _squeezed(text: str) -> str:
    return re.sub(r"[\s$]|\\[()\[\]]", "", in_terms(plain(text))).rstrip(".")


# What makes more of an expression than is read of it: "±x", "x < 3", "x + …".
_MORE_BEFORE = re.compile(
    r"(?:\\(?:pm|mp|int|i+nt|sum|prod|leq?|geq?|neq?|lt|gt|in|cup|cap|bar|vec|hat|\{)|[±∓∫∑∏√<>≤≥≠])\s*$"
)
_MORE_AFTER = re.compile(
    r"\s*(?:\\(?:pm|mp|int|sum|prod|leq?|geq?|neq?|lt|gt|in|cup|cap|p?mod|bmod)(?![A-Za-z])|[±∓∫<>≤≥≠]|[+/^]|\*(?!\*)"
    r"|-\s*(?:$|[\n}$])|,\d|, ?-?\d+ ?\\\}|is (?:less|more|greater|smaller|larger) than\b)"
)


class TermReader:
    """Mentions of expressions in a text that is in one notation. The target has the value "".

    A lone name ("where x is …") is none, and a lone number only where it is said to be something: "or 3", "is 3".
    """

    chains = True
    nouns: frozenset[str] = frozenset()

    def __init__(self, target: Expression) -> None:
        self._target = target

    def read(self, text: str) -> Piece:
        return masked(
            text, ((start, end, self._mention(text, start, end, found)) for start, end, found in _found(text))
        )

    def said(self, text: str) -> tuple[str, bool] | None:
        """The last expression of a statement, and whether it is the target."""
        mentions = self.read(text).mentions
        return (mentions[-1].shown, mentions[-1].right) if mentions else None

    def _mention(self, text: str, start: int, end: int, found: Expression) -> Mention:
        shown = text[start:end]
        inside = "=" not in shown and _MORE_BEFORE.search(text, max(0, start - 12), start)
        if inside or _MORE_AFTER.match(text, end):
            return Mention(shown, f"{shown} …", False)
        loud = parse(f"{shown}!") if text[end : end + 1] == "!" else None  # a factorial, or said aloud
        if loud and self._target.equals(loud):
            return Mention(f"{shown}!", "", True)
        ends = last_side(shown) if "=" in shown and not re.match(rf"-?(?:{NUMBER})\s*=", shown) else None
        right = self._target.equals(found) or (
            ends is not None and not found.defined and not self._target.difference and self._target.equals(ends)
        )
        return Mention(shown, "" if right else shown, right)


def _found(text: str) -> Iterator[tuple[int, int, Expression]]:
    for run in _RUN.finditer(text):
        start, end = run.span()
        if end - start > _LONGEST:
            continue
        article = _ARTICLE.match(run[0])
        start += article.end() if article else 0
        while end > start and (text[end - 1] in " \t=-+*/^(!|[" or _unbalanced(text[start:end])):
            end -= 1
        shown = text[start:end]
        if not shown.strip() or not (_STRUCTURE.search(shown) or _is_said(text, start)):
            continue
        if re.fullmatch(r"[A-Za-z]", shown) and text[end : end + 1] != "!" and not _is_said(text, start):
            continue
        found = parse(shown) or (last_side(shown) if "=" in shown else None)
        if found is not None:
            yield start, end, found


def _unbalanced(text: str) -> bool:
    return text[-1:] in ")]" and text.count(text[-1]) > text.count("(" if text[-1] == ")" else "[")


def _is_said(text: str, start: int) -> bool:
    before = text[max(0, start - 20) : start]
    return bool(
        re.search(r"(?:\A|[=:{$]|\b(?:is|are|be|or|and|not|get|equals|gives?))\s*$", before)
    ) and start - 20 < len(text)
