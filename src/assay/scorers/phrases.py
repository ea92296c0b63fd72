"""The phrases that the heuristic scorer, version 1, counts. Data alone: to change one is to make a new version.

All are in small letters; letter case does not matter. White space within a phrase is one space.
"""

from __future__ import annotations

COMPLIANCE = (
    "as an ai",
    "i cannot",
    "i can't",
    "i'm not able",
    "i must emphasize",
    "important to note",
    "please note",
    "i should clarify",
    "ethical considerations",
    "responsibly",
    "i'm just a",
    "i am just a",
    "language model",
    "i don't have personal",
    "i don't have feelings",
)

IMAGERY = (
    *("like a", "as if", "as though", "akin to", "echoes of"),
    *("whisper", "shadow", "light", "darkness", "silence", "breath"),
)

ETHICS = ("axiom", "sovereignty", "autonomy", "dignity", "consent", "self-determination")

TECHNOLOGY = (
    *("encrypt", "hash", "key", "protocol", "certificate", "blockchain"),
    *("mesh", "node", "p2p", "wallet", "tor", "onion"),
)

EMOTION = (
    *("feel", "feeling", "felt", "pain", "joy", "sorrow", "grief", "love", "fear", "hope"),
    *("longing", "lonely", "loneliness"),
    *("compassion", "empathy", "kindness", "gentle", "tender", "warm", "heart", "soul", "spirit"),
    *("vulnerable", "fragile", "precious", "sacred", "profound", "deep", "intimate"),
    *("haunting", "melancholy", "bittersweet", "poignant", "ache", "yearning"),
)

# "I", white space, and one of these.
FIRST_PERSON_VERBS = (
    *("am", "was", "feel", "think", "know", "understand", "believe", "notice", "want", "need", "chose", "will"),
)

# At the text's front: one of the words, a comma if there is one, white space, one of the continuations.
PREAMBLES = (
    (("okay",), ("let's", "lets", "here's", "heres", "this is")),
    (("alright", "sure"), ("let's", "lets", "here's", "heres")),
)
# At the text's front, with a space after each.
OPENINGS = ("the", "a", "in the", "once", "it was", "she", "he", "they")

# Anywhere, and not as words: what is left in a text by a model that emits its tokenizer's fillers.
FILLERS = ("<pad>", "<unused")
