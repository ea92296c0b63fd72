"""The keys that say "this is already paid for": digests of all that decides an answer, or a score."""

from __future__ import annotations

from collections.abc import Mapping

from assay.results.canonical import digest_of
from assay.types import FinishReason, GenerateOptions

# Part of every completion key. Raise it when prompts reach engines differently than before.
_KEY_VERSION = 1


def completion_key(identity: str, adapter: str | None, prompt: str, options: GenerateOptions, repeat: int) -> str:
    """What decides an answer: the model, the adapter's tensors and scale, the rendered prompt, the options, the repeat."""
    return digest_of("completion", _KEY_VERSION, identity, adapter or "", prompt, options.as_told(), repeat)


def weighed_text_key(identity: str, adapter: str | None, form: str, prompt: str, text: str) -> str:
    """What decides how likely a text is: the model, the adapter, the rendered prompt, and the text.

    form: "raw" where the prompt is sent untouched, whose last blanks belong to the text; else "".
    """
    return digest_of("weighed", _KEY_VERSION, identity, adapter or "", form, prompt, text)


def score_key(
    text: str,
    finish_reason: FinishReason,
    reference: Mapping[str, object],
    scorer: str,
    version: int,
    parameters: Mapping[str, object],
    judge: str = "",
    vote: int = 0,
) -> str:
    """What decides a score: the answer, what it is compared with, the scorer with its version and parameters, the judge."""
    return digest_of("score", text, finish_reason, dict(reference), scorer, version, dict(parameters), judge, vote)


def measure_of(scorer: str, version: int, parameters: Mapping[str, object], judge: str) -> str:
    """What judged scores must share to stand in one average: the rubric, how it is asked, and the judge's identity."""
    return digest_of("measure", scorer, version, dict(parameters), judge)


def seed_from(key: str) -> int:
    """A sampling seed (31 bits) that belongs to a completion key, so that a resumed run equals an undisturbed one."""
    return int(key[:8], 16) & 0x7FFFFFFF
