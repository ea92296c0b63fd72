"""What a table calls a question that was given no id: by its beginning, for a digest says nothing to a reader."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from assay.suites.asked import journaled_samples
from assay.types import Prompt

if TYPE_CHECKING:
    from assay.results.lens import Lens

# As `own_data` makes them of a question and its target; the number is that of a question which stands there again.
_MADE = re.compile(r"[0-9a-f]{10}(-\d+)?")
# Characters of a question that tables show, and that are read for it, spaces and all.
_SHOWN = 40
_READ = 400


def is_made(name: str) -> bool:
    """Is the id a digest, which no user gave?"""
    return _MADE.fullmatch(name) is not None


def questions(lens: Lens, suite: str, samples: Collection[str]) -> dict[str, str]:
    """From each id that was made to the question's beginning, on one line and in quotes; no two of them alike.

    What the journal has no question for is left out.
    """
    wanted = dict.fromkeys(name for name in samples if is_made(name))
    if not wanted:
        return {}
    known = journaled_samples(lens, suite)
    prompts = {name: asked.sample.prompt for (_, name), asked in known.items()}
    # What is weighed as a whole has no prompt.
    targets = {name: str(asked.sample.reference.get("target", "")) for (_, name), asked in known.items()}
    found: dict[str, str] = {}
    for name in wanted:
        if name in prompts:
            shown = beginning(prompts[name]) or beginning(targets.get(name, ""))
            found[name] = f"{shown} {name}" if shown in found.values() else shown
    return found


def beginning(prompt: Prompt) -> str:
    """A question's beginning, on one line and in quotes; "" of one without text."""
    if not isinstance(prompt, str):
        said = [turn.content for turn in prompt if turn.role == "user"] or [turn.content for turn in prompt]
        prompt = said[-1]
    line = " ".join(prompt[:_READ].split())
    if not line:
        return ""
    return f"“{line}”" if len(line) <= _SHOWN else f"“{line[: _SHOWN - 1].rstrip()}…”"
