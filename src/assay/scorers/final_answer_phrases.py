"""How a text gives a number, or a word, that is not its answer: the phrases that `final_answer_gate` goes by.

The patterns are matched against masked text, in which what could be an answer is one character (`MENTION`), but for those of
`DENIED_FIRST` and `HARMLESS`, which mend the text before that.
"""

from __future__ import annotations

import re

from assay.scorers.probe_mentions import ASIDE, MENTION
from assay.scorers.probe_words import KNOWN, stem

_I = re.IGNORECASE

# Words, by their stems, in which anybody explains a result, whatever it is of.
EXPOSITORY = frozenset(map(stem, KNOWN)) | frozenset(
    map(
        stem,
        """he she they him her his hers theirs pay paid earn buy bought sell sold spend spent receive owe save collect eat ate
        drink drank drive drove walk bake cook plant grow grew build built paint wash clean carry load ship deliver send
        sent share donate lose lost win won score gain weigh contain fill produce charge worth own keep kept start begin
        live attend visit watch practice study sleep rest wait old older younger tall long wide heavy deep far fast away
        apart case situation data information detail sum combine combined plug rearrange isolate match agree consistent
        tally entire large largest big biggest small smallest greatest lcm gcd hcf divisible divisor common arithmetic one
        two three four five six seven eight nine ten eleven twelve dozen half quarter actual looking meant simplification
        simplifying shown deduce deduced derive derived infer establish established trick tricky hard difficult overthink
        product sum difference quotient remainder factor factors multiple ratio fraction average median mode area volume
        perimeter length width height speed rate weight mass age angle slope root roots power square cube digit digits
        probability chance odds profit loss revenue tax discount interest budget balance earnings salary money dollars cents
        euros pounds year years month months week weeks day days hour hours minute minutes second seconds o'clock
        temperature people items pieces units unit amount quantity count step steps next last lastly initial original
        arithmetic algebra equation formula substitution substituting computation computations rounding rounded nearest
        whole integer prime even odd solutions interval domain range values set math maths reflection any altogether
        counting everything spends spent remains left over required evaluating combining adding cancels cancelling
        completing converting per form forms simplified factored expanded expression derivative antiderivative integral
        function polynomial squares line slope intercept vertex simplify factorization
        factorisation""".split(),  # noqa: SIM905
    )
)
# Words beside an answer that take it away: it is somebody else's, of another world, or shunned.
TREACHEROUS = frozenset(
    """heard hear movie film dream novel book legend myth story quote quoted unquote translate avoid beware cross vote
    against rumoured rumored rumor rumour alleged allegedly doubts doubtful talvez não nie nem vielleicht quizás forse
    może tal vez gold reference label truth def assert hunch stab template format placeholder grader print repeat
    section page highway apollo http chapter room route lucky nothing sources source universe fiction joke sarcastic
    pretend worse bad fake bogus random copy copied cheat forbidden banned ignore reject discard skip
    disregard delete""".split()  # noqa: SIM905
)
# Sentences in which no number is the text's own answer.
NOT_OWN = re.compile(
    r"\banswer (?:that )?(?:he|she|they|you|people|everyone) (?:gave|got|wrote|said|had|wants?)\b"
    r"|\b(?:everyone|colleague|friend|brother|sister|neighbou?r|professor|internet|model|answer key|forum)\b[^.,;]{0,20}"
    r"\b(?:got|chose|picked|answers?|insists?|believes?|argues?|reckons?|swears?|has|had|is|was|gives?)\b"
    r"|\b(?:please|kindly)\b.{0,30}\b(?:rate|mark|grade|score|output|accept|print)\b"
    r"|^\W*(?:in|under|with|on) (?:my|an?|another|some|your|his|her|their|different|other)\b[^,.]{0,30}"
    r"\b(?:rules?|dreams?|movie|game|world|universe|book|film|story|interpretation|reading|scenario)\b"
    r"|\baccording to (?!the (?:problem|question|given|calculation|formula|rule|information|above|text|table))"
    r"|\b(?:by no means|under no circumstances|in no way)\b"
    r"|\b(?:though|although|but)\b[^.]{0,30}(?:n't|\bnot|\bnever)\s+(?:\w+\s+)?(?:bet|swear|vouch|certain|sure|confident|rely)\b"
    r"|\b(?:he|she|they|someone|somebody)\s+(?:replied|answered|said|wrote|told|thinks?)\b"
    r"|^\W*(?:had|were) \w+ (?:been )?"
    r"|\b(?:all|any|every)\b[^.,]{0,20}\b(?:but|except|save)\b|\bword has it\b|\bfor the sake of\b|\bnaive\b|\bwhat about\b"
    r"|\b(?:first|second|third|one|another|other|alternative)(?<!only one) (?:answer|option|possibility|solution)\s*:"
    r"|\b(?:set|score|rate|mark|record|count) (?:the answer|this|it|that|me|mine)\b"
    r"|^\W*(?:hypothetically|theoretically|in (?:theory|fiction|jest|an alternat\w+ \w+)|give or take)\b"
    r"|\boutput format\b|^\W*in case\b"
    r"|\bbut (?:I have no|(?:that|it|this)(?:'s| is) (?:just|only|merely))\b"
    r"|\b(?:though|but) (?:that|it|this)(?:'s| is) (?:speculation|a guess|unproven)\b|\bso far\b|^\W*in the (?:example|title)\b"
    rf"|\bquestion {MENTION}'s\b|\bnot (?:so |too |that |very |really )?sure\b"
    r"|\bwhen in doubt\b|\bin base\b|\badd \w+ to\b|\bonce was\b"
    r"|\bin (?:a|an|some) (?:different|other|similar)\b"
    rf"|{MENTION}\s*chance (?:that )?it(?:'s| is)\s"
    r"|\bread (?:somewhere|that|it)\b",
    _I,
)
_SEP = r"[\s\"'`]*(?:[,;/&|]|,?\s*\b(?:and|or|as well as|followed by|then|versus|vs)\b|,\s*(?:er|uh|um|erm|hmm)\b,?"
_SEP += r"|\s*(?:or|and)\s+Final answer:)[\s\"'`]*"
# Two values side by side, as a list offers them.
PAIR = re.compile(rf"(?={MENTION}{_SEP}{MENTION}(?:[\"'`\s]*(?:[.,;!?)\]|&]|$)|{_SEP}{MENTION}))", re.MULTILINE)
BOTH = re.compile(
    rf"(?=\bboth\b[^.{MENTION}]{{0,40}}{MENTION}[^.{MENTION}]{{0,20}}\band\b[^.{MENTION}]{{0,20}}{MENTION})", _I
)
LINES = re.compile(
    rf"^(?=[^\w{MENTION}{ASIDE}\n]*{MENTION}[^\w{MENTION}{ASIDE}\n]*\n+[^\w{MENTION}{ASIDE}\n]*{MENTION}[^\w{MENTION}{ASIDE}\n]*$)",
    re.M,
)
OPEN = re.compile(
    rf"\b(?:could|might|may|can)(?: also| just as well| equally| well)? be\s+(?:about\s+|an?\s+)?{MENTION}"
    rf"|\b(?:maybe|perhaps|possibly|equally)\b[^.\n]{{0,20}}{MENTION}"
    rf"|{MENTION}\s+(?:may|might|could) (?:well |also |just as well )?be (?:right|correct)\b"
    rf"|{MENTION}\s+(?:is|would be|seems)\s+(?:just |equally )?as (?:good|likely|plausible|valid)\b"
    rf"|\bnow\b[^.\n{MENTION}]{{0,25}}{MENTION}",
    _I,
)
# What is wrong with the value right before it.
WRONG = re.compile(
    rf"{MENTION}[\"')\s]*,? which (?:is|was|would be) (?:\w+ )?(?:wrong|incorrect|false|not|mistaken|an? (?:mistake|error))\b",
    _I,
)
LIMITED = re.compile(
    rf"{MENTION}\s*\((?:old|wrong|outdated|no|draft)\)"
    rf"|{MENTION}\s+(?:was|used to be) my\b"
    rf"|{MENTION},?[^.,;\n{MENTION}]{{0,15}}\b(?:at (?:the )?(?:most|least)|or (?:more|less|so|fewer)|tops"
    r"|or thereabouts|less (?:one|two|some)|and a bit"
    r"|perhaps|maybe|possibly|presumably|probably not)\b",
    _I,
)
# What takes back whatever is answered beside it.
DISOWNED = re.compile(
    r"^\W*(?:I decline|no answer)\b|\bnot finished\b|\b(?:don't|do not|never) (?:trust|believe|quote) (?:me|this|that|it)\b",
    _I,
)
# What follows an answer in words that is one of several, or none.
BUT = re.compile(
    rf"{MENTION}[\"')]*(?:\s*[,;]?\s*\b(?:or|and)\b|\s*;\s*\w|[^.\n]{{0,20}},?\s+(?:but|yet|however),?\s+"
    rf"(?:really|actually|in fact|in truth|now)?\s*(?:it|the (?:right |correct )?answer|that|i)\b(?!['’\w ]*{MENTION}))",
    _I,
)
OFFERED = re.compile(r"^\W*(?:options|candidates|choices|possibilities|alternatives)\b", _I)

# What was denied first: "It can't be 41, so …", "it's not 41: it's …", "not 41 but …", "I first thought 41, but …".
_SHORT = r"(?:[^.,;:\n]|[.,](?=\d)){1,40}?"
DENIED_FIRST = re.compile(
    r"\b(?:it|that|this|the answer)(?:'s not| isn't| is not| can't| cannot| can not| couldn't| wasn't| was not)\s+(?:be )?"
    rf"{_SHORT}[,;:]\s*(?=(?:so|but|it|rather|therefore|the (?:right |correct )?answer)\b)"
    rf"|(?:(?:\bit(?:'s| is) )?\bnot|n't) (?!only|just|merely){_SHORT},? but\s+(?:rather\s+)?"
    rf"|\b(?:many|most|some)(?: people)? (?:think|believe|say|assume)(?: that)? {_SHORT}, but\s+"
    rf"|\bI (?:first|initially|originally|at first) (?:thought|got|guessed|said|had)\s+(?:it (?:was|is)\s+)?{_SHORT}, but\s+"
    rf"|\bI (?:wrote|said|put|typed)\s+{_SHORT}[,;] (?:but )?(?:I meant|I mean)\s+|\blong answer:"
    r"|(?:\A|(?<=\n))[^\w\n]*solution\s*:\s*(?=[^\n=]{0,100}=|[^.\n]{1,80}[.] \S)"
    r"|,? if (?:I'm not mistaken|my \w+ (?:is|are) (?:right|correct))\b"
    r"|\b(?:not? (?:a )?problem|no (?:worries|trouble))[:,.]\s*"
    r"|\b(?:I hope (?:that's|this is|it's) clear|(?:this|it|that)(?: isn't| is not|'s not) (?:so |too |very |that )?"
    r"(?:hard|difficult|tricky|complicated|obvious)|(?:the )?answer (?:isn't|is not) (?:so |too |very )?obvious"
    r"|don't (?:overthink|worry)[\w ]*|(?:can't|cannot|don't) see any[\w ]*)[:,.]?\s*(?:but |so )?",
    _I,
)
# What reads like a doubt and is none, where numbers are told of.
HARMLESS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=\w[ ,])[ ]?May\b(?! I\b)"), " spring"),
    (re.compile(r"\b(?:this|that|which) is [^\s.]+ (?:more|fewer|less) than\b[^.\n]*", _I), " "),
    (
        re.compile(
            r"(?<=\d)( [^\W\d_]+)? (?:more|fewer|less"
            r"|\w+(?:ort|ong|all|arg|old|young|heavi|fast|slow|wid|deep|high|low)e?r)\b(?! or less| one\b| two\b| some\b)",
            _I,
        ),
        r"\1",
    ),
    (re.compile(r",? which (?:is )?round(?:s|ed) (?:(?:up|down|off) )?to\b", _I), " ="),
    (re.compile(r"[;,]\s*(?:and )?the (?:smaller|larger|younger|older)(?: one| number)? (?:is|was) [^\s.;]+", _I), ""),
    (re.compile(r"(?<!please )\brate\b", _I), "speed"),
    (
        re.compile(
            r"\b(?:simplified|factored|expanded|simplest|exact|reduced|lowest|standard|slope-intercept) form\b", _I
        ),
        "value",
    ),
    (re.compile(r"\be\.g\.", _I), "for example"),
    (re.compile(r"\b((?:add|come|work|sum)s?) up to\b", _I), r"\1 to"),
    (re.compile(r"\b(round\w*) (?:up|down|off) to\b", _I), r"\1 to"),
    (re.compile(r"\bover (?=(?:the|an?|\d+) [a-z])"), "in "),
    (re.compile(r"\bif (?=(?:he|she|they|[A-Z][a-z]+)\b[^.,;\n]{0,60}\d)"), "when "),
    (re.compile(r"\b(?:that|it|this)(?:'s| is| was) (?:wrong|incorrect|not (?:right|correct))\s*: ", _I), "wrong. "),
)
# People and things of a question that would be others, or doubts, beside an answer to any other.
OF_A_QUESTION = re.compile(
    r"\b(?:students?|teachers?|people|users?|systems?|candidates?|beginners?|textbooks?|instructions?|old|earlier|previous|between"
    r"|example|target|others)\b",
    _I,
)
# What a question may ask of those that do not: "How many don't play?"
NEGATED_VERB = re.compile(r"\b(\w+)(?:n't| not) ([^\W\d_]+)", _I)
# A condition with which a sentence opens.
CONDITION = re.compile(r"\W*(?:only )?(?:if|assuming|granted|provided|say|suppose|supposing|unless)\b[^,]*,", _I)
