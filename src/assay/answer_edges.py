"""What stands around an answer and is no part of it: a chat template's tokens, and a wrapper.

A model that was trained on another template than the one it is asked by ends its answer with a token that its engine knows
nothing of, and often goes on as the user. So the first token that ends a turn ends the answer. Like a marker of reasoning
(`reasoning`), a token counts by where it stands: in quotes, in code and within a sentence it is spoken about.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TURN = (
    r"<\|(?:im_end|im_start|eot_id|eot|eom_id|endoftext|end_of_text|end|end_of_turn|return|eos|user|"
    r"END_OF_TURN_TOKEN|endofresponse|start_header_id|begin_of_text)\|>"
    r"|<[｜|](?:end[▁_]of[▁_]sentence|User)[｜|]>|<end_of_turn>|<start_of_turn>|<turn\|>|<\|turn>|<eos>"
    r"|\[\|endofturn\|\]|</s>|\[/?INST\]"
)
_TOKEN = re.compile(_TURN)
_FIRST = re.compile(r"[<\[][|｜/best]|\[INST\]")
# What a template sets before an answer.
_BEFORE = re.compile(
    r"(?:\s|<s>(?![^<]*</s>\s*[^\s<])|<bos>|<\|(?:begin_of_text|assistant|START_OF_TURN_TOKEN|CHATBOT_TOKEN)\|>|<[｜|]Assistant[｜|]>"
    r"|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>"
    r"|<\|im_start\|>\s*assistant(?=\s)|<start_of_turn>model\b|<\|turn>model\b|\[\|assistant\|\]|" + _TURN + r")+"
)
_IN_SENTENCE = re.compile(r"[.,;:!?)]|[ \t]+(?![<\[][|｜/\w])\S")
_QUOTES = "`'\"“”‘’«»"
_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
_ROLE = re.compile(
    r"(?:#+\s*)?(?:(?:assistant|ai|chatbot|bot|model)(?:\s+(?:answer|response|reply))?|response)\s*:(?!\w)\s*(?=\S)",
    re.IGNORECASE,
)
_WRAPPER = re.compile(
    r"<(?P<tag>answer|final_answer|final|solution|response|output)>(?P<in_tag>.*)</(?P=tag)>"
    r"|<\|START_RESPONSE\|>(?P<cohere>.*)<\|END_RESPONSE\|>"
    r"|<\|begin_of_(?P<kind>solution|box)\|>(?P<in_token>.*)<\|end_of_(?P=kind)\|>",
    re.DOTALL | re.IGNORECASE,
)
_OPENING = re.compile(r"<\|START_RESPONSE\|>(?!.*<\|END_RESPONSE\|>)", re.DOTALL)  # never closed: cut off, or left out


class Answer(NamedTuple):
    """An answer by itself. ended: a token ends it, so that it is whole although the model went on."""

    text: str
    ended: bool


def answer_alone(text: str) -> Answer:
    """The answer without the template's tokens before it, without all from the token that ends it, and unwrapped."""
    said, ended = _before_end(text) if _FIRST.search(text) else (text, False)
    role = _ROLE.match(said.lstrip())
    if role is not None:
        said = said.lstrip()[role.end() :]
    return Answer(_unwrapped(said), ended)


def _before_end(text: str) -> Answer:
    front = _BEFORE.match(text)
    start = front.end() if front is not None and front[0].strip() else 0
    for token in _TOKEN.finditer(text, start):
        if not _is_spoken_of(text, start, token):
            said = text[start : token.start()].rstrip()
            return Answer(said, True)
    return Answer(text[start:], False)


def _is_spoken_of(text: str, start: int, token: re.Match[str]) -> bool:
    before, rest = text[token.start() - 1 : token.start()], text[token.end() :]
    if before and before in _QUOTES and rest[:1] and rest[0] in _QUOTES:
        return True
    if before and before in " \t" and _IN_SENTENCE.match(rest):
        return True
    if token[0] == "</s>" and "<s>" in text[start : token.start()]:  # what is struck out
        return True
    if token[0] == "[/INST]" and rest.strip() and not _TOKEN.match(rest.lstrip()):  # it ends a repeated question
        return True
    fences = len(_FENCE.findall(text, start, token.start()))
    return fences % 2 == 1 and _FENCE.search(text, token.end()) is not None


def _unwrapped(text: str) -> str:
    """What a wrapper holds that holds all there is."""
    while True:
        found = _WRAPPER.fullmatch(text.strip())
        if found is None:
            opening = _OPENING.match(text.lstrip())
            return text.lstrip()[opening.end() :] if opening is not None else text
        inner = next(part for part in found.group("in_tag", "cohere", "in_token") if part is not None)
        name = found["tag"] or found["kind"] or "RESPONSE"
        if re.search(rf"<(?:/|\|\w+_)?{name}(?:\|)?>", inner, re.IGNORECASE):  # two answers, and not one
            return text
        text = inner.strip()
