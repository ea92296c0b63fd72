"""`--concurrency` and `--timeout`: how to talk to models behind URLs, as several verbs take them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter
from msgspec.structs import replace

from assay.config import Config
from assay.errors import ConfigError
from assay.models.http_address import SCHEMES
from assay.types import HttpSettings


@dataclass(frozen=True)
class _HttpFlags:
    """How to talk to models behind URLs. They go before what assay.toml says."""

    concurrency: int | None = None
    "Requests under way at once, at most, to a model behind a URL [32]."
    timeout: float | None = None
    "Seconds that such a request may take; a question with all its repetitions 1.5 times that [300]."


HttpFlags = Annotated[_HttpFlags | None, Parameter(name="*")]


def with_flags(found: Config, flags: _HttpFlags | None, *models: str | None) -> Config:
    """The settings with the flags in their place, for all models behind URLs.

    models: names or specs of those that will be asked, None where there is none. Raises `ConfigError` for a value that makes
    no sense, and for flags where no model is behind a URL.
    """
    if flags is None:
        return found
    if flags.concurrency is not None and flags.concurrency < 1:
        raise ConfigError(f"--concurrency {flags.concurrency}: give a whole number of at least 1")
    if flags.timeout is not None and not 0 < flags.timeout < math.inf:
        raise ConfigError(f"--timeout {flags.timeout:g}: give a number of seconds above 0")
    if not any(found.model(name).spec.lower().startswith(SCHEMES) for name in models if name is not None):
        flag = "--timeout" if flags.concurrency is None else "--concurrency"
        raise ConfigError(f"{flag} is for a model behind a URL, and none is asked here; leave it out")
    named = {name: replace(each, http=_changed(each.http, flags)) for name, each in found.models.items()}
    return replace(found, http=_changed(found.http, flags), models=named)


def _changed(http: HttpSettings, flags: _HttpFlags) -> HttpSettings:
    if flags.timeout is not None:
        http = http.with_call(flags.timeout)
    return http if flags.concurrency is None else replace(http, concurrency=flags.concurrency)
