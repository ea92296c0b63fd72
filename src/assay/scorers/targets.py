"""What an answer is compared with: one text, or several of which each is right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from assay.types import Sample, Score, ScoreFailure


def targets(sample: Sample, keys: Sequence[str] = ("target",)) -> list[str]:
    """The first of the reference's `keys` that is there, as texts. Raises ValueError if there is none, or no text."""
    for key in keys:
        value = sample.reference.get(key)
        if value is None:
            continue
        several = value if isinstance(value, list | tuple) else [value]
        texts = [str(one) if isinstance(one, int | float) and not isinstance(one, bool) else one for one in several]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"its {key} must be text or a number, or a list of them, not {value!r}")
        if not all(str(text).strip() for text in texts):
            raise ValueError(f"its {key} is empty")
        return [str(text) for text in texts]
    raise ValueError(f"it has no {' and no '.join(keys)}, which its scorer compares answers with")


# How GSM8K marks an answer. `\s` and `\d` are ASCII's here.
MARKED = re.compile(r"####\s*([\d,.\-]+)", re.ASCII)


def unworked(text: str) -> str:
    """Of a worked solution, as GSM8K has them, what stands behind its last `####`; any other text as it is."""
    found: list[str] = MARKED.findall(text)
    return found[-1].rstrip(".,") if found else text


def best(outcomes: Iterable[Score | ScoreFailure]) -> Score | ScoreFailure:
    """What several targets come to: right by one of them, else undecided by one of them, else wrong as by the first."""
    found = list(outcomes)
    right = (outcome for outcome in found if isinstance(outcome, Score) and outcome.value is True)
    undecided = (outcome for outcome in found if isinstance(outcome, ScoreFailure))
    return next(right, None) or next(undecided, None) or found[0]
