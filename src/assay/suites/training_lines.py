"""What a line of training data asks, and its whole target, in the shapes that trainers take.

Keys are tried in this order, the first three in mlx-lm's:

- `prompt` and `completion`, texts or lists of messages. A text is one user message, as it is to mlx-lm and TRL where the
  model has a chat template. With a `label` that is false (KTO) the completion is unwanted, and the line is passed over;
- `messages`: all turns but the last one, which must be the assistant's and is the target;
- `text`: raw. Where the question ends, only a marker can tell (`split`): what stands up to its last occurrence is sent
  untouched, the rest is the target. Markers of an end (`<|im_end|>`, `</s>`) are cut from the target;
- `conversations` (ShareGPT): messages under other names, with a `system` beside them;
- `instruction`, `input` and `output` (Alpaca): one user message, the input on the line after the instruction, with
  LLaMA-Factory's `system` and `history`. No template is put around it;
- `chosen` and `rejected` (DPO): the chosen answer is the target, the rejected one isn't looked at. The question is the
  `prompt`, or what stands in `chosen` before its last message.

What came as messages stays messages, be it one: a model without a chat template can't be asked them, and says so.

Turns that no text can stand for, calls of tools and images, are not asked: the model would be asked something else than
in training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from assay.plugins import nearest
from assay.suites.formats.base import Unfit, as_messages, kind
from assay.types import Prompt, Raw

_END = re.compile(r"(?:\s*(?:<\|[^<>|]{1,40}\|>|</s>|<eos>|<end_of_turn>))+\s*\Z")
_SPEAKERS = {
    **{"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"},
    **{"bard": "assistant", "model": "assistant", "assistant": "assistant", "system": "system"},
    **{"tool": "tool", "observation": "tool"},
}


class Fields(NamedTuple):
    """The keys of prompt and target, and the marker after which the answer begins in a `text`."""

    prompt: str = "prompt"
    target: str = "completion"
    split: str | None = None


def question(record: dict[str, Any], fields: Fields) -> tuple[Prompt, str] | None:
    """What is asked, and the whole target; None for a line that is to be passed over. Raises `Unfit`."""
    for name in ("images", "videos", "audios"):
        if record.get(name):
            raise Unfit(f"the line has {name}, which can't be asked; leave such lines out")
    if fields.prompt in record and fields.target in record:
        if record.get("label") is False:
            return None
        return _asked(record[fields.prompt]), _completion(record[fields.target], fields.target)
    if (fields.prompt, fields.target) != ("prompt", "completion"):
        missing = fields.target if fields.prompt in record else fields.prompt
        raise Unfit(f"no {missing!r}; {nearest(missing, record)}")
    if "messages" in record:
        return _conversation(record["messages"], "messages")
    if "text" in record:
        return _split(record["text"], fields.split)
    if "conversations" in record:
        return _conversation(_renamed(record["conversations"], record.get("system")), "conversations")
    if "instruction" in record and "output" in record:
        return _asked(_instructed(record)), _completion(record["output"], "output")
    if "chosen" in record and "rejected" in record:
        if record.get("prompt") is None:
            return _conversation(record["chosen"], "chosen")
        return _asked(record["prompt"]), _chosen(record["chosen"])
    held = ", ".join(record) or "no keys"
    raise Unfit(
        "none of messages, prompt and completion, text, conversations, instruction and output, chosen and rejected; "
        f"the line has: {held}"
    )


def document(record: dict[str, Any], fields: Fields) -> tuple[Prompt, str] | None:
    """What a loss is taken of, and what stands before it; None for a line that is to be passed over. Raises `Unfit`.

    A whole `text` after nothing, unless a marker splits it; of all else the question's target, as it stands.
    """
    named = any(name in record for name in (fields.prompt, "messages"))
    if "text" not in record or named or fields.split is not None:
        return question(record, fields)
    if not isinstance(record["text"], str):
        raise Unfit(f"text must be text, not {kind(record['text'])}")
    return Raw(""), record["text"]


def _asked(value: object) -> Prompt:
    """The prompt, if a model can be asked it as text."""
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict) and (item.get("tool_calls") or item.get("function_call")):
            raise Unfit("a turn calls tools, which can't be asked again; leave such lines out")
        for part in item.get("content") or () if isinstance(item, dict) else ():
            if isinstance(part, dict) and part.get("type", "text") not in ("text", "reasoning"):
                raise Unfit(
                    f"a message holds more than text ({part['type']}), which can't be asked; leave such lines out"
                )
    return value if isinstance(value, str) else as_messages(value)


def _conversation(value: object, name: str) -> tuple[Prompt, str]:
    if not isinstance(value, list) or len(value) < 2:
        raise Unfit(f"{name} must be a list with a question and the assistant's answer")
    *before, last = value
    return _asked(before), _completion([last], name)


def _completion(value: object, name: str) -> str:
    """The target's text. In a list of messages it is the one turn of the assistant."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, list) or len(value) != 1:
        raise Unfit(f"{name} must be text, or a list of one message, not {kind(value)}")
    (last,) = as_messages(value)
    if last.role != "assistant":
        raise Unfit(f"the last message must be the assistant's, which answers are compared with, not the {last.role}'s")
    if not last.content.strip():
        calls = isinstance(value[0], dict) and value[0].get("tool_calls")
        raise Unfit("the assistant's last message is empty" + (" but for tool calls" if calls else ""))
    return last.content


def _chosen(value: object) -> str:
    """The answer that was chosen; of a conversation that repeats the prompt, its end."""
    return _completion(value[-1:] if isinstance(value, list) else value, "chosen")


def _split(value: object, marker: str | None) -> tuple[Prompt, str]:
    if not isinstance(value, str):
        raise Unfit(f"text must be text, not {kind(value)}")
    if marker is None:
        raise Unfit(
            "a text line doesn't tell the question from the answer; name the marker after which the answer begins "
            "(split), such as '### Response:' or '<|im_start|>assistant'"
        )
    before, found, after = value.rpartition(marker)
    if not found:
        raise Unfit(f"the marker {marker!r} is not in this text")
    answer = after.lstrip("\r\n")
    return Raw(before + found + after[: len(after) - len(answer)]), _END.sub("", answer)


def _renamed(turns: object, system: object) -> list[dict[str, Any]]:
    """ShareGPT's turns as messages."""
    if not isinstance(turns, list):
        raise Unfit(f"conversations must be a list of turns, not {kind(turns)}")
    messages = [_turn(turn) for turn in turns]
    return [{"role": "system", "content": system}, *messages] if isinstance(system, str) and system else messages


def _turn(turn: object) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise Unfit(f"a turn must be {{from: …, value: …}}, not {kind(turn)}")
    if "role" in turn:
        return turn
    speaker = turn.get("from")
    if speaker == "function_call":
        raise Unfit("a turn calls tools, which can't be asked again; leave such lines out")
    if not isinstance(speaker, str) or speaker not in _SPEAKERS:
        raise Unfit(f"unknown speaker {speaker!r} of a turn; known: {', '.join(_SPEAKERS)}")
    return {"role": _SPEAKERS[speaker], "content": turn.get("value")}


def _instructed(record: dict[str, Any]) -> str | list[dict[str, Any]]:
    """Alpaca's question: a text, or messages where there is more than the one."""
    asked = [record.get(name) for name in ("instruction", "input")]
    for name, value in zip(("instruction", "input"), asked, strict=True):
        if value is not None and not isinstance(value, str):
            raise Unfit(f"{name} must be text, not {kind(value)}")
    text = "\n".join(part for part in asked if part)
    before = _history(record.get("history") or [])
    system = record.get("system")
    if isinstance(system, str) and system:
        before = [{"role": "system", "content": system}, *before]
    return [*before, {"role": "user", "content": text}] if before and text else text


def _history(turns: object) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for turn in turns if isinstance(turns, Sequence) else [turns]:
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise Unfit("history must be a list of [question, answer]")
        messages += ({"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]})
    return messages
