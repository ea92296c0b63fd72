"""`--suite`: a suite file, a built-in suite, or a fine-tuner's own data with a few flags and no YAML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.streams import say
from assay.errors import ConfigError
from assay.suites.lm_eval_tasks import is_task, suite_from_task
from assay.suites.own_data import is_training_data, suite_from_data
from assay.suites.suite import Suite, load_suite


@dataclass(frozen=True)
class _DataFlags:
    """How to read a --suite that is data for a trainer: JSON lines of messages, prompt and completion, or text."""

    scorer: str | None = None
    "The scorer [final_number for numbers, contains_word for short targets]."
    group_field: str | None = None
    "The field that tells a line's group."
    split: str | None = None
    "The text that ends the prompt in lines of `text`."
    target_after: str | None = None
    "The text that the target follows in a longer reference, such as ####."


DataFlags = Annotated[_DataFlags | None, Parameter(name="*")]


def load(source: str, flags: _DataFlags | None) -> Suite:
    """The suite that `--suite` names. Raises `SuiteError`, or `ConfigError` for a flag that doesn't apply."""
    flags = flags or _DataFlags()
    if is_task(source):
        _refuse(flags, source)
        return suite_from_task(source, say)
    if is_training_data(source):
        return suite_from_data(
            source,
            scorer=flags.scorer,
            group_field=flags.group_field,
            split=flags.split,
            target_after=flags.target_after,
        )
    _refuse(flags, source)
    return load_suite(source)


def _refuse(flags: _DataFlags, source: str) -> None:
    for name in ("scorer", "group_field", "split", "target_after"):
        if getattr(flags, name) is not None:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{flag} is for a --suite of your own data (.jsonl); {source} says these things itself")


def named(flags: Iterable[str]) -> list[str]:
    """The suites that all `--suite` flags name: several in one, with commas between; a file whose name holds a comma is one."""
    return [
        name.strip()
        for given in flags
        for name in ([given] if Path(given).exists() else given.split(","))
        if name.strip()
    ]
