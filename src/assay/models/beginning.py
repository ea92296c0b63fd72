"""What begins a text: how lm-evaluation-harness's `hf` model treats contexts that are empty or begin by themselves.

Where its tokenizer puts a token before every text, the engine adds it, and no second one where the text has it.
"""

from __future__ import annotations

from assay.models.base import ModelInfo


def begun(info: ModelInfo, context: str, *, add: bool = False) -> str:
    """A context as the engine is given it. add: begin it where the tokenizer doesn't."""
    return info.begin + context if add and not info.begins and not context.startswith(info.begin) else context


def in_context(info: ModelInfo, context: str, text: str, *, add: bool = False) -> tuple[str, str]:
    """A context and the text after it. A text without context that begins by itself follows its own beginning."""
    if not context and info.begin and text.startswith(info.begin) and not info.begins:
        return info.begin, text.removeprefix(info.begin)
    return begun(info, context, add=add), text


def whole_text(info: ModelInfo, text: str, *, add: bool = False) -> str:
    """A whole text, as what follows the token that stands for no context.

    It is tokenised as any other text is, so where that adds a token that begins it, `hf` weighs that one as well, and before
    it the one that stands for no context. The engine takes a first one for the latter.
    """
    if (add or info.begins) and not text.startswith(info.begin):
        text = info.begin + text
    return info.begin + text if info.begins else text
