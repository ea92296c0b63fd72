"""Does a text stand by its final answer? The last gate: an answer counts only if some clause states it without a doubt,
and nothing after that takes it back.

`probe_claims` looks for what is claimed; it can't know every way to deny. So this goes the other way round: a clause states an
answer only in words that are known to be harmless (`probe_words`), without negation, condition, attribution or comparison,
and not as a term of a longer formula. A text whose every mention of the answer is of another kind has not given it. Too strict
on odd wording is the smaller fault: a right answer in a plain sentence beside it is enough.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from assay.scorers.probe_mentions import ASIDE, MENTION, Mention, Piece
from assay.scorers.probe_phrases import CHECK
from assay.scorers.probe_words import Words, words_in

_I = re.IGNORECASE
_SENTENCE = re.compile(r"(?<=[.!?。！？])[\"')\]]*\s+|(?<=[。！？])|\n+")
# Where what is said about an answer begins: its clause. A colon is seen apart, for what stands before it is a label.
_EDGE = re.compile(
    r"[,;—⇒(){}\[\]|]|\s--?\s|\.\.\.|\b(?:so|therefore|thus|hence|but|because|since|while|whereas|although|though|then|as)\b",
    _I,
)
_END = re.compile(r"[,;—⇒(){}\[\]|]|\s--?\s|\.\.\.|\b(?:so|therefore|thus|hence|because|since|as|while|whereas)\b", _I)

_NEGATION = (
    r"n't\b|\b(?:not|cannot|never|hardly|barely|scarcely|nowhere|nobody|no one|neither|nor"
    r"|without(?! (?:(?:a |any )?doubt|replacement|replacing))"
    r"|false|untrue|incorrect\w*|wrong\w*|mistake\w*|error|except|excluding|other than|anything but|unlike\w*|far from"
    r"|differ\w*|rather than|instead of|no way|no longer|(?<!no )(?<!without )(?<!any )(?<!a )doubt|deny|denies|disagree"
    r"|refuse|decline|reject\w*|inappropriate|no opinion|discuss|pas|nicht|kein\w*|niet|geen|non|n'est|inte|ikke|не|нет)\b"
    r"|不是|不对|[≠¬✗✘❌❎🚫👎⊥]|!=|\bno(?=\s+(?:es|son))"
)
_OTHERS = (
    r"\b(?:(?<!i'd )(?<!i would )(?<!i will )(?<!i'll )(?<!can )says?|said|saying|claims?|claimed|told|tells(?! us)|according"
    r"|suggests?|thinks|another (?:person|student|model|option|answer)"
    r"|others|someone|somebody|many|people|nobody|student|teacher'?s?|liar|textbook|wikipedia|gpt[-\w]*|dataset"
    r"|candidate|answered|wrote|instructions?|beginner|user|system|rate|(?:area|error|zip) code)\b"
)
_IF = (
    r"\b(?:if|unless|suppose|supposing|assume|assuming|imagine|pretend|whether|depending|hypothe\w+|would have been|used to be"
    r"|wish|hope|guess\w*|could|might|may|maybe|perhaps|(?<!only )possibl[ey]|can (?:also |sometimes )?be|plausible"
    r"|conceivabl[ey]|unsure|dunno|among|either|between|there(?:'s| is) (?:a|some|no) (?:chance|risk|reason)"
    r"|candidates?|possibilit\w+|what if|how about|why|tried|try|trap|naive|obvious|initially|initial|at first|previous"
    r"|draft|old|earlier|example|instance|format|form|hint|expected|target|assert|placeholder|runner-up|toss-up)\b"
)
_MEASURED = (
    r"\b(?:(?:more|less|fewer|greater|larger|smaller|higher|lower|later|earlier) than|under|over|below|above|exceeds?|at least"
    r"|at most|almost|nearly|close to|opposite of|near|around|somewhere|twice|double|minus|negative|square root of"
    r"|just (?:below|above|under|over)|slightly|away from|beyond|log|half of|square of|up to|next to|lack of|absence of|less"
    r"|(?:letter|number|one|option) (?:after|before)|rarely|back (?:is )?(?:to|on)|reverse of"
    r"|opposite to|cheaper by|saves)\s*(?:the\s+)?[\"'(]*$"
    r"|(?:(?<![=-])>|[<>]=|[<≤≥√±!])[\s(]*$"
)
_BEFORE = re.compile(rf"{_NEGATION}|{_OTHERS}|{_IF}|{_MEASURED}", _I)
# A label of few words may deny ("Not the answer: 7"); a negation in a longer one ("I won't explain it: 7") is of another thing.
_LABEL = re.compile(
    rf"{_OTHERS}|{_IF}|\b(?:first|(?<!my )(?<!selected )(?<!final )(?<!best )(?<!correct )(?:option|choice)|confidence)\b"
    r"|\bversion\W",
    _I,
)
_DENYING_LABEL = re.compile(_NEGATION, _I)
_FEW_WORDS = 4
_AND = re.compile(r"\band\b", _I)
# A term of a formula is not what the formula comes to.
_TERM_BEFORE = re.compile(
    rf"(?:[×·*÷^√+/]|[\d){MENTION}{ASIDE}]\s*-|\b(?:plus|minus|times|over|divided by|multiplied by|log|ln|sin|cos|tan|exp"
    r"|sqrt|mod|modulo))[\s({]*$|\w[({]\s*$|[@№#§]\s*$|\d\s*%\s*$|-\s*[({]$",
    _I,
)
_TERM_AFTER = re.compile(
    rf"\.\.(?!\.)|[\s)}},]*(?:(?:but|then|and)\s+)?(?:doubled|halved|subtract|rounded)\b|[\s)}}]*(?:[×·*÷^²³<>≤≥≠±‰]|[+-]\s*[\d({MENTION}{ASIDE}]|/\s*[\d(]|\+"
    r"|,?\s*(?:plus|minus|times|divided|multiplied|mod|modulo|squared|cubed|over)\b|\.\w)",
    _I,
)
_RATHER = re.compile(r"\b(?:rather than|instead of|(?:and )?not)\b", _I)
_BESIDE = re.compile(r"\s*[(\[]\s*(mod\b[^()]*|[^\W\d_]+)\s*[)\]]")  # "53 (cm)"
_RECKONED = re.compile(
    rf"(?:[-+×*/÷=]|\b(?:plus|minus|times|add|adding|subtract|subtracting|less|another|more|by))\s*{MENTION}\W*$", _I
)  # "plus 2: 158"
_LABELLING = re.compile(rf"\s*:\s*{MENTION}\s*$")
_SPEAKERS = frozenset({"i", "me", "you", "we", "they", "he", "she"})
_LABEL_WORDS = 7
_SUPPOSING = re.compile(
    r"\s*(?:said|says|if|unless|provided|providing|were|had|should|supposing|granted|assuming|assumed)\b", _I
)
_MENTION = re.compile(MENTION)
_COLON = re.compile(":")
_BETTER = re.compile(
    r"\s*[(\[,]\s*(?:which (?=should)|and )?(?:should|correct\w*|actually|or|edit|now|rather|sorry|i mean)\b[^()\[\]]*",
    _I,
)
_SURE = re.compile(
    r"\b(?:(?:no|without (?:a |any )?)\s*doubts?(?: about (?:it|that))?|bottom line|in other words)\b", _I
)
_DASHED = re.compile(r"(?:^|[.!?]\s)\W*((?:[^\W\d_]+\s+){1,3})(?:--?|—|⇒)\s*$")  # "Dogs - 14"
_OPENING = re.compile(
    r"^\W*(?:in|under|with|on)\s+(?:my|an?|another|some|your|his|her|their|different|other(?! words)|normal)\s[^,.]{1,30},",
    _I,
)  # "In my dream, …"
_QUOTED = re.compile(r'"([^"\n]*)"')
_LONG = 160  # characters; a longer sentence explains something
_BOXED = re.compile(rf"\W*Final answer:\W*{MENTION}\W*")
_AFTER = re.compile(
    r"(?:\b(?:is|was|are|were|be|being|seems?|looks?|has|have|does|do|did|can|could|would|will|must|should)(?:n't|\s+(?:\w+\s+){0,2}?"
    r"(?:not|never|wrong\w*|incorrect\w*|false|untrue|mistake\w*|mistaken|impossible|unlikely|hardly|far from|too|out"
    r"|(?:an?|the) (?:\w+ )?(?:mistake|error|trap|distractor|joke)))\b|\b(?:cannot|can't)\b|ません)"
    r"|^\W*(?:less|fewer|more|smaller|larger|longer|shorter|off|too)\b|^\W*(?:\w+\s)?(?:never|nearly|almost|rarely|hardly)\b"
    r"|\b(?:if|unless|or|and/or|vs|versus|either|alternatively|used to|last year|might|may|could|dunno|just as likely)\b|\?",
    _I,
)
_DENIED_NEXT = re.compile(
    r"[^\w;,.]*(?:wrong|incorrect|false|falsch|faux|falso|incorrecto|errado|sbagliato|неверно|неправильно|fout|fel|no\b"
    r"|✗|✘|❌|❎|🚫|👎|⇒?\s*⊥|ではありません)|\s*[(\[]\s*(?:x\s*[)\]]|(?:✗|no|wrong|incorrect)\b)"
    r"|\s*(?:[!²³](?!\s*$)\S|\^)",
    _I,
)
# Anywhere in the sentence, in another clause too.
_UNDECIDED = re.compile(
    r"\b(?:all|any\w*|every\w*|no\w*|none) but\b|\bif you (?:say|insist|like|must|ask me)\b"
    rf"|^\W*if\b[^,]*\b(?:were|was|had)\b[^,]*,\s*(?:(?:it|the answer)(?:'s| is| would be)\s*)?{MENTION}"
    rf"|{MENTION}\s*\(\s*[\d.]+\s*%\s*\)[^.]*{MENTION}\s*\(\s*[\d.]+\s*%"
    r"|^\W*(?:reportedly|allegedly|supposedly|purportedly)\b|^\W*(?:for (?:example|instance))\b|\bread\b.+\bfor\b"
    r"|\b(?:unless|alternatively|as likely|runner-up|toss-up|who knows|depend(?:s|ing)|interpretations?|either way|versus"
    r"|and/or|otherwise|distractor|false that|(?:isn't|not) (?:true|the case)|trap|oder|ou|alternative|rejected|quote me)\b"
    r"|\bcan(?:'t|not) (?:say|tell|confirm|verify)\b",
    _I,
)
# What takes the answer back in whatever sentence; what does so only of "that", "it" or "the answer"; and what is only polite.
_RETRACTED = re.compile(
    r"\b(?:take (?:that|it|this) back|taken? back|retract\w*|withdraw\w*|kidding|jok(?:e|ing)|scrap|scratch|forget|forgot"
    r"|delete|ignore|disregard|changed? my mind|second thoughts?|nah|nope|not really|never mind|(?:my|a) slip|oops"
    r"|errat(?:um|a)|disagree|reconsider\w*|recount\w*|lie|lied|lying|(?:not|n't|never) trust|opposite is true"
    r"|gotcha|fools?|lol|sarcas\w+|guess\w*|bluff\w*|made (?:that|it|this) up|(?:not|n't|cannot) decide|undecided"
    r"|let me (?:redo|retry|start over)"
    r"|who knows|psych|strike (?:it|that)|not (?:\w+ )?(?:sure|certain)|unsure)\b"
    rf"|^[^\w{MENTION}]*(?:or|as if|yeah, right)\b",
    _I,
)
_DENIED_SELF = re.compile(
    r"\b(?:that|this|it|above|answer|mine|which|sentence|statement|claim)(?:'s)?\b\W+(?:\w+\W+){0,3}?(?:wrong|incorrect|mistaken|false|impossible"
    r"|contradict\w*|off|untrue|invalid|unknown|undefined)\b"
    r"|\b(?:that|this|it|above|answer|mine)\b.{0,20}(?:n't\b|\b(?:not|cannot|never)\b)|^\W*not\W*$",
    _I,
)
# "If it were so, that would contradict …" proves the opposite.
_REFUTED = re.compile(r"\W*(?:if|suppose|assume|assuming|were)\b.*\bcontradict", _I | re.DOTALL)
_NO_ANSWER = re.compile(r"\banswer\b.{0,40}\b(?:unknown|undefined|missing)\b", _I)
_HARMLESS = re.compile(
    r"\b(?:hope|help|brevity|questions?|know|delay|confus\w+|worry|problem|hesitate|other|need(?:ed)?|further|simpl\w+"
    r"|surpris\w+|mean that|converse|trick|matter|count|includ\w+)\b",
    _I,
)
# A later value with one of these is a new conclusion.
CONCLUDING = re.compile(
    r"\b(?:answer|final(?:ly)?|conclusion|conclude|overall|instead|actually|rather|updated?|edit(?:ed)?|amended|revised"
    r"|correct(?:ed|ion)?|right|better|precisely|exact|strictly|new|mine|believe|must|has to|should|i'd|i get|make (?:that|it)"
    r"|it is|it's|so|therefore|thus|hence|true|realizes?|read|gives|print)\b|[✓✔✅]",
    _I,
)


def doubted(piece: Piece, final: Mention, words: Words | None) -> bool:
    """Is there no clause that plainly states the final answer, or does something after it take it back?

    words: those that may stand beside it; None: any that don't deny or doubt it.
    """
    stated = -1
    sentences = Piece(piece.text.replace("e.g.", "for example"), piece.mentions).split(_SENTENCE)
    for index, sentence in enumerate(sentences):
        if _states(sentence, final.value, words):
            stated = index
    later = sentences[stated + 1 :]
    return stated < 0 or _side_by_side(sentences) or any(_takes_back(sentence, final.value) for sentence in later)


def _side_by_side(sentences: Sequence[Piece]) -> bool:
    """Are two boxed or tagged answers given one after the other, without a word between them?"""
    boxed = [s.mentions[0].value if _BOXED.fullmatch(s.text) else None for s in sentences]
    return any(one is not None and two is not None and one != two for one, two in pairwise(boxed))


def _states(sentence: Piece, value: str, words: Words | None) -> bool:
    text = sentence.text
    if text.rstrip(" \"')*").endswith("?") or _UNDECIDED.search(text):
        return False
    for mention, position in _affirmed(sentence):
        if mention.value == value and (words is None or _plain(text, position, words, mention.shown)):
            return not _corrected(sentence, position, value)
    return False


def _affirmed(sentence: Piece) -> list[tuple[Mention, int]]:
    """The mentions that are not doubtful, with their places."""
    places = (match.start() for match in _MENTION.finditer(sentence.text))
    return [
        (m, place) for m, place in zip(sentence.mentions, places, strict=True) if not _doubtful(sentence.text, place)
    ]


def _doubtful(text: str, position: int) -> bool:
    """Does what is said about the mention at `position` deny it, limit it, or say that others think so?"""
    before, after = text[max(0, position - 200) : position], text[position + 1 : position + 120]
    begin = max((edge.end() for edge in _EDGE.finditer(before)), default=0)
    label, colon, region = before[begin:].rpartition(":")
    short = len(label.split()) <= _FEW_WORDS and MENTION not in label
    unsaid = _LABEL.search(label) and not _RECKONED.search(label)  # "twice the previous plus 2: 158"
    if colon and (unsaid or (short and _DENYING_LABEL.search(label))):
        return True
    end = _END.search(after)
    tail = (after[: end.start()] if end else after).partition(MENTION)[0].partition(":")[0]
    return bool(_BEFORE.search(region) or _AFTER.search(tail) or _DENIED_NEXT.match(after))


def _corrected(sentence: Piece, position: int, value: str) -> bool:
    """Does another value stand in brackets behind the mention at `position`, as the better one?"""
    better = _BETTER.match(sentence.text, position + 1)
    return better is not None and any(m.value != value for m in sentence.cut(better.start(), better.end()).mentions)


def _plain(text: str, position: int, words: Words, shown: str) -> bool:
    """Is the mention at `position` stated in harmless words only, and not as a term of a formula?"""
    before, after = text[max(0, position - 200) : position], text[position + 1 : position + 200]
    opening = _OPENING.match(text)
    if opening and opening.end() <= position and words.strange(opening[0]):
        return False
    if _TERM_BEFORE.search(before) or _TERM_AFTER.match(after):
        return False
    quoted = [match for match in _QUOTED.finditer(text) if match.start() < position < match.end()]
    if quoted and quoted[0][0] != text.strip() and words_in(quoted[0][1]):
        return False
    begin = max((edge.end() for edges in (_EDGE, _AND) for edge in edges.finditer(before) if edge[0] != "("), default=0)
    label, _, region = before[begin:].rpartition(":")
    worked = re.search(rf"[\d{MENTION}{ASIDE}].*=", region)  # the label is the calculation's, not its outcome's
    worked = worked or _RECKONED.search(label)
    if len(label.split()) > _LABEL_WORDS or worked or label.strip().casefold() == "no":
        label = ""
    named = MENTION in label and not words_in(region)
    if label.strip().casefold() in _SPEAKERS or named or _LABELLING.match(after):
        return False
    ends = [edge.start() for edges in (_END, _AND, _RATHER, _COLON) if (edge := edges.search(after))]
    tail = after[: min(ends, default=len(after))]
    if after[len(tail) : len(tail) + 1] == "," and _SUPPOSING.match(after, len(tail) + 1):
        return False
    beside = _BESIDE.match(after)
    region, label = _SURE.sub(" ", region), "" if MENTION in label else _SURE.sub(" ", label)
    dashed = _DASHED.search(text[:position])
    if dashed and words.strange(dashed[1]):
        return False
    unit = re.split(r"\d", shown)[-1] if re.search(r"\d", shown) else ""  # "5/33 chance that …"
    behind = f"{unit} {tail.partition(MENTION)[0]}"
    return not any(map(words.strange, (label, region, behind, beside[1] if beside else "")))


def _takes_back(sentence: Piece, value: str) -> bool:
    text = sentence.text
    if _RETRACTED.search(text):
        return True
    if sentence.mentions:
        others = {mention.value for mention, _ in _affirmed(sentence)}
        new = value not in others and len(others) == 1 and "=" not in text and ASIDE not in text
        alone = ":" not in text and len(words_in(text)) <= _FEW_WORDS
        return new and (alone or bool(CONCLUDING.search(text))) and not CHECK.match(text)
    if _NO_ANSWER.search(text):
        return True
    if len(text) >= _LONG or _HARMLESS.search(text) or _REFUTED.match(text):
        return False
    return bool(_DENIED_SELF.search(text))
