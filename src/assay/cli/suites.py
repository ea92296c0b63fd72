"""`--suite`: a suite file, a built-in suite, or a fine-tuner's own data with a few flags and no YAML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.errors import ConfigError
from assay.suites.formats.packed import unpacked_name
from assay.suites.formats.records import begins_as_list
from assay.suites.own_data import suite_from_data
from assay.suites.suite import Suite, builtin_suites, load_suite

_DATA = {".jsonl", ".ndjson"}


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


def is_data(source: str) -> bool:
    """Does `--suite` name data for a trainer? A built-in suite's name does not, whatever folder is called like it."""
    path = Path(source)
    ending = Path(unpacked_name(path)).suffix.lower()
    if ending == ".json" and path.is_file():
        return begins_as_list(path)
    return ending in _DATA or (path.is_dir() and source not in builtin_suites())


def load(source: str, flags: _DataFlags | None) -> Suite:
    """The suite that `--suite` names. Raises `SuiteError`, or `ConfigError` for a flag that doesn't apply."""
    flags = flags or _DataFlags()
    if is_data(source):
        return suite_from_data(
            source,
            scorer=flags.scorer,
            group_field=flags.group_field,
            split=flags.split,
            target_after=flags.target_after,
        )
    for name in ("scorer", "group_field", "split", "target_after"):
        if getattr(flags, name) is not None:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{flag} is for a --suite of your own data (.jsonl); {source} says these things itself")
    return load_suite(source)
