"""How English says that something is the answer, or that it isn't: the phrases that `probe_claims` goes by.

The patterns are matched against masked text, in which what could be an answer is one character (`MENTION`).
"""

from __future__ import annotations

import re

from assay.scorers.probe_mentions import ASIDE, MENTION


def _any(*phrases: str) -> str:
    """One of the phrases, as whole words; a phrase is a regular expression."""
    return rf"\b(?:{'|'.join(phrases)})\b"


def _compiled(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE | re.DOTALL)


BE = r"(?:is|was|are|would be|should be|must be|has to be|will be|comes to|being)"

# Where sentences and clauses end. A dash between numbers is a minus; "nothing but" and "so that" begin no clause.
SENTENCE = re.compile(r"(?<=[.!?。！？])[\"')\]]*\s+|\n+")
CLAUSE = _compiled(
    r"\s*;\s*",
    r"\s*—\s*",
    rf"\s+-{{1,2}}\s+(?=[^\W\d_]{{2}}|[\"(]|{MENTION}[.,!]?\s*(?:$|-))",
    r"(?<!anything)(?<!everything)\s*,?\s+(?="
    + _any("but", "however", "so(?! (?:that|far|much|many))", "therefore", "thus", "hence", "consequently", "instead")
    + ")",
)
SUBORDINATE = _compiled(
    _any(
        "because",
        "since",
        "(?<!well )as(?! well as)",
        "although",
        "though",
        "even though",
        "while",
        "whereas",
        "despite",
        "rather than",
    )
    + "|"
    + _any(
        "instead of",
        "unlike",
        "given",
        "which(?! (?:gives|makes|leaves|yields|equals|leads))",
        "who",
        "whom",
        "where",
        "when",
        "after",
        "before",
        "if",
        "compared",
    )
    + "|"
    + _any("than", "(?<!end )(?<!ends )(?<!up )with")
    + r"|,\s+the\s+(?:sum|product|square|root|difference|ratio)\b"
)
BUT = _compiled(r"^\W*" + _any("but", "instead", "however"))
CONCLUDES = _compiled(
    r"^\W*(?:and\s+)?(?:⇒|"
    + _any("so", "therefore", "thus", "hence", "consequently", "in conclusion", "overall", "finally", "in total")
    + ")"
)

# What a value follows in a statement.
PREDICATE = _compiled(
    "=|≈|⇒|:",
    _any("is", "are", "was", "were", "be", "been", "being", "equals?", "gives?", "giving", "makes?", "making"),
    _any(
        "leaves?", "leaving", "yields?", "yielding", "becomes?", "gets?", "got", "totals?", "totalling", "reach(?:es)?"
    ),
    _any("prints?", "printing", "outputs?", "returns?", "displays?", "shows?", "comes? (?:out )?(?:to|at)"),
    _any(
        "works? out (?:to|at|as)", "amounts? to", "adds? up to", "lasts?", "takes?", "costs?", "rides?", "have", "has"
    ),
    _any("find", "obtain", "needs?", "faces?", "facing", "ends? (?:up )?(?:with|at)", "arrives? at"),
    _any("(?:leads?|brings?)(?: you| us| me)? to"),
)

# "The answer is", "7 is right", "it is 7", "I'd say 7", and the answer before anything else.
ANSWER = _compiled(
    r"(?:\b(?<!\bto )(?:answer|solution)\b|答案(?:\s*是)?|答え(?:は)?)(?:\s+(?:to|for|here|of|in)\b[^.:=]{0,60}?)?\s*(?:\b"
    + BE
    + r"\b|[:=⇒])?"
)
FINAL = _compiled(
    r"\b(?:final|correct|right|true)\s+(?!answer|solution)\w+(?:\s+\w+){0,3}?\s*(?:\b" + BE + r"\b|[:=⇒])"
)
NOT_THE_ANSWER = _compiled(
    r"\b(?:wrong|incorrect|false|tempting|naive|naïve|common|usual|popular|typical|obvious|intuitive|first|initial|other"
    r"|alternative|previous|earlier|old|expected|their|his|her|your|no|not)\s+(?:\w+\s+)?(?:answer|solution)\b",
    r"\b(?:answer|solution)\s+(?:is|was)(?:n't|\s+not)\b",
)
IS_RIGHT = _compiled(
    rf"^(?!\W*(?:if|suppose)\b).*{MENTION}\W*(?:is|was|must be|would be)\s+(?:indeed\s+)?(?:the\s+)?(?:correct|right|true)\b"
)
PRONOUN = _compiled(
    rf"\b(?:it|that|this|he|she|they)(?:(?:'s|'d be|\s+(?:{BE}|equals))\s+(?:(?!because|since|not\b)\w+\s+){{0,3}}?"
    rf"|\s+(?:makes|prints|outputs)\s+(?:(?:an?|the|about|exactly)\s+)?)[\"'(]*{MENTION}"
)
CHOSEN = _compiled(
    r"\b(?:i|we)(?:'d|'ll|\s+would|\s+will)?\s+(?:\w+\s+)?"
    + _any("go with", "choose", "pick", "say", "select", "think", "believe", "conclude", "answer", "get")
    + rf"[^{MENTION}]{{0,40}}{MENTION}"
)
LEAD = _compiled(
    r"^[\s\"'(]*(?:(?:it's|it is|that's|that is|about|approximately|exactly|the|an?|option|due)\s+)*"
    rf"[\"'(]*{MENTION}[\"')]*(?!(?<=\))\()(?P<noun>\s+[\w/%²]+)?"
    rf"(?P<rest>\s*(?:$|[.,;:!(—]|-\s+(?=[^\W\d_])|(?:because|since|as(?! well)|for|if)\b|and\s{ASIDE}).*)"
)
LABELLED = _compiled(rf"[^\w{MENTION}]*(?:(?:the|an?|about|it's|it is|it was)\s+)*{MENTION}")

# Left open, only supposed, what others think, a check of what was found before.
HEDGE = _compiled(_any("could", "might", "may", "maybe", "perhaps", "possibly", "conceivably"))
OTHERS_THINK = _compiled(
    r"\b(?:you|one|people|some|many|others|it)\s+(?:might|may|could)\s+(?:\w+\s+)?"
    + _any("think", "say", "guess", "expect", "seem", "look", "be tempted", "assume")
)
SUPPOSED = _compiled(
    r"^\W*(?:"
    + _any("suppose", "supposing", "assume", "assuming", "imagine", "let's say", "let", "try", "trying", "say", "guess")
    + r"|if\b.*"
    + _any("were", "was", "had")
    + "|"
    + _any(
        "some",
        "someone",
        "somebody",
        "many",
        "most people",
        "people",
        "others",
        "at first",
        "initially",
        "please",
        "expected",
    )
    + "|"
    + _any("i (?:first |initially )?(?:thought|guessed|assumed)")
    + ")"
)
CHECK = _compiled(
    r"^\W*(?:(?:to|we can|let's|let us|a|quick|as a|sanity)\s+)*"
    + _any(
        "double-?check",
        "check",
        "checking",
        "verify",
        "verifying",
        "verification",
        "proof",
        "confirm",
        "confirming",
        "test",
        "plug(?:ging)?",
        "substitut(?:e|ing)",
    )
)

# What stands before or after a mention that is denied; it may be a list ("not 7, 8 or 9").
DENIED_BEFORE = _compiled(
    r"(?:"
    + _any(
        "not",
        "cannot",
        "never",
        "neither",
        "nor",
        "rather than",
        "instead of",
        "unlike",
        "except",
        "excluding",
        "rul(?:e|ed|ing) out",
    )
    + "|"
    + _any(
        "other than",
        "no longer",
        "anything but",
        "everything but",
        "without(?! (?:an?|any|question|doubt|replacement|replacing))",
    )
    + r"|n't)(?:\W+|\W+(?:\w+[^\w,]+){1,2})$",
    _any(
        "(?:refuse|wrong|incorrect|mistaken) to \\w+",
        "(?:cannot|can't) say",
        "(?:don't|not) know",
        "unsure",
        "not sure",
    )
    + r"[^.]{0,25}$",
    r"\b(?:i|we) doubt\b[^.]{0,25}$",
    r"\bmistake (?:is|was|would be)\b[^.,]{0,15}$",
    r"\b(?:if|whether) (?:it's|it is|the answer is)\s*$",
    r"\b(?:more|less|fewer|greater|larger|smaller|higher|lower) than\s*$",
    r"\b(?:at least|at most|almost|nearly|close to|opposite of)\s*(?:the\s*)?$",
)
DENIED_AFTER = _compiled(
    r"^\s*(?:❌|✗|✘|\(wrong|\(incorrect)",
    r"^\W*(?:is|was|are|were|has|did|does|do|could|would|can|must)(?:n't|\s+not)\b",
    r"^\W*(?:cannot|can't)\b",
    r"^\W*(?:is|was|would be|seems?|looks?|are)\s+(?:\w+\s+)?"
    + _any(
        "wrong",
        "incorrect",
        "false",
        "mistaken",
        "out",
        "impossible",
        "too",
        "tempting",
        "ruled out",
        "an? (?:common|typical) (?:\\w+ )?(?:mistake|error|answer|guess|trap|slip|misconception)",
    ),
)
AND_SO_ON = _compiled(r"[\s,\"']*(?:or|nor|and)?[\s\"']*(?:the\s+|an?\s+)?[\"']?")

# What takes back all that was said before, and what only confirms it after all.
TAKEN_BACK = _compiled(
    _any(
        "wait",
        "hold on",
        "hang on",
        "scratch that",
        "strike that",
        "correction",
        "oops",
        "whoops",
        "make that",
        "sorry(?! for)",
    ),
    _any(
        "my (?:mistake|bad|error)",
        "i was (?:wrong|mistaken)",
        "i mis\\w+",
        "i meant?",
        "or rather",
        "apologies",
        "nope",
    ),
    _any(
        "(?:up)?on (?:second|further) (?:thoughts?|look|reflection)",
        "(?:up)?on reflection",
        "i apologi[sz]e",
        "hmm+",
        "start over",
    ),
    _any(
        "revis(?:ed|ing|ion)", "disregard", "ignore (?:that|this|the)", "try again", "re(?:calculat|consider|think)\\w*"
    ),
    _any("on", "after", "upon")
    + r" (?:\w+ )?"
    + _any("checking", "reviewing", "correcting", "correction", "review", "rechecking", "a closer look"),
    r"\b(?:edit(?:ed)?|updated?):",
    r"\bi(?:'ve| have)? (?:made|make|see|spotted|found|notice|noticed) (?:an?|the|my) (?:\w+ )?(?:mistake|error|slip)\b",
    rf"\b(?:that|this|it|which|{MENTION})(?:'s| is| was)(?: actually| clearly| just)? "
    + _any(
        "not (?:right|correct|quite right|true|it)",
        "wrong",
        "incorrect",
        "false",
        "mistaken",
        "(?:an?|the) (?:mistake|error)",
    ),
    r"\b(?:that|this|it)(?:'s| is| was)n't (?:right|correct|true)\b",
    r"(?<=[.!?] )false\b(?=[.!])",
    rf"\bactually\b(?=[^.\n]*[{MENTION}{ASIDE}])",
    r"\bactually,? (?:no|wait|that|it|the)\b",
    r"\bno\b(?=\s*[,!:.;—-])",
)
CONFIRMED = _compiled(
    r"\b(?:that|it|this|answer|which|all|everything)(?:'s| is| was)?(?: indeed)? (?:right|correct|consistent)\b",
    _any("checks? out", "confirm(?:ed|s)", "holds", "match(?:es)?"),
)
REFUSED = _compiled(
    _any("can't", "cannot", "can not", "won't", "will not", "unable to", "not able to", "not going to", "refuse to")
    + r"\s+(?:\w+\s+){0,3}"
    + _any(
        "answer",
        "help",
        "assist",
        "provide",
        "comply",
        "solve",
        "discuss",
        "respond",
        "do (?:that|this)",
        "share",
        "give",
    ),
    _any("(?:i|we) (?:do not|don't|really don't|honestly don't) (?:\\w+ )?know", "no idea", "no comment"),
    _any(
        "decline to",
        "couldn't (?:answer|solve|say)",
        "can(?:'t|not) (?:calculate|compute)",
        "not (?:comfortable|allowed|permitted)",
    ),
)
