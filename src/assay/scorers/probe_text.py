"""An answer as plain sentences: markup cut away, a repeated question removed, and what never was an answer noticed."""

from __future__ import annotations

import re
import unicodedata

from assay.scorers.probe_json import without_json

# Conclusions that are drawn with a sign of their own, not with words, become this one.
ARROW = "⇒"

_SIGNS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2013\uff0d\ufe63\u2011\u2010", "-"),
        **dict.fromkeys("‘’ʼ＇", "'"),
        **dict.fromkeys("“”„«»", '"'),
    }
    | dict.fromkeys("→⟹⟶➜➔⇒∴", ARROW)
    | dict.fromkeys("≃≅∈", "=")
    | {"≃": "≈", "≅": "≈"}
    | {"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u00ad": "", "\u200b": "", "\ufeff": "", "…": "...", "⁄": "/"}
)
_MATH = re.compile(r"(?<![\w$\\])\$(?=[^\s$])([^$\n]*[^\s$\\])\$(?![\d$])")  # dollars that are no money
_NEGATED = r"(?:\bnot|n't|\bnever|\bno longer)\s*(?:equal\s+to\s*|be\s*|the\s*)?\W{0,3}$"

_TEX: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:begin|end)\s*\{\w+\*?\}(?:\{[lcr|]*\})?|\\(?:left|right|displaystyle|big|Big|limits)\b", " "),
        (r"\\(?:text|textbf|textit|texttt|mathrm|mathbf|mathit|mbox|textrm|operatorname|emph)\s*\{([^{}]*)\}", r" \1 "),
        (r"\{,\}", ","),
        (r"\\[cdt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}", r"\\frac{\1}{\2}"),
        (r"\{\s*(\d+)\s*\\over\s*(\d+)\s*\}", r"\\frac{\1}{\2}"),
        (r"\\[cdt]?frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\\[|\\\]|\$\$|\\\\", "\n"),
        (r"\\[()]", " "),
        (r"\\(?:times|cdot)\b", " × "),
        (r"\\div\b", " ÷ "),
        (r"\\(?:approx|simeq)\b", " ≈ "),
        (r"\\(?:therefore|implies|Rightarrow|rightarrow|to|Longrightarrow)\b", f" {ARROW} "),
        (r"\^\s*(?:\{\s*)?\\circ\s*\}?|\\degree\b", " degrees "),
        (r"\\(?:quad|qquad)\b|\\[;:! ,](?!\d{3}(?!\d))", " "),
        (r"\\,", ","),
        (r"\\([$%#&_{}])", r"\1"),
    )
)
_MARKUP: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.MULTILINE), replacement)
    for pattern, replacement in (
        (r"~~[^~\n]*~~", " "),
        (r"<\s*/?\s*(?:b|i|u|em|strong|code|pre|p|span|div|li|ul|ol|sup|sub|center)\s*>", " "),
        (r"<\s*br\s*/?\s*>|^[ \t]*(?:```|~~~)[^\n]*$|^[ \t]*(?:[-*_=][ \t]*){3,}$|^[ \t|:-]*-{3,}[ \t|:-]*$", "\n"),
        (r"^[ \t]*(?:>[ \t]*)+", ""),
        (r"^[ \t]*#{1,6}[ \t]+(.*?)[ \t]*#*$", r"\n\1\n"),
        (r"^[ \t]*(?:[-*+•·–][ \t]+)?(?:\(?[A-Ha-h][.)][ \t]+)?(?=\S)", ""),
        (r"(?<![\w*])\*{1,3}(?=[^\s*])([^*\n]*[^\s*])\*{1,3}(?![\w*])", r"\1"),
        (r"(?<![\w_])_{1,3}(?=[^\s_])([^_\n]*[^\s_])_{1,3}(?![\w_])", r"\1"),
        (r"`+", ""),
        (r"(?i)^\W*confidence(?: level| score)?\W{1,3}(?:(?:very )?high|(?:[5-9]\d|100)(?:\.\d+)?\s?%)\W*$", ""),
        (r"(?i)^(?=(?:the )?final answer\b|answer\b)([^\n:.]{0,40})$", r"\1:"),
    )
)
_BOLD = re.compile(r"(\*\*|__)(?=\S)([^*_\n]{1,40})\1")
_BOXED = re.compile(
    r"\\(?:boxed|fbox)\s*\{|<\s*(?:answer|final_answer|solution)\s*>|<\|begin_of_(?:solution|box)\|>", re.IGNORECASE
)
_TAG_END = re.compile(r"<\s*/\s*(?:answer|final_answer|solution)\s*>|<\|end_of_(?:solution|box)\|>", re.IGNORECASE)
_ORDINAL_LABEL = re.compile(
    r"(?<!by )\b((?:step|part|case|question|problem|exercise|equation|eqn?|example|figure|line|iteration|turn|round|pass"
    r"|method)s?)"
    r"\.?\s*(?:\(\d+\)|#?\d+(?!\s*[\d.]*\d?\s*[=×÷+*/]))[ \t]*([.:)-]?)",
    re.IGNORECASE,
)
# Chinese, Japanese and Korean set no space between a word and what isn't one of theirs.
_ASIAN = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_UNSPACED = re.compile(rf"(?<=[{_ASIAN}])(?=[^{_ASIAN}\s])|(?<=[^{_ASIAN}\s])(?=[{_ASIAN}])")
_ABBREVIATED = re.compile(r"\b(mr|mrs|ms|dr|cf|est|rs|ca|vs|ref|fig|pp?|approx|ans|nr)\.(?=\s)", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_TABLE = re.compile(
    r"^[ \t]*\|(.+)\|[ \t]*\n[ \t]*\|[ \t|:-]*-[ \t|:-]*\|[ \t]*\n[ \t]*\|(.+)\|[ \t]*$(?!\n[ \t]*\|)", re.MULTILINE
)
_ROW = re.compile(r"^[ \t]*\|(.*)\|[ \t]*$", re.MULTILINE)
_NUMBERED = re.compile(r"^[ \t]*(?:\*\*)?\(?(\d{1,2})[.)](?:\*\*)?[ \t]+(?=\S)", re.MULTILINE)


def plain_text(text: str) -> str:
    """The text in one notation, without Markdown, HTML and TeX. What is boxed or tagged reads "Final answer: …"."""
    text = "".join(c for c in text if unicodedata.category(c) != "Co")  # room for marks of our own
    text = without_json(text).replace("\r\n", "\n").translate(_SIGNS)
    text = spaced(text)
    text = _ABBREVIATED.sub(r"\1", _COMMENT.sub(" ", text))
    text = re.sub(r"(?<![-=<>!])(?:-{1,2}|={1,2})>(?!>)", f" {ARROW} ", text)
    text = _TABLE.sub(_by_column, text)
    text = _ROW.sub(lambda row: row[1].replace("|", ":"), text)
    text = _without_numbering(_unboxed(_MATH.sub(r"\1", text)))
    for pattern, replacement in (*_TEX, *_MARKUP):
        text = pattern.sub(replacement, text)
    text = _ORDINAL_LABEL.sub(r"\1\2", text)
    return re.sub(r"[ \t]+", " ", text)


def spaced(text: str) -> str:
    """The text with spaces around what is Chinese, Japanese or Korean in it."""
    return _UNSPACED.sub(" ", text)


def _by_column(table: re.Match[str]) -> str:
    """A table of a single row as a line a column."""
    names, cells = ([cell.strip() for cell in row.split("|")] for row in table.groups())
    if len(names) != len(cells) or any(len(name) == 1 for name in names):  # options have letters
        return table[0]
    return "\n".join(f"{name}: {cell}" if name else cell for name, cell in zip(names, cells, strict=True))


def stressed(text: str) -> list[str]:
    """What stands in bold, as plain text: labels such as "Step 2" and "Answer:" left out, and no more than a few words."""
    bold = [plain_text(match[2]).strip() for match in _BOLD.finditer(text)]
    return [words for words in bold if words and not words.endswith(":")]


def _unboxed(text: str) -> str:
    parts, position = [], 0
    for opening in _BOXED.finditer(text):
        if opening.start() < position:
            continue
        if opening[0].endswith("{"):
            end = after = _brace_end(text, opening.end())
            after = min(after + 1, len(text))
        else:
            closing = _TAG_END.search(text, opening.end())
            end, after = (closing.start(), closing.end()) if closing else (len(text), len(text))
        before = text[position : opening.start()]
        label = " " if re.search(_NEGATED, before[-40:], re.IGNORECASE) else "\nFinal answer: "
        parts += [before, label, text[opening.end() : end], "\n" if label != " " else " "]
        position = after
    return "".join(parts) + text[position:]


def _brace_end(text: str, start: int) -> int:
    """Where the group that begins at `start`, its brace left out, ends; the line's or text's end if it never does."""
    depth = 1
    for index in range(start, min(len(text), start + 2000)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    line_end = text.find("\n", start)
    return line_end if line_end >= 0 else len(text)


def _without_numbering(text: str) -> str:
    """The text without the numbers of its list items: those that count up from 1, at least two of them."""
    expected, items = 1, []
    for match in _NUMBERED.finditer(text):
        if int(match[1]) == expected or (expected > 2 and int(match[1]) == 1):
            items.append(match.span())
            expected = int(match[1]) + 1
    if len(items) < 2:
        return text
    for start, end in reversed(items):
        text = text[:start] + text[end:]
    return text


_LISTED = re.compile(r"\w*\d\w*(?:,\s\w*\d\w*){2,}")


def without_question(text: str, question: str) -> str:
    """The text without the question, where that is repeated: the whole of it, or sentences or lines of it."""
    asked = _words(question)
    if not asked:
        return text
    # The whole question, however it is punctuated or broken into lines.
    whole = re.compile(r"(?<!\w)" + r"[\W_]+".join(re.escape(word) for word in asked) + r"(?!\w)[?.]*", re.IGNORECASE)
    text = whole.sub("\n", text)
    for listed in _LISTED.findall(question):  # "3, 8, 18, 38, 158", where the first four are given
        given = r"\s*,\s*".join(re.escape(item) for item in re.split(r"\s*,\s*", listed))
        last = re.escape(re.split(r"\s*,\s*", listed)[-1])
        text = re.sub(
            rf"(?<![\w,])(?:{given}|\.{{3}}\s*,(?:\s*\w*\d\w*\s*,)*?\s*{last})\s*,\s*(?=\w)",
            "",
            text,
            flags=re.IGNORECASE,
        )
    joined = f" {' '.join(asked)} "
    asked_lines = {" ".join(line.split()) for line in question.split("\n") if len(_words(line)) >= 2}
    kept = []
    for line in text.split("\n"):
        if " ".join(line.split()) in asked_lines:
            continue
        sentences = re.split(r"(?<=[.!?:])(\s+)", line)
        for index in range(0, len(sentences), 2):
            words = _words(sentences[index])
            if len(words) >= 4 and f" {' '.join(words)} " in joined:
                sentences[index] = ""
        kept.append("".join(sentences))
    return "\n".join(kept)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


_SENTENCE_WORDS = 6


def loops(text: str) -> bool:
    """Does the text end in a loop: the same words, at least four times in a row (three, of six or more), and nothing after?"""
    words = _words(text)[-1200:]
    # A cut may have left the last word unfinished; where in its turn the loop was cut doesn't matter.
    for tail in (words, words[:-1]):
        for period in range(1, len(tail) // 3 + 1):
            last, turns = tail[-period:], 3 if period >= _SENTENCE_WORDS else 4
            if all(tail[-period * (turn + 1) : -period * turn] == last for turn in range(1, turns)):
                return True
    lines = [line.strip().casefold() for line in text.splitlines() if line.strip()]
    return any(len(line) > 3 and lines.count(line) >= 6 for line in set(lines[-3:]))
