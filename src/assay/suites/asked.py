"""A suite's question as the journal keeps it, so that answers are scored anew without the suite's file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.results.records import SampleAsked
from assay.suites.suite import ScorerSpec, Suite
from assay.types import Message, Prompt, Raw, Sample, unwrapped

if TYPE_CHECKING:
    from assay.results.lens import Lens


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the suite's own scorer of it.

    version: how scores by it are told apart from those by what was asked, where the suite has been edited since; else "".
    """

    sample: Sample
    scorer: ScorerSpec
    version: str = ""

    def same(self, other: Asked) -> bool:
        """Do both ask the same, and expect the same? Only then may their scores be compared."""
        return self._content() == other._content()

    def same_question(self, other: Asked) -> bool:
        """The same, but for the scorer."""
        return self._question() == other._question()

    def _content(self) -> str:
        return json.dumps((self._question(), self.scorer.name, self.scorer.parameters), sort_keys=True, default=list)

    def _question(self) -> str:
        held = (*_written(unwrapped(self.sample.prompt)), self.sample.reference)
        return json.dumps(held, sort_keys=True, default=list)


def sample_record(suite: Suite, sample: Sample, index: int) -> SampleAsked:
    """The record of a sample that stands at `index` in its suite."""
    spec = suite.scorers[sample.id]
    form, prompt = _written(sample.prompt)
    return SampleAsked(
        suite=suite.name,
        suite_version=suite.version,
        suite_digest=suite.digest,
        sample=sample.id,
        group=sample.group,
        index=index,
        prompt=prompt,
        form=form,
        reference=dict(sample.reference),
        scorer=spec.name,
        parameters=dict(spec.parameters),
    )


def journaled_samples(lens: Lens, suite: str) -> dict[tuple[str, str], Asked]:
    """The journal's samples of all suites of this name, by the suite's digest and the sample's id."""
    rows = lens.query(
        'select suite_digest, sample, form, prompt, "group", reference, scorer, parameters from samples '
        f"where suite = '{suite.replace(chr(39), chr(39) * 2)}' order by \"index\", sample, suite_digest"
    ).rows
    return {
        (digest, name): Asked(
            Sample(name, _read(form, prompt), group, json.loads(reference)), ScorerSpec(scorer, json.loads(parameters))
        )
        for digest, name, form, prompt, group, reference, scorer, parameters in rows
    }


def _written(prompt: Prompt) -> tuple[str, str]:
    if isinstance(prompt, Raw):
        return "raw", str(prompt)
    if isinstance(prompt, str):
        return "text", prompt
    return "messages", json.dumps([{"role": m.role, "content": m.content} for m in prompt], ensure_ascii=False)


def _read(form: str, prompt: str) -> Prompt:
    match form:
        case "raw":
            return Raw(prompt)
        case "messages":
            return tuple(Message(turn["role"], turn["content"]) for turn in json.loads(prompt))
        case _:
            return prompt
