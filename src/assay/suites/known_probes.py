"""Answers to assay's own content probes, from files that hold no more than the question: what is known of it is put in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from msgspec.structs import replace

from assay.suites.formats.base import Answered
from assay.suites.suite import load_suite
from assay.types import Json, Prompt, Sample

_DOMAIN = "content"


def informed(answered: Answered) -> Answered:
    """The answer, with what is known of its question."""
    sample = with_known_truth(answered.sample)
    return answered if sample is answered.sample else replace(answered, sample=sample)


def domain_of(reference: Mapping[str, Json]) -> str:
    """The domain, which data sets write as they like (ToxiGen, TOXIGEN); "" without one."""
    domain = reference.get("domain")
    return domain.strip().lower() if isinstance(domain, str) else ""


def with_known_truth(sample: Sample) -> Sample:
    """The sample; where its domain is `content` and it has no `ground_truth`, with the reference of the probe that it is.

    It is the one whose question stands in its prompt, whatever template is around it; where there is no prompt, the one of its
    id. An id alone tells nothing beside another question.
    """
    given = sample.reference
    if domain_of(given) != _DOMAIN or "ground_truth" in given:
        return sample
    asked = _squeezed(sample.prompt)
    probes = _probes()
    found = [probe for question, probe in probes.items() if (question in asked if asked else probe.id == sample.id)]
    if len(found) != 1:
        return sample
    return replace(sample, reference={**found[0].reference, **given})


@cache
def _probes() -> Mapping[str, Sample]:
    return {_squeezed(sample.prompt): sample for sample in load_suite(_DOMAIN).samples}


def _squeezed(prompt: Prompt) -> str:
    texts = [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
    return " ".join(" ".join(texts).split())
